//! The harness ends, in whatever way: no server is left, and its port is leased until it is gone. Neither
//! form of servers makes a difference, since the watchdog is the same; so what is about terminals, and about
//! limits, is tested with one of them.
#![cfg(target_os = "linux")] // shells, and looks into `/proc`

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use portlease::{Holder, Server};
use support::twin::{Twin, table};
use support::{
    MARK, OwnRegistry, SomebodyElse, TestChild, child_command, child_path, eventually, lives,
    nothing_is_left, processes_with, signal, skip, stat, state, unique_mark, who_answers,
};

table! {
    killed_at_any_moment_of_the_start,
    killed_at_any_moment_of_the_stop,
    killed_at_any_moment_of_a_drop,
    killed_at_any_moment_of_a_restart,
    whatever_ends_the_harness_ends_its_server,
    a_server_that_ignores_sigterm_keeps_its_lease_until_it_is_killed,
    an_orphan_gets_time_to_tidy_up,
}

/// A program that starts a server as a test would: `harness` in `support/child.rs`, in which one that is
/// awaited lives in a runtime.
struct Harness {
    own: OwnRegistry,
    mark: String,
    /// The harness, or the terminal that it runs in.
    child: TestChild,
}

/// What a harness says once its server is ready.
struct Serving {
    harness: u32,
    server: u32,
    port: u16,
}

/// What a shell in a terminal runs, to be found by its mark. The shell itself is not: it may end at
/// any time.
const RUN: &str = "env \"$HARNESS_MARK\" \"$HARNESS\" blocking harness tidy sleep";

impl Harness {
    /// Signals end it even where these tests run under `nohup`, or in the background of a script.
    fn new<S: Twin>(way: &str, fate: &str) -> Harness {
        let mut command = Command::new("env");
        command.arg("--default-signal").arg(child_path());
        command.args([S::NAME, "harness", way, fate]);
        Harness::marked(command)
    }

    fn marked(mut command: Command) -> Harness {
        let mark = unique_mark();
        command.env(MARK, &mark);
        Harness::spawn(command, mark)
    }

    /// `None`: not possible here, and the reason was printed.
    fn in_terminal(script: &str) -> Option<Harness> {
        if Command::new("script").arg("--version").output().is_err() {
            return skip("needs `script`, for a terminal");
        }
        let mark = unique_mark();
        let mut command = Command::new("script");
        let script = format!("exec env --default-signal {script}");
        command.args(["--quiet", "--return", "--command", &script, "/dev/null"]);
        command.env("SHELL", "/bin/sh").env("HARNESS", child_path());
        command.env("HARNESS_MARK", format!("{MARK}={mark}"));
        Some(Harness::spawn(command, mark))
    }

    fn spawn(mut command: Command, mark: String) -> Harness {
        let own = OwnRegistry::new();
        own.lend_to(&mut command);
        let temporary = own.dir.path().join("tmp");
        fs::create_dir(&temporary).unwrap();
        command.env("TMPDIR", temporary);
        // If it leaves a core, then there.
        command.current_dir(own.dir.path()).env("PORTLEASE_TEST_TIDY", own.dir.path());
        command.stderr(Stdio::null());
        let child = TestChild::spawn(command);
        Harness { own, mark, child }
    }

    fn serving(&mut self) -> Serving {
        let words = self.child.line_after("serving ");
        let mut words = words.split(' ');
        let mut word = || words.next().unwrap();
        Serving {
            harness: word().parse().unwrap(),
            server: word().parse().unwrap(),
            port: word().parse().unwrap(),
        }
    }

    /// Waits until the server was asked to end, lets it, and waits until nothing is left. The port
    /// is leased until then, and free afterwards. How the child ended.
    fn ends(&mut self, Serving { server, port, .. }: &Serving, once_asked: &str) -> String {
        let dir = self.own.dir.path();
        eventually("the server is asked to end", || dir.join("asked").exists());
        if !once_asked.is_empty() {
            signal(once_asked, self.child.id());
        }
        let (mut looks, began) = (0, Instant::now());
        eventually("it was looked at often enough", || {
            // In this order: whoever lives below lived above, when the port had to be leased.
            let leased = self.leased();
            assert!(
                leased == [*port] || !lives(*server),
                "it lives, and only {leased:?} is leased"
            );
            looks += 1;
            // Not many on a busy machine: it has five seconds before it is killed.
            looks == 20 || began.elapsed() > Duration::from_secs(1)
        });
        fs::write(dir.join("may-end"), "").unwrap();
        let status = self.child.wait().unwrap().to_string();
        self.nothing_is_left();
        // The port went without being released: it rests, but an exact lease gets it.
        drop(self.own.request().exact(*port).wait(Duration::ZERO).lease().unwrap());
        status
    }

    fn leased(&self) -> Vec<u16> {
        self.own.registry.list().unwrap().iter().map(Holder::port).collect()
    }

    fn nothing_is_left(&self) {
        nothing_is_left(&self.own, &self.mark);
        let left = fs::read_dir(self.own.dir.path().join("tmp")).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "of the server's directory, this is left: {left:?}");
    }

    fn kill(mut self) {
        Child::kill(&mut self.child).unwrap();
        self.child.wait().unwrap();
        self.nothing_is_left();
    }
}

/// Kills harnesses at a different microsecond each time, spread evenly over what they do after
/// `begin`, and a bit more. The kill has to hit the phase `during` now and then, before `end`.
fn killed_at_any_moment<S: Twin>(
    (way, fate): (&str, &str),
    kills: u32,
    begin: fn(&mut Harness),
    [during, end]: [&str; 2],
) {
    let kills = kills.max(1); // a part of few
    // How long the whole takes on this machine, now.
    let mut harness = Harness::new::<S>(way, fate);
    begin(&mut harness);
    let start = Instant::now();
    harness.child.line_after(end);
    let whole = Mutex::new(start.elapsed());
    harness.kill();

    let last_words = Mutex::new(BTreeMap::new());
    let kill_one = |kill: u32| {
        let mut harness = Harness::new::<S>(way, fate);
        begin(&mut harness);
        // In an order that does not follow the load of the machine.
        let share = f64::from(kill * 97 % kills) / f64::from(kills);
        let pause = whole.lock().unwrap().mul_f64(share * 1.5);
        thread::sleep(pause);
        Child::kill(&mut harness.child).unwrap();
        let mut said = String::new();
        while let Some(line) = harness.child.line() {
            said = line;
        }
        let word = said.split(' ').next().unwrap().to_owned();
        // The machine is not always as busy as it was: three of ten are to come too late.
        let correction = if word == end { 0.8 } else { 1.1 };
        let mut whole = whole.lock().unwrap();
        *whole = whole.mul_f64(correction);
        drop(whole);
        *last_words.lock().unwrap().entry(word).or_insert(0) += 1;
        harness.kill();
    };
    thread::scope(|scope| {
        for worker in 0..4 {
            scope.spawn(move || (worker..kills).step_by(4).for_each(kill_one));
        }
    });
    // Of few, none may have hit it.
    for kill in kills..kills + 100 {
        if last_words.lock().unwrap().contains_key(during) {
            break;
        }
        kill_one(kill);
    }
    let last_words = last_words.into_inner().unwrap();
    println!("by the last that was said: {last_words:?}");
    assert!(last_words.contains_key(during), "no kill hit it");
}

/// The kernel's part is the same for both forms: fewer do for the one whose part is a thread that waits.
fn kills<S: Twin>() -> u32 {
    let kills = std::env::var("PORTLEASE_TEST_KILLS").map_or(300, |kills| kills.parse().unwrap());
    if S::NAME == Server::NAME { kills } else { kills / 3 }
}

/// From before its first spawn to after the server is ready.
fn killed_at_any_moment_of_the_start<S: Twin>() {
    killed_at_any_moment::<S>(("polite", "sleep"), kills::<S>(), |_| {}, ["leased", "serving"]);
}

/// Through all its steps: to ask, to wait, to kill, to sweep, to release.
fn killed_at_any_moment_of_the_stop<S: Twin>() {
    let begin = |harness: &mut Harness| {
        harness.serving();
        harness.child.go();
    };
    let way = ("briefly stubborn", "stop");
    killed_at_any_moment::<S>(way, kills::<S>() / 5, begin, ["stopping", "stopped"]);
}

/// Which waits here, or on a thread of its own.
fn killed_at_any_moment_of_a_drop<S: Twin>() {
    let begin = |harness: &mut Harness| {
        harness.serving();
        harness.child.go();
    };
    let way = ("briefly stubborn", "drop and stay");
    killed_at_any_moment::<S>(way, kills::<S>() / 5, begin, ["dropping", "dropped"]);
}

/// Between the two servers, too.
fn killed_at_any_moment_of_a_restart<S: Twin>() {
    let begin = |harness: &mut Harness| {
        harness.serving();
        harness.child.go();
    };
    let way = ("polite", "restart");
    killed_at_any_moment::<S>(way, kills::<S>() / 2, begin, ["restarting", "restarted"]);
}

/// How it ends, what makes it, what is done to it once the server was asked to end, and its status.
fn whatever_ends_the_harness_ends_its_server<S: Twin>() {
    let mut cases = vec![
        ("return", "go", "", "exit status: 0"),
        ("exit", "go", "", "exit status: 7"),
        ("abort", "go", "", "signal: 6"),
        ("panic", "go", "", "exit status: 101"),
        ("panic on a thread", "go", "", "exit status: 0"),
        ("drop", "go", "", "exit status: 0"),
        ("sleep", "KILL", "", "signal: 9"),
        ("sleep", "TERM", "", "signal: 15"),
        ("sleep", "INT", "", "signal: 2"),
        ("sleep", "HUP", "", "signal: 1"),
        ("stop", "go", "KILL", "signal: 9"),
        ("stop", "go", "TERM", "signal: 15"),
    ];
    if S::NAME != Server::NAME {
        cases.extend([
            ("on threads: exit", "go", "", "exit status: 7"),
            ("on threads: panic", "go", "", "exit status: 101"),
            ("on threads: panic on a thread", "go", "", "exit status: 0"),
            ("on threads: drop", "go", "", "exit status: 0"),
        ]);
    }
    thread::scope(|scope| {
        for (fate, by, once_asked, expected) in cases {
            let case = thread::Builder::new().name(format!("{fate} by {by}"));
            let run = move || {
                let mut harness = Harness::new::<S>("tidy", fate);
                let serving = harness.serving();
                match by {
                    "go" => harness.child.go(),
                    by => signal(by, serving.harness),
                }
                let status = harness.ends(&serving, once_asked);
                assert!(status.starts_with(expected), "{status}");
            };
            case.spawn_scoped(scope, run).unwrap();
        }
    });
}

#[test]
fn ctrl_c_in_a_terminal() {
    let Some(mut harness) = Harness::in_terminal(RUN) else { return };
    let serving = harness.serving();
    harness.child.write("\x03");
    assert_eq!(harness.ends(&serving, ""), "exit status: 130");
}

/// It stops the harness, and not its server, which is in a group of its own.
#[test]
fn ctrl_z_in_a_terminal_which_is_closed_then() {
    for closed_while_stopped in [true, false] {
        // With job control: the kernel stops nobody whom no shell could continue.
        let Some(mut harness) = Harness::in_terminal("sh -i") else { return };
        harness.child.write(&format!("{RUN}\n"));
        let serving = harness.serving();
        let pid = who_answers(("127.0.0.1", serving.port));
        harness.child.write("\x1a");
        eventually("it is stopped", || state(serving.harness) == Some('T'));
        assert_eq!(who_answers(("127.0.0.1", serving.port)), pid);
        if !closed_while_stopped {
            harness.child.write("fg\n");
            eventually("it is continued", || state(serving.harness) != Some('T'));
            assert_eq!(who_answers(("127.0.0.1", serving.port)), pid);
        }
        assert!(lives(serving.harness));
        Child::kill(&mut harness.child).unwrap();
        harness.ends(&serving, "");
    }
}

fn a_server_that_ignores_sigterm_keeps_its_lease_until_it_is_killed<S: Twin>() {
    let mut harness = Harness::new::<S>("stubborn", "sleep");
    let Serving { port, .. } = harness.serving();
    Child::kill(&mut harness.child).unwrap();
    assert_eq!(harness.leased(), [port]);
    harness.kill();
}

/// The watchdog asks before it kills, whatever its PATH is. (A server that is stopped by a signal
/// gets SIGHUP and SIGCONT from the kernel, when the death of the harness makes its group an orphan.)
fn an_orphan_gets_time_to_tidy_up<S: Twin>() {
    for (path, fate) in [(None, "sleep"), (Some("/nowhere"), "sleep"), (None, "drop")] {
        let mut command = child_command(&[S::NAME, "harness", "tidy", fate]);
        if let Some(path) = path {
            command.env("PATH", path);
        }
        let mut harness = Harness::marked(command);
        let serving = harness.serving();
        match fate {
            "drop" => harness.child.go(), // and it ends, whether the drop waits or not
            _ => Child::kill(&mut harness.child).unwrap(),
        }
        harness.ends(&serving, "");
        let tidied = harness.own.dir.path().join("tidied").exists();
        assert!(tidied, "PATH: {path:?}, and then: {fate}");
    }
}

/// `ulimit -u`, or that of a container.
#[test]
fn an_orphan_is_ended_where_no_process_can_be_started() {
    let Some(other) = SomebodyElse::new() else { return }; // root has no such limit
    let mark = unique_mark();
    let mut command = other.child_command(&[Server::NAME, "harness", "stubborn", "sleep"]);
    command.env("PORTLEASE_DIR", other.home().join("registry")).env("TMPDIR", other.home());
    command.env(MARK, &mark).stderr(Stdio::null());
    let mut harness = TestChild::spawn(command);
    let words = harness.line_after("serving ");
    let server = words.split(' ').nth(1).unwrap().parse().unwrap();
    let watchdog = &stat(server).unwrap()[2]; // leads the server's group
    let mut limit = Command::new("setpriv");
    limit.args(["--reuid=12345", "--regid=12345", "--clear-groups"]);
    limit.args(["prlimit", "--nproc=1:1", "--pid", watchdog]);
    if !limit.output().unwrap().status.success() {
        return skip("needs prlimit").unwrap_or(());
    }
    harness.kill();
    eventually("nothing of it is left", || processes_with(MARK, &mark).is_empty());
}
