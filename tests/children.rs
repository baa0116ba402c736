//! The kinds of children there are. Each ends in bounded time, with the right error or the right
//! service; and then nothing is left, neither a process nor a claim to the port.
#![cfg(target_os = "linux")] // shells, and looks into `/proc`

mod support;

use std::fs;
use std::io;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use portlease::{Error, ErrorKind, Server, ServerBuilder, Signal, Stopped};
use support::alone::in_own_small_world;
use support::twin::{Twin, table};
use support::{
    DEADLINE, OwnRegistry, SomebodyElse, TestChild, bounded, child_command, child_path, eventually,
    lives, processes_with, shell, signal, skip, stat, stdout_of, who_answers,
};

table! {
    one_that_never_does_anything,
    one_that_ends_at_once,
    one_that_ends_later,
    one_that_prints_a_gigabyte,
    one_that_never_stops_printing,
    one_that_prints_no_newline,
    one_that_closes_its_output,
    one_that_ignores_sigterm,
    one_that_starts_a_worker,
    one_whose_worker_is_known_by_its_group_alone,
    one_whose_grandchild_holds_the_pipes,
    one_whose_grandchild_holds_the_pipes_in_another_session,
    one_that_leaves_the_pipes_to_a_stranger,
    one_that_forks_faster_than_one_can_look,
    one_that_makes_itself_a_daemon,
    one_that_is_a_daemon_before_it_ends,
    one_that_leaves_a_daemon_and_ends_later,
    one_whose_port_a_stranger_takes,
    one_that_calls_setsid,
    one_that_is_stopped_by_a_signal,
    one_that_cannot_be_executed,
    one_of_whose_end_nobody_is_told,
    one_where_there_is_no_shell,
    one_whose_working_directory_is_missing,
    one_of_another_user,
    one_with_file_capabilities,
    what_cannot_be_killed_is_named_and_keeps_its_port,
}

/// In the environment of a child, and of all that it starts.
const MARK: &str = "PORTLEASE_TEST_CHILD";

/// In the environment of who has nothing to do with the child any more, with the value of the mark.
const STRANGER: &str = "PORTLEASE_TEST_STRANGER";

/// How a child learns its port.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Port {
    Told,
    Reported,
}

/// By what one child, and all that it starts, can be found.
struct Traces {
    own: OwnRegistry,
    leased: Option<u16>,
    mark: String,
}

impl Traces {
    fn of(mut command: Command, port: Port) -> (Traces, ServerBuilder) {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mark = format!("{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        command.env(MARK, &mark);
        let builder = Server::builder(command);
        let mut traces = Traces { own: OwnRegistry::new(), leased: None, mark };
        if port == Port::Reported {
            return (traces, builder.report_port());
        }
        let lease = traces.own.request().lease().unwrap();
        traces.leased = Some(lease.port());
        (traces, builder.env_port("PORT").lease(lease))
    }

    fn processes(&self) -> Vec<u32> {
        processes_with(MARK, &self.mark)
    }

    fn nothing_is_left(&self) {
        let left = self.processes();
        assert!(left.is_empty(), "processes are left: {left:?}");
        if let Some(port) = self.leased {
            // Neither a server nor a watchdog has it.
            drop(self.own.request().exact(port).lease().unwrap());
        }
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        // A test that fails leaves nothing either.
        for pid in [self.processes(), processes_with(STRANGER, &self.mark)].concat() {
            let _ = Command::new("kill").args(["-s", "KILL", &pid.to_string()]).output();
        }
    }
}

/// A start that must fail with an error of this kind, and with all of these texts. What the child
/// would have to report its port for, or to be told it, makes no difference.
fn fails<S: Twin>(make: impl Fn() -> Command, kind: ErrorKind, texts: &'static [&'static str]) {
    fails_with::<S>(make(), Port::Told, kind, texts);
    fails_with::<S>(make(), Port::Reported, kind, texts);
}

fn fails_with<S: Twin>(
    command: Command,
    port: Port,
    kind: ErrorKind,
    texts: &'static [&'static str],
) -> Error {
    bounded(move || {
        let (traces, builder) = Traces::of(command, port);
        // Only where it is to pass: what ends early is to be seen at once.
        let timeout = match kind {
            // It has to come to print something, on a busy machine.
            ErrorKind::NotReady if texts.iter().any(|text| text.starts_with("    ")) => 5000,
            ErrorKind::NotReady => 500,
            _ => u64::MAX,
        };
        let builder = builder.start_timeout(Duration::from_millis(timeout));
        let error = S::start(builder.stop_grace(SHORT_GRACE)).unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        let text = format!("{error:?}");
        let missing = match (kind, traces.leased) {
            (ErrorKind::NotReady, Some(port)) => {
                format!("nothing listens at 127.0.0.1:{port}")
            }
            (ErrorKind::NotReady, None) => {
                "it has not printed its port, as `PORT=<number>`".to_owned()
            }
            _ => String::new(),
        };
        for expected in texts.iter().copied().chain([missing.as_str()]) {
            assert!(text.contains(expected), "no {expected:?} in: {text}");
        }
        assert!(!text.contains("failed to stop"), "{text}");
        traces.nothing_is_left();
        error
    })
}

/// For what will not end when it is asked.
const SHORT_GRACE: Duration = Duration::from_millis(50);

/// How a server ends that is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It is asked to, and does.
    Asked,
    /// It does not, or something that it started.
    Killed,
    /// It depends.
    Either,
}

/// A start that must succeed. `meanwhile` is done once it serves; then it is stopped, and another
/// one, of the same kind, dropped.
fn serves<S: Twin>(
    make: impl Fn() -> Command,
    end: End,
    meanwhile: impl Fn(&mut S) + Clone + Send + 'static,
) -> Stopped {
    let served = |stop: bool| {
        let (command, meanwhile) = (make(), meanwhile.clone());
        bounded(move || {
            let (traces, builder) = Traces::of(command, Port::Told);
            let grace = match end {
                End::Asked => DEADLINE / 2,
                End::Killed | End::Either => SHORT_GRACE,
            };
            let builder = builder.start_timeout(DEADLINE).stop_grace(grace);
            let mut server = S::start(builder).unwrap();
            let answering = who_answers(server.addr());
            assert!(traces.processes().contains(&server.pid()), "a server without its mark");
            meanwhile(&mut server);
            let stopped = if stop {
                Some(server.stop().unwrap())
            } else {
                drop(server);
                None
            };
            traces.nothing_is_left();
            assert!(!lives(answering));
            stopped
        })
    };
    served(false);
    let stopped = served(true).unwrap();
    match end {
        End::Asked => assert!(!stopped.forced(), "{stopped:?}"),
        End::Killed => {
            assert!(stopped.forced() && !stopped.killed().is_empty(), "{stopped:?}");
            assert!(stopped.duration() >= SHORT_GRACE, "{stopped:?}");
        }
        End::Either => {}
    }
    stopped
}

/// Nothing, while it serves.
fn nothing(_: &mut impl Twin) {}

/// The number in the server's line `NAME=number`, which may be on its way.
fn announced(server: &impl Twin, name: &str) -> u32 {
    number(server.wait_for_line(&format!("{name}="), DEADLINE).unwrap().text(), name)
}

/// The number in the line `NAME=number`.
fn number(output: &str, name: &str) -> u32 {
    let line = output.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("no {name} in {output:?}")).parse().unwrap()
}

fn one_that_never_does_anything<S: Twin>() {
    fails::<S>(|| shell("exec sleep 1000"), ErrorKind::NotReady, &["was not ready after 0.5 s"]);
    fails::<S>(|| shell("sleep 1000 & sleep 1000"), ErrorKind::NotReady, &[]);
    fails::<S>(|| shell("echo PORT=0; echo PORT=70000; exec sleep 1000"), ErrorKind::NotReady, &[]);
}

fn one_that_ends_at_once<S: Twin>() {
    let ended = |script: &'static str, texts: &'static [&'static str]| {
        fails::<S>(|| shell(script), ErrorKind::Exited, texts);
    };
    ended("exit 0", &["server `sh` ended before it was ready", "(exit status: 0)"]);
    ended("exit 1", &["(exit status: 1)", "it printed nothing"]);
    ended("echo out; echo oops >&2; exit 3", &["(exit status: 3)", "    out", "    oops"]);
    ended("kill -KILL $$", &["(signal: 9 (SIGKILL))", "it printed nothing"]);
    ended("ulimit -c 0; kill -SEGV $$", &["(signal: 11 (SIGSEGV)"]);
    ended("kill -TERM $$", &["(signal: 15 (SIGTERM))"]);
}

/// Not at SIGHUP, which all ignore that were started by `nohup`.
fn one_that_ends_later<S: Twin>() {
    for (script, status) in [
        ("trap 'exit 0' USR1; \"$0\" serve & while :; do wait; done", "exit status: 0"),
        ("trap 'exit 1' USR1; \"$0\" serve & while :; do wait; done", "exit status: 1"),
        ("exec \"$0\" serve", "signal: 10 (SIGUSR1)"),
    ] {
        let stopped = serves::<S>(
            || shell(script),
            End::Asked,
            move |server| {
                server.signal(Signal::User1).unwrap();
                assert_eq!(server.wait(DEADLINE).unwrap().unwrap().to_string(), status);
            },
        );
        assert_eq!(stopped.status().unwrap().to_string(), status);
    }
}

/// Half of it without, and half of it with newlines. It is read to the end, and forgotten.
fn one_that_prints_a_gigabyte<S: Twin>() {
    let script = "head -c 500000000 /dev/zero; \
                  yes \"$(printf '%0999d' 0)\" | head -c 500000000 >&2; \
                  exec \"$0\" serve";
    let output = stdout_of(&child_command(&[S::NAME, "flooded", script]).output().unwrap());
    let (kept, peak) = output.split_once(' ').unwrap();
    let (kept, peak): (u32, u32) = (kept.parse().unwrap(), peak.parse().unwrap());
    assert!((30_000..=64 * 1024).contains(&kept), "{kept} bytes are kept");
    assert!(peak < 32 * 1024, "{peak} kB of memory");
}

fn one_that_never_stops_printing<S: Twin>() {
    let much = |server: &mut S| {
        eventually("it has printed a lot", || server.output().len() > 50_000);
    };
    serves::<S>(|| shell("yes & exec \"$0\" serve"), End::Asked, much);
    serves::<S>(|| shell("cat /dev/zero & exec \"$0\" serve"), End::Asked, much);
    serves::<S>(|| shell("trap '' TERM; yes >&2 & exec \"$0\" serve"), End::Killed, much);
    fails::<S>(|| shell("exec yes"), ErrorKind::NotReady, &["    y\n    y\n"]);
    fails::<S>(|| shell("cat /dev/zero & exec sleep 1000"), ErrorKind::NotReady, &[]);
}

fn one_that_prints_no_newline<S: Twin>() {
    let stopped =
        serves::<S>(|| shell("printf 'no newline'; exec \"$0\" serve"), End::Asked, nothing);
    assert!(stopped.output().contains("no newline"), "{stopped:?}");
    fails::<S>(|| shell("printf 'no newline'; exit 1"), ErrorKind::Exited, &["    no newline"]);
    fails::<S>(|| shell("while :; do printf x; done"), ErrorKind::NotReady, &["    xxx"]);
    // It may be a part of a number.
    fails::<S>(|| shell("printf PORT=1234; exec sleep 1000"), ErrorKind::NotReady, &[]);
}

fn one_that_closes_its_output<S: Twin>() {
    let closed = "exec >&- 2>&-; exec \"$0\" serve";
    let stopped = serves::<S>(
        || shell(closed),
        End::Asked,
        |server| {
            let error = server.wait_for_line("anything", DEADLINE).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Exited, "{error}");
        },
    );
    assert_eq!(stopped.output(), "");
    fails::<S>(|| shell("exec >&- 2>&-; exec sleep 1000"), ErrorKind::NotReady, &[]);
    fails::<S>(|| shell("exec >&- 2>&-; exit 1"), ErrorKind::Exited, &["it printed nothing"]);
}

fn one_that_ignores_sigterm<S: Twin>() {
    let stopped = serves::<S>(|| shell("trap '' TERM; exec \"$0\" serve"), End::Killed, nothing);
    assert_eq!(stopped.status().unwrap().to_string(), "signal: 9 (SIGKILL)");
    assert!(matches!(stopped.killed(), [it] if it.ends_with(" (test-child)")), "{stopped:?}");
    let worker = "(trap '' TERM; exec \"$0\" sleep) & exec \"$0\" serve";
    // It may not have come to ignore it yet.
    serves::<S>(|| shell(worker), End::Either, nothing);
    fails::<S>(|| shell("trap '' TERM; exec sleep 1000"), ErrorKind::NotReady, &[]);
    fails::<S>(|| shell("trap '' TERM; sleep 1000 & exit 1"), ErrorKind::Exited, &[]);
}

fn one_that_starts_a_worker<S: Twin>() {
    let twice = || child_command(&["serve-twice"]);
    serves::<S>(twice, End::Asked, |server| assert!(lives(announced(server, "WORKER"))));
    serves::<S>(twice, End::Asked, |server| {
        signal("KILL", server.pid());
        server.wait(DEADLINE).unwrap().unwrap();
        assert!(lives(announced(server, "WORKER")));
    });
    // It has its part of the grace when the server itself, whose pid `$$` is, is gone already.
    let tidies = "while kill -0 $$ 2>/dev/null; do sleep 0.01; done; echo tidied; exit";
    let worker = format!("(trap '{tidies}' TERM; echo WORKER=1; while :; do sleep 1; done)");
    let script = format!("{worker} & exec \"$0\" serve");
    let stopped =
        serves::<S>(|| shell(&script), End::Asked, |server| _ = announced(server, "WORKER"));
    assert!(stopped.output().contains("tidied\n"), "{stopped:?}");
}

/// Only the group ties it to the server: it has lost its parent, the environment and the output. It is
/// asked to end as well.
fn one_whose_worker_is_known_by_its_group_alone<S: Twin>() {
    let dir = tempfile::tempdir().unwrap();
    let (ready, asked) = (dir.path().join("ready"), dir.path().join("asked"));
    let worker = "trap 'echo asked >>asked; exit' TERM; : >ready; while :; do sleep 1; done";
    let alone = format!("env -i {MARK}=\"${MARK}\" sh -c \"$1\" >/dev/null 2>&1");
    let script = format!("(cd \"$2\"; {alone} &); exec \"$0\" serve");
    let make = || {
        let mut command = shell(&script);
        command.arg(worker).arg(dir.path());
        command
    };
    let has_a_worker =
        move |_: &mut S| eventually("the worker is ready", || fs::remove_file(&ready).is_ok());
    serves::<S>(make, End::Asked, has_a_worker);
    assert_eq!(fs::read_to_string(asked).unwrap(), "asked\nasked\n", "two servers had one");
}

/// The output never ends by itself. The holder is in its place before the script goes on: `$(...)`
/// waits until it has another output.
fn pipes_are_held_by<S: Twin>(start: &str) {
    let holder = format!(": \"$({start} sh -c 'echo; exec sleep 1000 >&2' &)\"");
    serves::<S>(|| shell(&format!("{holder}; exec \"$0\" serve")), End::Either, nothing);
    fails::<S>(|| shell(&format!("{holder}; exit 1")), ErrorKind::Exited, &["status: 1"]);
    fails::<S>(|| shell(&format!("{holder}; exec sleep 1000")), ErrorKind::NotReady, &[]);
}

fn one_whose_grandchild_holds_the_pipes<S: Twin>() {
    pipes_are_held_by::<S>("");
}

fn one_whose_grandchild_holds_the_pipes_in_another_session<S: Twin>() {
    pipes_are_held_by::<S>("setsid");
}

/// Nothing ties this one to the server any more, and nothing ends it: it is not waited for.
fn one_that_leaves_the_pipes_to_a_stranger<S: Twin>() {
    let mark = "PORTLEASE_TEST_STRANGER=\"$PORTLEASE_TEST_CHILD\"";
    pipes_are_held_by::<S>(&format!("env -i {mark} setsid"));
}

/// Each generation lives for some milliseconds, ignores SIGTERM, and starts the next one.
fn one_that_forks_faster_than_one_can_look<S: Twin>() {
    let dir = tempfile::tempdir().unwrap();
    let relay = dir.path().join("relay.sh");
    let script =
        "trap '' TERM\n[ $1 -gt 3000 ] && exit\nsleep 0.00$(($1 % 5))\nsh $0 $(($1 + 1)) &\n";
    fs::write(&relay, script).unwrap();
    let with_a_relay = |script: &str| {
        let mut command = shell(&format!("sh \"$1\" 0 & {script}"));
        command.arg(&relay);
        command
    };
    for _ in 0..3 {
        serves::<S>(|| with_a_relay("exec \"$0\" serve"), End::Either, nothing);
        fails::<S>(|| with_a_relay("exit 1"), ErrorKind::Exited, &["status: 1"]);
    }
}

/// The daemon serves once the child is gone: no start can succeed before.
fn one_that_makes_itself_a_daemon<S: Twin>() {
    let command = child_command(&["daemon", "ends-first", "inherited"]);
    is_named(&fails_with::<S>(command, Port::Told, ErrorKind::Exited, &[]));
}

/// The error says that it is a daemon, and which process.
fn is_named(error: &Error) {
    let daemon = number(error.output().unwrap(), "DAEMON");
    let text = error.to_string();
    assert!(text.contains("daemon") && text.contains(&format!("{daemon} (test-child)")), "{text}");
    assert_eq!(error.kind(), ErrorKind::Exited);
}

/// Such a start may succeed: the daemon accepts connections before the child ends.
fn one_that_is_a_daemon_before_it_ends<S: Twin>() {
    for environment in ["inherited", "bare"] {
        bounded(move || {
            let command = child_command(&["daemon", "ends-second", environment]);
            let (traces, builder) = Traces::of(command, Port::Told);
            match S::start(builder) {
                Ok(server) => drop(server.stop().unwrap()),
                Err(error) => is_named(&error),
            }
            traces.nothing_is_left();
        });
    }
}

fn one_that_leaves_a_daemon_and_ends_later<S: Twin>() {
    for environment in ["inherited", "bare"] {
        let command = || child_command(&["daemon", "stays", environment]);
        serves::<S>(command, End::Either, |server| {
            let daemon = announced(server, "DAEMON");
            server.signal(Signal::Kill).unwrap();
            server.wait(DEADLINE).unwrap().unwrap();
            assert_eq!(who_answers(server.addr()), daemon);
        });
    }
}

/// Each lacks one of what a daemon of the server would have: the name, a session of its own, our user.
fn one_whose_port_a_stranger_takes<S: Twin>() {
    let dir = tempfile::tempdir().unwrap();
    let renamed = dir.path().join("another");
    support::copy(&child_path(), &renamed);
    let renamed = move || in_own_session(Command::new(&renamed));
    left_alone::<S>(child_command(&["serve"]), renamed);
    left_alone::<S>(child_command(&["serve"]), || child_command(&[]));
    let Some(other) = SomebodyElse::new() else { return };
    let mut same_program = Command::new(other.home().join("child"));
    same_program.arg("serve");
    left_alone::<S>(same_program, || in_own_session(other.child_command(&[])));
}

fn in_own_session(command: Command) -> Command {
    let mut setsid = Command::new("setsid");
    setsid.arg(command.get_program()).args(command.get_args());
    setsid
}

/// A stop of the server leaves the stranger alone, who listens on its port since it was killed.
fn left_alone<S: Twin>(server: Command, stranger: impl FnOnce() -> Command) {
    let (_traces, builder) = Traces::of(server, Port::Told);
    let mut server = S::start(builder).unwrap();
    server.signal(Signal::Kill).unwrap();
    server.wait(DEADLINE).unwrap().unwrap();
    let mut stranger = stranger();
    stranger.args(["serve", &server.port().to_string()]).stderr(process::Stdio::null());
    let mut stranger = TestChild::spawn(stranger);
    let addr = server.addr();
    eventually("the stranger listens", || TcpStream::connect(addr).is_ok());
    assert!(!server.stop().unwrap().forced());
    assert!(stranger.try_wait().unwrap().is_none(), "the stranger got a signal");
}

/// As a `setsid` in `pre_exec` does it, which is unsafe to write: this program calls it, and becomes
/// the server, since it does not lead the group that it leaves.
fn one_that_calls_setsid<S: Twin>() {
    let setsid = |arguments: &[&str]| {
        let mut command = Command::new("setsid");
        command.args(arguments);
        command
    };
    let child = child_path().to_str().unwrap().to_owned();
    let leads = |server: &mut S| {
        assert_eq!(who_answers(server.addr()), server.pid());
        let (group, session) = (&stat(server.pid()).unwrap()[2], &stat(server.pid()).unwrap()[3]);
        assert_eq!((group, session), (&server.pid().to_string(), &server.pid().to_string()));
    };
    let stopped = serves::<S>(|| setsid(&[&child, "serve"]), End::Asked, leads);
    assert_eq!(stopped.status().unwrap().to_string(), "signal: 15 (SIGTERM)");
    serves::<S>(|| setsid(&[&child, "serve-twice"]), End::Asked, leads);
    serves::<S>(|| setsid(&[&child, "serve"]), End::Asked, |server| stop(server.pid()));
    let stubborn = ["sh", "-c", "trap '' TERM; exec \"$0\" serve", &child];
    serves::<S>(|| setsid(&stubborn), End::Killed, leads);
    let quiet = ["sh", "-c", "exec >&- 2>&-; exec \"$0\" serve", &child];
    serves::<S>(|| setsid(&quiet), End::Asked, leads);
    let never = ["sh", "-c", "sleep 1000 & exec sleep 1000"];
    fails::<S>(|| setsid(&never), ErrorKind::NotReady, &[]);
    fails::<S>(|| setsid(&["sh", "-c", "sleep 1000 & exit 1"]), ErrorKind::Exited, &["status: 1"]);
}

fn stop(pid: u32) {
    signal("STOP", pid);
    eventually("it is stopped", || stat(pid).unwrap()[0] == "T");
}

fn one_that_is_stopped_by_a_signal<S: Twin>() {
    serves::<S>(|| child_command(&["serve"]), End::Asked, |server| stop(server.pid()));
    let twice = || child_command(&["serve-twice"]);
    serves::<S>(twice, End::Asked, |server| {
        stop(announced(server, "WORKER"));
        stop(server.pid());
    });
    let stubborn = "trap '' TERM; exec \"$0\" serve";
    serves::<S>(|| shell(stubborn), End::Killed, |server| stop(server.pid()));
    fails::<S>(|| shell("kill -STOP $$"), ErrorKind::NotReady, &[]);
}

fn one_that_cannot_be_executed<S: Twin>() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str, mode| {
        let (written, path) = (dir.path().join(format!("{name}.written")), dir.path().join(name));
        fs::write(&written, text).unwrap();
        support::copy(&written, &path);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let cannot = |program: &std::path::Path, texts| {
        let make = || {
            let mut command = Command::new(program);
            // A directory in it that may not be read would be another error.
            command.env("PATH", "/bin:/usr/bin");
            command
        };
        fails::<S>(make, ErrorKind::Spawn, texts);
    };
    cannot(
        "/no/such-server".as_ref(),
        &["server `such-server`: \"/no/such-server\"; there is no such program"],
    );
    cannot("no-such-server".as_ref(), &["there is no such program in PATH"]);
    cannot(&file("data", "some text", 0o644), &["may not be executed"]);
    cannot(dir.path(), &["may not be executed"]);
    let in_path = || {
        let mut command = Command::new("data");
        command.env("PATH", dir.path());
        command
    };
    fails::<S>(
        in_path,
        ErrorKind::Spawn,
        &["\"data\"; it may not be executed, or it is not in PATH"],
    );
    cannot(&file("garbage", "\x7fELF, but not really", 0o755), &["Exec format error"]);
    cannot(&file("script", "#!/no/such-shell\n", 0o755), &["server `script`"]);
}

fn one_of_whose_end_nobody_is_told<S: Twin>() {
    let mut harness = Command::new("env");
    harness.arg("--ignore-signal=CHLD").arg(child_path()).args([S::NAME, "unreaped"]);
    let said = stdout_of(&harness.output().unwrap());
    assert_eq!(said, "Io: server `unreaped` ended, and nobody knows how\nstatus None, killed []");
}

/// Then nobody watches, and each of its own processes is killed one by one.
fn one_where_there_is_no_shell<S: Twin>() {
    if !in_own_small_world(&S::test("one_where_there_is_no_shell")) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (empty, env) = (dir.path().join("bin"), dir.path().join("env"));
    fs::create_dir(&empty).unwrap();
    fs::copy("/usr/bin/env", &env).unwrap();
    let mounted = Command::new("mount").arg("--bind").arg(&empty).arg("/bin").status();
    assert!(mounted.unwrap().success());
    assert_eq!(shell("true").status().unwrap_err().kind(), io::ErrorKind::NotFound);
    let started_again = |server: &mut S| {
        server.restart().unwrap();
        who_answers(server.addr());
    };
    serves::<S>(|| child_command(&["serve"]), End::Asked, started_again);
    let stubborn = || {
        let mut command = Command::new(&env);
        command.arg("--ignore-signal=TERM").arg(child_path()).arg("serve");
        command
    };
    serves::<S>(stubborn, End::Killed, nothing);
    let with_a_worker = || child_command(&["serve-with-worker"]);
    let has_a_worker = |server: &mut S| drop(server.wait_for_line("WORKER", DEADLINE).unwrap());
    serves::<S>(with_a_worker, End::Either, has_a_worker);
}

fn one_whose_working_directory_is_missing<S: Twin>() {
    let elsewhere = || {
        let mut command = child_command(&["serve"]);
        command.current_dir("/no/such-dir");
        command
    };
    fails::<S>(elsewhere, ErrorKind::Spawn, &["or no directory /no/such-dir"]);
    let dir = tempfile::tempdir().unwrap();
    let removed = dir.path().to_owned();
    let inside = "cd \"$DIR\" && rmdir \"$DIR\" && exec \"$0\" serve";
    let made = move || {
        fs::create_dir_all(&removed).unwrap();
        let mut command = shell(inside);
        command.env("DIR", &removed);
        command
    };
    serves::<S>(made, End::Asked, nothing);
}

fn one_of_another_user<S: Twin>() {
    let Some(other) = SomebodyElse::new() else { return };
    let serve = || other.child_command(&["serve"]);
    serves::<S>(serve, End::Asked, |server| {
        let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
        assert!(status.contains("Uid:\t12345\t"), "{status}");
    });
    serves::<S>(|| other.child_command(&["serve-twice"]), End::Asked, nothing);
    fails::<S>(|| other.child_command(&["sleep"]), ErrorKind::NotReady, &[]);
}

/// The kernel shows nobody but root what is in such a process.
fn one_with_file_capabilities<S: Twin>() {
    let Some(other) = SomebodyElse::new() else { return };
    let capable = other.home().join("capable");
    support::copy(&child_path(), &capable);
    let setcap = Command::new("setcap").arg("cap_net_bind_service+ep").arg(&capable).output();
    if !setcap.is_ok_and(|output| output.status.success()) {
        return skip("`setcap` is missing, or may not do it").unwrap_or_default();
    }
    let registry = other.home().join("registry");
    let role = [S::NAME, "start-and-stop", registry.to_str().unwrap(), capable.to_str().unwrap()];
    let mut child = TestChild::spawn(other.child_command(&role));
    let pid = child.line().unwrap().parse().unwrap();
    let look = child.line().unwrap();
    let stopped = child.line().unwrap();
    child.finish();
    assert_eq!((look.as_str(), stopped.as_str()), ("not readable", "forced: false, 0 leased"));
    assert!(!lives(pid));
}

fn what_cannot_be_killed_is_named_and_keeps_its_port<S: Twin>() {
    let Some(other) = SomebodyElse::new() else { return };
    let setpriv = other.setuid_setpriv();
    let registry = other.home().join("registry");
    let role = [S::NAME, "unstoppable", registry.to_str().unwrap(), setpriv.to_str().unwrap()];
    let mut child = TestChild::spawn(other.child_command(&role));
    let pid: u32 = child.line().unwrap().parse().unwrap();
    let error = child.line().unwrap();
    let again = child.line().unwrap();
    let leased = child.line().unwrap();
    child.finish();
    let watchdog_has_it = lives(pid); // and `leased` was said after the lease was dropped
    signal("KILL", pid);
    assert!(error.starts_with("NotStopped: failed to stop server `setpriv` on port"), "{error}");
    assert!(error.contains(&format!("process {pid} (child)")), "{error}");
    assert_eq!((again.as_str(), leased.as_str()), ("Exited", "1 leased"));
    assert!(watchdog_has_it);
}
