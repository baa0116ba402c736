//! What the tests share: the child program, registries of their own, and namespaces; beside these,
//! tests that are alone (`alone`), chance (`dice`), servers as people run them (`real`), texts that are kept
//! (`snapshot`), and servers in their two forms (`twin`).
#![allow(dead_code)] // each test binary uses its part

pub(crate) mod alone;
pub(crate) mod dice;
#[cfg(unix)]
pub(crate) mod real;
#[cfg(unix)]
pub(crate) mod snapshot;
pub(crate) mod twin;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::ops::{Deref, DerefMut};
#[cfg(unix)]
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{self, Child, ChildStdout, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use portlease::{Lease, LeaseBuilder, Registry};
use socket2::SockRef;
use tempfile::TempDir;

/// For what has to happen: fails the test instead of hanging it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// `tries` something while so many threads do something else `again` and again: until it is over, by a panic too.
pub(crate) fn meanwhile<T>(
    threads: usize,
    again: impl Fn() + Sync,
    tries: impl FnOnce() -> T,
) -> T {
    struct OnDrop<'a>(&'a AtomicBool);
    impl Drop for OnDrop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _over = OnDrop(&is_over);
        for _ in 0..threads {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    again();
                }
            });
        }
        tries()
    })
}

/// The program of `child.rs`, which cargo builds beside the tests.
pub(crate) fn child_path() -> PathBuf {
    let tests = env::current_exe().unwrap();
    let path = tests.ancestors().nth(2).unwrap().join("examples").join("test-child");
    let path = path.with_extension(env::consts::EXE_EXTENSION);
    assert!(path.exists(), "{} is missing: `cargo build --examples` makes it", path.display());
    path
}

pub(crate) fn child_command(arguments: &[&str]) -> Command {
    let mut command = Command::new(child_path());
    command.args(arguments);
    command
}

/// The program that asks for its listeners itself, whose further ports have these names.
pub(crate) fn own_half_command(names: &[&str]) -> Command {
    child_command(&[&["own-half"], names].concat())
}

/// As nobody started it who has anything to do with ports.
pub(crate) fn by_itself(mut command: Command) -> Command {
    let of_sockets = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];
    for name in of_sockets.into_iter().chain(["PORT", "GRPC_PORT", "PORTLEASE_COOKIE"]) {
        command.env_remove(name);
    }
    command
}

/// Such a program ends, and says this, and nothing else.
pub(crate) fn fails(command: &mut Command, expected: &str) {
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert_eq!(String::from_utf8(said).unwrap(), format!("{expected}\n"), "{command:?}");
    assert_eq!(output.status.code(), Some(1));
}

/// A script in which `"$0"` is the child program.
pub(crate) fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).arg(child_path());
    command
}

/// A connection on which no answer is waited for in vain.
pub(crate) fn connect(at: impl ToSocketAddrs) -> TcpStream {
    let stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Ends a connection so that `first` is in TIME_WAIT: it says so first. To close it would say nothing
/// while a child of another test, which has not execed yet, has a copy.
pub(crate) fn end(first: TcpStream, mut second: TcpStream) {
    first.shutdown(Shutdown::Write).unwrap();
    assert_eq!(second.read(&mut [0]).unwrap(), 0);
    second.shutdown(Shutdown::Write).unwrap();
}

/// The body of the answer, which has to be a good one.
pub(crate) fn get(at: impl ToSocketAddrs, path: &str) -> String {
    let mut stream = connect(at);
    // In one write: who has not read all of it when he closes resets the connection.
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    // Reset, or the server's end is in TIME_WAIT for a minute, and no other test can have its port: there
    // are not that many.
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.strip_prefix("HTTP/1.").and_then(|head| head.split(' ').nth(1));
    assert_eq!(status, Some("200"), "{answer:?}");
    body.to_owned()
}

/// Who answers on the server's port: its pid.
pub(crate) fn who_answers(at: impl ToSocketAddrs) -> u32 {
    get(at, "/").parse().unwrap()
}

/// Whether a text names this process as who listens on `addr`; a child of another test, which has copies
/// of all sockets until its exec, may be named beside it.
pub(crate) fn says_that_we_listen(text: &str, addr: &str) -> bool {
    let (who, one, many) = (
        format!(" {} (", process::id()),
        format!(" listens on {addr}"),
        format!(" listen on {addr}"),
    );
    let says = |line: &str| line.ends_with(&one) || line.ends_with(&many);
    text.lines().any(|line| line.contains(&who) && says(line))
}

/// A child of the test, whose lines are read, and which is gone when this is dropped.
pub(crate) struct TestChild {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl TestChild {
    pub(crate) fn spawn(mut command: Command) -> TestChild {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        TestChild { child, lines }
    }

    /// The next line, or `None` if it ended instead.
    pub(crate) fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line).unwrap();
        (read > 0).then(|| line.trim_end().to_owned())
    }

    /// The rest of the next line that has `start` in it.
    pub(crate) fn line_after(&mut self, start: &str) -> String {
        loop {
            let line = self.line().unwrap_or_else(|| panic!("it ended without {start:?}"));
            if let Some((_, rest)) = line.split_once(start) {
                return rest.to_owned();
            }
        }
    }

    pub(crate) fn write(&mut self, text: &str) {
        self.child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Ends its standard input, which all roles that wait for something wait for.
    pub(crate) fn go(&mut self) {
        drop(self.child.stdin.take());
    }

    pub(crate) fn finish(mut self) {
        self.go();
        assert!(self.child.wait().unwrap().success());
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Deref for TestChild {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.child
    }
}

impl DerefMut for TestChild {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.child
    }
}

impl Drop for TestChild {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that is ended when this is dropped.
pub(crate) struct Gone(pub(crate) Child);

impl Drop for Gone {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A registry that no other test sees.
pub(crate) struct OwnRegistry {
    pub(crate) dir: TempDir,
    pub(crate) registry: Registry,
    ports: OnceLock<Allotment>,
}

impl OwnRegistry {
    pub(crate) fn new() -> OwnRegistry {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(dir.path().join("registry")).unwrap();
        OwnRegistry { dir, registry, ports: OnceLock::new() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("registry")
    }

    pub(crate) fn arg(&self) -> String {
        self.path().to_str().unwrap().to_owned()
    }

    /// For ports that no other test leases from another registry: one that is released here is
    /// still free when it is asked for again.
    pub(crate) fn request(&self) -> LeaseBuilder {
        let ports = self.ports.get_or_init(Allotment::new);
        Lease::builder().registry(&self.registry).range(ports.first..=ports.last)
    }

    /// A port of it that nobody has had: of a lease that was dropped, a child of another test may have a
    /// copy until its exec.
    pub(crate) fn port(&self) -> u16 {
        self.ports.get_or_init(Allotment::new).first
    }

    /// Makes this the default registry of a child.
    pub(crate) fn lend_to(&self, command: &mut Command) {
        let ports = self.ports.get_or_init(Allotment::new);
        command.env("PORTLEASE_DIR", self.path());
        command.env("PORTLEASE_RANGE", format!("{}-{}", ports.first, ports.last));
    }

    /// The directory of the slots of this network namespace.
    pub(crate) fn slots(&self) -> PathBuf {
        let entry = fs::read_dir(self.path()).unwrap().next();
        entry.expect("no lease was taken yet").unwrap().path()
    }
}

/// Ports that a test has to know, and with which it can do what it likes: nobody holds them.
///
/// No other test uses them, in whatever process: each allotment is the lease of another port, far
/// from these, whose number stands for them.
pub(crate) struct Allotment {
    pub(crate) first: u16,
    pub(crate) last: u16,
    _lease: Lease,
}

impl Allotment {
    const SIZE: u16 = 32;

    pub(crate) fn new() -> Allotment {
        loop {
            let lease = Lease::builder().range(19_000..=19_249).label("allotment").lease().unwrap();
            let first = 10_000 + (lease.port() - 19_000) * Allotment::SIZE;
            let last = first + Allotment::SIZE - 1;
            // A developer's own server may be in it, or connections of a test that had it before. A
            // process of its own looks: what this one binds, a child of another test may have
            // copies of for a while.
            let role = ["probe", &first.to_string(), &last.to_string()];
            if stdout_of(&child_command(&role).output().unwrap()) == "true" {
                return Allotment { first, last, _lease: lease };
            }
        }
    }
}

/// Makes the network namespaces, mounts and users that a test needs. `None`: not possible here, and
/// the reason was printed. Where it must be possible (`PORTLEASE_TEST_ALL`, in CI), it fails.
#[cfg(unix)]
pub(crate) fn unshare(flags: &[&str], script: &str, arguments: &[&str]) -> Option<Output> {
    let mut all_flags = flags.to_vec();
    if !is_root() {
        all_flags.extend(["--user", "--map-root-user"]);
    }
    let possible = Command::new("unshare").args(&all_flags).arg("true").output();
    if !possible.is_ok_and(|output| output.status.success()) {
        return skip(&format!("`unshare {}` is not possible here", all_flags.join(" ")));
    }
    let mut command = Command::new("unshare");
    command.args(all_flags).args(["sh", "-ec", script]).arg(child_path()).args(arguments);
    Some(command.output().unwrap())
}

/// Another user of this machine, who may run the child program.
#[cfg(unix)]
pub(crate) struct SomebodyElse {
    home: TempDir,
}

#[cfg(unix)]
impl SomebodyElse {
    /// `None`: not possible here, and the reason was printed.
    pub(crate) fn new() -> Option<SomebodyElse> {
        if !is_root() || Command::new("setpriv").arg("--version").output().is_err() {
            return skip("needs root and setpriv, to become somebody else");
        }
        let home = tempfile::tempdir().unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o777)).unwrap();
        copy(&child_path(), &home.path().join("child"));
        Some(SomebodyElse { home })
    }

    /// A directory in which he may write.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// A program by which he becomes root: nobody but root can end what it starts.
    pub(crate) fn setuid_setpriv(&self) -> PathBuf {
        let found = Command::new("sh").args(["-c", "command -v setpriv"]).output().unwrap();
        let copy = self.home().join("setpriv");
        self::copy(Path::new(&stdout_of(&found)), &copy);
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o4755)).unwrap();
        copy
    }

    pub(crate) fn child_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=12345", "--regid=12345", "--clear-groups"]);
        command.arg(self.home().join("child")).args(arguments);
        command
    }
}

/// Copies a program by another process: what this one writes, a child of another test may have open
/// for writing until it execs, and what is open for writing cannot be run.
pub(crate) fn copy(program: &Path, to: &Path) {
    stdout_of(&Command::new("cp").args([program, to]).output().unwrap());
}

/// Says why a test cannot run here.
pub(crate) fn skip<T>(reason: &str) -> Option<T> {
    assert!(env::var_os("PORTLEASE_TEST_ALL").is_none(), "must not be skipped: {reason}");
    eprintln!("skipped: {reason}");
    None
}

/// Whether there is strace, which counts system calls, or lets them fail; if not, that is said.
#[cfg(target_os = "linux")]
pub(crate) fn has_strace() -> bool {
    let found = Command::new("strace").arg("-V").output().is_ok();
    found || skip::<()>("strace is not installed").is_some()
}

/// Whether this table of the kernel (`tcp`, `udp6`) has a socket on `port` in this state, a number of two digits.
#[cfg(target_os = "linux")]
pub(crate) fn table_has(table: &str, state: &str, port: u16) -> bool {
    let local = format!(":{port:04X}");
    let text = match fs::read_to_string(format!("/proc/net/{table}")) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return false, // no IPv6
        text => text.unwrap(),
    };
    text.lines().any(|line| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        fields.get(1).is_some_and(|it| it.ends_with(&local)) && fields.get(3) == Some(&state)
    })
}

/// Whether this Windows is wine's, which does not do all that Windows does: `.ci/windows-tests` says so.
pub(crate) fn is_wine() -> bool {
    env::var_os("PORTLEASE_TEST_WINE").is_some()
}

#[cfg(unix)]
pub(crate) fn is_root() -> bool {
    uid() == 0
}

#[cfg(unix)]
pub(crate) fn uid() -> u32 {
    fs::metadata("/proc/self").unwrap().uid()
}

pub(crate) fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap().success());
}

/// The output of a child that must have succeeded.
pub(crate) fn stdout_of(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    let (out, err) = (String::from_utf8_lossy(out), String::from_utf8_lossy(err));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    out.trim_end().to_owned()
}

/// Waits until `condition` holds, and fails if that takes too long.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "not so after {DEADLINE:?}: {what}");
        // Not so often that the looks are what it has to wait for.
        let nap = start.elapsed() / 8;
        thread::sleep(nap.clamp(Duration::from_millis(2), Duration::from_millis(50)));
    }
}

/// What `f` returns, which must not take for ever. A start and a stop took two minutes where sixteen tests
/// at a time shared two processors with as many others.
pub(crate) fn bounded<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || sender.send(f()));
    let for_ever = DEADLINE * 5;
    match receiver.recv_timeout(for_ever) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => panic!("no end after {for_ever:?}"),
        Err(RecvTimeoutError::Disconnected) => resume_unwind(thread.join().unwrap_err()),
    }
}

/// Whether a process lives; a zombie does not.
pub(crate) fn lives(pid: u32) -> bool {
    state(pid).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// What a process does, as `ps` calls it.
pub(crate) fn state(pid: u32) -> Option<char> {
    stat(pid)?.first()?.chars().next()
}

/// What `/proc/PID/stat` says after the name: the state, the parent, the group, the session...
pub(crate) fn stat(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit(") ").next()?.split_ascii_whitespace().map(str::to_owned).collect())
}

/// The variable that a command is given.
pub(crate) fn variable(command: &Command, name: &str) -> String {
    let (_, value) = command.get_envs().find(|(given, _)| *given == name).unwrap();
    value.unwrap().to_str().unwrap().to_owned()
}

/// The living children of a process, by pid.
pub(crate) fn children_of(parent: u32) -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap();
    let pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_child = |pid: &u32| stat(*pid).is_some_and(|it| it[1] == parent.to_string());
    let mut children: Vec<u32> = pids.filter(is_child).filter(|&pid| lives(pid)).collect();
    children.sort_unstable();
    children
}

/// The file that a process runs.
pub(crate) fn program_of(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// What finds a process and its offspring: its own value of this variable.
pub(crate) const MARK: &str = "PORTLEASE_TEST_MARK";

pub(crate) fn unique_mark() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Waits until nothing of a harness that has ended is left; meanwhile its port must be leased.
pub(crate) fn nothing_is_left(own: &OwnRegistry, mark: &str) {
    eventually("nothing of the harness is left", || {
        // In this order: whoever is seen below was there above, when it had to be leased.
        let leased = own.registry.list().unwrap();
        let left = processes_with(MARK, mark);
        // Between two starts, a watchdog keeps the server's directory, and no port; it has no cookie.
        let serves = left.iter().any(|&pid| has_variable(pid, "PORTLEASE_COOKIE"));
        assert!(!serves || !leased.is_empty(), "{left:?} are left without a lease");
        // Who is ending has lost its environment already, and may not have closed its files yet.
        left.is_empty() && leased.is_empty()
    });
}

fn has_variable(pid: u32, name: &str) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let start = format!("{name}=");
    environment.split(|&byte| byte == 0).any(|entry| entry.starts_with(start.as_bytes()))
}

/// The living processes whose environment has `variable=value`.
pub(crate) fn processes_with(variable: &str, value: &str) -> Vec<u32> {
    let wanted = format!("{variable}={value}");
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let found = environment.split(|&byte| byte == 0).any(|entry| entry == wanted.as_bytes());
        found.then_some(pid)
    });
    pids.filter(|&pid| lives(pid)).collect()
}
