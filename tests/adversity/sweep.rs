//! One small program, again and again: each time another of its system calls fails.
//!
//! Only those of its first thread are made to fail, of which there is always the same number, nearly. `strace -f`
//! would let others fail too; but it counts the calls of each thread from 1, so that what fails in a helper has
//! failed in the first thread, or in its dynamic linker, long before. Left out are calls whose failure ends any
//! program, or which do not fail.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use portlease::{Holder, Lease, Registry};

use crate::kinds::{Amiss, may_be};
use crate::support::dice::Dice;
use crate::support::{
    Allotment, DEADLINE, OwnRegistry, TestChild, bounded, child_path, eventually, has_strace, lives,
};
use crate::talk::{End, Problem, Served, parse_ports, parse_served};
use crate::tally::Tally;
use crate::witness;
use crate::{seconds, seed};

/// The memory, the locks and the signals of a thread; what does not fail, and is not done if it is made
/// to (an end, a close); chance, in the place of which std opens a file for good; and a sleep, of which it says
/// that nothing but a signal ends it early.
const LEFT_OUT: [&str; 22] = [
    "brk",
    "clock_nanosleep",
    "close",
    "exit",
    "exit_group",
    "futex",
    "getpid",
    "getrandom",
    "gettid",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "restart_syscall",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "sched_getaffinity",
    "sched_yield",
    "set_robust_list",
    "sigaltstack",
];

/// How a call may fail: one of the ways by default, all of them in a long run.
fn ways(call: &str) -> &'static [&'static str] {
    match call {
        "openat" => &["EMFILE", "ENOENT", "EACCES", "ENOSPC", "EINTR"],
        "socket" => &["EMFILE", "EAFNOSUPPORT", "ENOBUFS"],
        "bind" => &["EADDRINUSE", "EACCES", "ENOMEM"],
        "flock" => &["ENOLCK", "EAGAIN", "EINTR"],
        "mkdir" | "mkdirat" => &["ENOSPC", "EACCES"],
        "read" | "pread64" | "getdents64" | "recvfrom" | "recvmsg" => &["EIO", "EINTR"],
        "write" | "pwrite64" | "sendto" | "sendmsg" => &["ENOSPC", "EINTR"],
        "clone" | "clone3" | "fork" | "vfork" => &["EAGAIN", "ENOMEM"],
        "poll" | "ppoll" => &["ENOMEM", "EINTR"],
        "wait4" | "waitid" => &["ECHILD"],
        "pipe2" | "socketpair" | "fcntl" | "dup" | "pidfd_open" => &["EMFILE", "EPERM"],
        "kill" | "pidfd_send_signal" => &["EPERM", "ESRCH"],
        "stat" | "statx" | "fstat" | "newfstatat" | "readlink" => &["EACCES", "ENOENT", "EIO"],
        "unlink" | "unlinkat" | "rmdir" => &["EBUSY", "EIO"],
        _ => &["EPERM", "ENOSYS"], // as by a sandbox
    }
}

/// A call that was to fail, and did.
const HIT: &str = "system calls that failed";

/// One that was not made, not in three tries.
const MISSED: &str = "were not made";

/// A system call: the so-and-so-manieth of its name in the whole program, from 1 on.
type Point = (String, usize);

/// Where the program runs, each time in a registry of its own.
struct Stage {
    own: OwnRegistry,
    ports: Allotment,
    what: &'static str,
}

/// Makes `at_most` of the calls fail, evenly spread, from one of the first on: each time others.
pub(crate) fn sweep(what: &'static str, at_most: usize) {
    if !has_strace() {
        return;
    }
    let stage = Stage { own: OwnRegistry::new(), ports: Allotment::new(), what };
    // How often a server is looked at depends on time: these calls are made for sure.
    let rehearsals = (0..3).map(|number| stage.points(&format!("rehearsal-{number}")));
    let all = rehearsals.min_by_key(Vec::len).unwrap();
    let step = all.len().div_ceil(at_most);
    let mut dice = Dice::new(seed());
    let first = dice.below(step as u64) as usize;
    let tally = Tally::default();
    for (number, (call, nth)) in all.iter().enumerate().skip(first).step_by(step) {
        let ways = match (what, call.as_str()) {
            // std waits for ever if it cannot hear whether what it has forked was executed.
            ("restart", "recvfrom") => &["EINTR"],
            _ => ways(call),
        };
        let one = [*dice.one_of(ways)];
        for way in if seconds().is_some() { ways } else { &one } {
            let failing = format!("{call}:error={way}:when={nth}");
            // How often a server is looked at depends on time: what was not made may be made the next time.
            let mut tries = 0..3;
            let hit =
                tries.any(|nth| stage.run(&format!("{number}-{way}-{nth}"), &failing, &tally));
            tally.count(if hit { HIT } else { MISSED });
        }
    }
    let number = (all.len() - first).div_ceil(step);
    println!("{what}: {number} of its {} system calls were made to fail\n\n{tally}", all.len());
    tally.write_down(what);
    // Mostly, all are.
    let (hit, missed) = (tally.of(HIT), tally.of(MISSED));
    assert!(hit >= 3 * missed, "another program: {hit} calls failed, {missed} were not made");
}

impl Stage {
    /// Those between the marks, in their order.
    fn points(&self, name: &str) -> Vec<Point> {
        let log = self.own.dir.path().join("log");
        let mut strace = Command::new("strace");
        strace.arg("-qq").arg("-o").arg(&log);
        let mut child = self.start(strace, name);
        let registry = self.registry(name);
        let (rest, status) =
            bounded(move || (hear(&mut child, &registry, Told::default()), child.wait().unwrap()));
        assert!(rest == ["done"] && status.success(), "{rest:?}, {status}");
        let mut counts: HashMap<String, usize> = HashMap::new();
        let mut points = Vec::new();
        let mut is_between = false;
        for line in fs::read_to_string(log).unwrap().lines() {
            let Some((call, arguments)) = line.split_once('(') else { continue };
            if !call.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                continue; // a signal
            }
            let count = counts.entry(call.to_owned()).or_insert(0);
            *count += 1;
            if arguments.contains("/portlease-") {
                is_between = arguments.contains("/portlease-begin");
            } else if is_between && !LEFT_OUT.contains(&call) {
                points.push((call.to_owned(), *count));
            }
        }
        assert!(points.len() > 20, "no marks: {points:?}");
        points
    }

    /// Runs it with one failure, of which nothing may be left but an error that is documented. Whether the call
    /// was made.
    fn run(&self, name: &str, failing: &str, tally: &Tally) -> bool {
        let log = self.own.dir.path().join("log");
        let call = failing.split(':').next().unwrap();
        let mut strace = Command::new("strace");
        strace.arg("-qq").arg("-o").arg(&log).arg("-e").arg(format!("trace={call}"));
        strace.arg("-e").arg(format!("inject={failing}"));
        let mut child = self.start(strace, name);
        let registry = self.registry(name);
        let told = Told::by(failing);
        let (lines, status) =
            bounded(move || (hear(&mut child, &registry, told), child.wait().unwrap()));
        let errors = fs::read_to_string(self.errors()).unwrap();
        let failed = |why: &str| -> ! { panic!("{failing}: {why}: {lines:?}, {status}\n{errors}") };
        if !status.success() || lines.last().is_none_or(|line| line != "done") {
            failed("it did not come to its end");
        }
        match lines[..lines.len() - 1] {
            [] => tally.count("all done"),
            [ref line] => {
                let words: Vec<_> = line.splitn(4, ' ').collect();
                let ["error", operation, kind, _] = words[..] else { failed("not an error") };
                if !may_be(operation, kind, Amiss::Anything) {
                    failed("not documented");
                }
                tally.count(format!("{operation}: failed, {kind}"));
            }
            _ => failed("something is not as it should be"),
        }
        let was_hit = fs::read_to_string(&log).unwrap().contains("(INJECTED)");
        self.nothing_is_left(name, failing);
        was_hit
    }

    fn nothing_is_left(&self, name: &str, failing: &str) {
        eventually(&format!("{failing}: nobody is left"), || others().is_empty());
        let left: Vec<_> = fs::read_dir(self.temporary(name)).unwrap().flatten().collect();
        assert!(left.is_empty(), "{failing}: of the server's directory, this is left: {left:?}");
        let registry = Registry::open(self.registry(name)).unwrap();
        let ports = self.ports.first..=self.ports.last;
        let request = Lease::builder().registry(&registry).range(ports.clone());
        let leases = request.wait(DEADLINE).lease_many(ports.len());
        drop(leases.unwrap_or_else(|error| panic!("{failing}: a port is left: {error:?}")));
        fs::remove_dir_all(self.registry(name)).unwrap();
    }

    fn start(&self, mut tracer: Command, name: &str) -> TestChild {
        fs::create_dir(self.temporary(name)).unwrap();
        tracer.arg(child_path()).args(["rehearse", self.what]).arg(self.registry(name));
        tracer.args([self.ports.first.to_string(), self.ports.last.to_string()]);
        tracer.env("TMPDIR", self.temporary(name)).stderr(File::create(self.errors()).unwrap());
        TestChild::spawn(tracer)
    }

    fn registry(&self, name: &str) -> PathBuf {
        self.own.dir.path().join(format!("{name}.registry"))
    }

    fn temporary(&self, name: &str) -> PathBuf {
        self.own.dir.path().join(format!("{name}.tmp"))
    }

    fn errors(&self) -> PathBuf {
        self.own.dir.path().join("errors")
    }
}

/// What a program was told that there is not, and has to do without.
#[derive(Clone, Copy, Default)]
struct Told {
    no_ipv6: bool,
    no_namespaces: bool,
}

impl Told {
    fn by(failing: &str) -> Told {
        let by = |told: &str| failing.starts_with(told);
        Told {
            no_ipv6: by("socket:error=EAFNOSUPPORT"),
            no_namespaces: by("readlink:error=ENOENT") || by("readlink:error=EACCES"),
        }
    }
}

/// Looks at what the program says to hold, and lets it go on. What else it says, and what is not so.
fn hear(program: &mut TestChild, registry: &Path, told: Told) -> Vec<String> {
    let mut rest = Vec::new();
    while let Some(line) = program.line() {
        let looked = match line.split_once(' ') {
            Some(("holds", ports)) => look_at_leases(&parse_ports(ports), registry, told),
            Some(("serves", servers)) => look_at_servers(&parse_served(servers), registry, told),
            _ => {
                rest.push(line);
                continue;
            }
        };
        rest.extend(looked.err());
        // If it hears nothing any more, its end says more than this would.
        let _ = program.stdin.as_mut().map(|stdin| stdin.write_all(b"go\n"));
    }
    rest
}

fn look_at_leases(ports: &[u16], registry: &Path, told: Told) -> Result<(), Problem> {
    for &port in ports {
        witness::is_locked(registry, port)?;
        witness::is_refused(port, !told.no_ipv6)?;
    }
    // Who sees no namespaces has one directory of slots for all.
    if !told.no_namespaces {
        let leased = Registry::open(registry).and_then(|registry| registry.list()).unwrap();
        let leased: Vec<_> = leased.iter().map(Holder::port).collect();
        if let Some(port) = ports.iter().find(|port| !leased.contains(port)) {
            return Err(format!("{port} is not leased"));
        }
    }
    Ok(())
}

fn look_at_servers(servers: &[Served], registry: &Path, told: Told) -> Result<(), Problem> {
    let leased = servers.iter().filter(|server| server.is_leased);
    let ports: Vec<_> = leased.map(|server| server.port).collect();
    look_at_leases(&ports, registry, told)?;
    servers.iter().try_for_each(|server| server.answers(End::Reset))
}

/// Who lives in this pid namespace, but its first process and this one.
pub(crate) fn others() -> Vec<u32> {
    let pids = fs::read_dir(Path::new("/proc")).unwrap();
    let pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| pid != 1 && pid != process::id() && lives(pid)).collect()
}
