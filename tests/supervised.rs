//! Supervision: who dies is started again, a bounded number of times, and it is on record.
#![cfg(target_os = "linux")] // shells, and looks into `/proc`

mod support;

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use portlease::{ErrorKind, Ready, Server, ServerBuilder, Signal, Supervised, Supervision};
use support::{
    DEADLINE, MARK, OwnRegistry, child_command, eventually, processes_with, shell, unique_mark,
    who_answers,
};

fn serves() -> ServerBuilder {
    Server::builder(child_command(&["serve"])).env_port("PORT")
}

/// One that runs a script in the server's directory, at each start.
fn script(script: &'static str) -> ServerBuilder {
    Server::with(move |ports| {
        let mut command = shell(script);
        command.env("PORT", ports.main().to_string()).current_dir(ports.dir());
        command
    })
}

/// Looks often, and is not patient.
fn policy(restarts: usize) -> Supervision {
    let often = Supervision::restarts(restarts).check_every(Duration::from_millis(10));
    often.unready_for(Duration::from_millis(50))
}

fn kill(supervised: &Supervised) {
    supervised.with(|server| server.signal(Signal::Kill)).unwrap();
}

/// So many times it was started again, each time for such a reason, and it came up.
fn restarted(supervised: &Supervised, whys: &[&str]) {
    supervised.wait_for_restarts(whys.len(), DEADLINE).unwrap();
    let restarts = supervised.restarts();
    assert_eq!(restarts.len(), whys.len(), "{restarts:?}");
    for (restart, why) in restarts.iter().zip(whys) {
        assert!(restart.why().contains(why) && restart.error().is_none(), "{restart:?}");
    }
}

#[test]
fn who_dies_is_started_again_on_its_port() {
    let own = OwnRegistry::new();
    let lease = own.request().lease().unwrap();
    let supervised = serves().lease(lease).supervise(policy(2)).unwrap();
    let (port, first) = (supervised.port(), supervised.pid());
    assert_eq!(supervised.restarts().len(), 0);
    kill(&supervised);
    restarted(&supervised, &["it ended (signal: 9"]);
    let second = supervised.pid();
    assert_ne!(second, first);
    assert_eq!((who_answers(("127.0.0.1", port)), supervised.port()), (second, port));
    assert!(supervised.restarts()[0].at().elapsed().unwrap() < DEADLINE);
    assert_eq!(supervised.gave_up(), None);
    let error = supervised.wait_for_restarts(2, Duration::from_millis(20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady);
    let text = error.to_string();
    assert!(
        text.contains("was started again 1 times in ") && text.ends_with(" s, and not 2"),
        "{text}"
    );
    assert!(!supervised.stop().unwrap().forced());
    drop(own.request().exact(port).lease().unwrap());
}

#[test]
fn who_is_not_ready_any_more_is_started_again() {
    let well = Ready::when("it is well", |ports| !ports.dir().join("sick").exists());
    // The line is of the first life only.
    let ready = well.and(Ready::line("first")).and(Ready::file("up"));
    let lives = "rm -f sick; [ -e up ] || echo first; echo $$ >>up; echo first; exec \"$0\" serve";
    let supervised = script(lives).ready(ready).supervise(policy(1)).unwrap();
    let dir = fs::read_link(format!("/proc/{}/cwd", supervised.pid())).unwrap();
    fs::write(dir.join("sick"), "").unwrap();
    restarted(&supervised, &["it was not ready any more for 0."]);
    assert!(supervised.restarts()[0].why().ends_with("s: it is not so that it is well"));
    // The old one was gone before.
    let pids = fs::read_to_string(dir.join("up")).unwrap();
    assert_eq!(pids.lines().last().unwrap(), supervised.pid().to_string());
    assert_eq!(who_answers(supervised.addr()), supervised.pid());
}

#[test]
fn after_so_many_times_it_is_left_as_it_is() {
    let supervised = serves().supervise(policy(2)).unwrap();
    for times in 1..=2 {
        kill(&supervised);
        supervised.wait_for_restarts(times, DEADLINE).unwrap();
    }
    kill(&supervised);
    let error = supervised.wait_for_restarts(3, DEADLINE).unwrap_err().to_string();
    assert!(error.contains("and not 3; it is not started again any more: it ended"), "{error}");
    assert!(supervised.gave_up().unwrap().starts_with("it ended (signal: 9"));
    restarted(&supervised, &["it ended (signal: 9"; 2]);
    assert!(supervised.with(Server::try_wait).unwrap().is_some());
    supervised.stop().unwrap();
}

#[test]
fn one_that_does_not_come_up_is_tried_again() {
    let second_fails = "echo >>lives; [ $(wc -l <lives) != 2 ] || { echo no licence; exit 3; }; \
                        exec \"$0\" serve";
    let supervised = script(second_fails).supervise(policy(2)).unwrap();
    kill(&supervised);
    supervised.wait_for_restarts(2, DEADLINE).unwrap();
    let restarts = supervised.restarts();
    let error = restarts[0].error().unwrap();
    assert!(error.contains("ended before it was ready") && error.contains("no licence"), "{error}");
    assert!(restarts[1].why().contains("its last stop or restart failed"), "{restarts:?}");
    assert_eq!(restarts[1].error(), None);
    assert_eq!(who_answers(supervised.addr()), supervised.pid());
}

/// It would be waited for, for an hour.
#[test]
fn a_stop_calls_a_restart_off() {
    for stops in [true, false] {
        let mark = unique_mark();
        let marked = mark.clone();
        let builder = Server::with(move |ports| {
            let second_sleeps = "echo >>lives; [ $(wc -l <lives) = 1 ] || exec \"$0\" sleep; \
                                 exec \"$0\" serve";
            let mut command = shell(second_sleeps);
            command.env("PORT", ports.main().to_string()).current_dir(ports.dir());
            command.env(MARK, &marked);
            command
        });
        let supervised = builder.start_timeout(DEADLINE * 60).supervise(policy(1)).unwrap();
        let dir = fs::read_link(format!("/proc/{}/cwd", supervised.pid())).unwrap();
        kill(&supervised);
        let lives = || fs::read_to_string(dir.join("lives")).unwrap().lines().count();
        eventually("it is started again", || lives() == 2);
        // Who waits has a bound of his own.
        let (supervised, waited) = support::bounded(move || {
            let waited = supervised.wait_for_restarts(1, Duration::from_millis(20));
            (supervised, waited.unwrap_err().to_string())
        });
        assert!(waited.starts_with("server `sh` was started again 0 times in "), "{waited}");
        let ended = support::bounded(move || match stops {
            true => supervised.stop().is_err(), // its restart failed
            false => {
                drop(supervised);
                true
            }
        });
        assert!(ended);
        assert_eq!(processes_with(MARK, &mark), []);
        assert!(!dir.exists());
    }
}

#[test]
fn who_is_in_use_is_not_started_again() {
    let supervised = serves().supervise(policy(1)).unwrap();
    supervised.with(|server| {
        let pid = server.pid();
        server.signal(Signal::Kill).unwrap();
        server.wait(DEADLINE).unwrap().expect("it ends of SIGKILL");
        server.restart().unwrap(); // of the test's own
        assert_ne!(server.pid(), pid);
        server.signal(Signal::Kill).unwrap();
        server.wait(DEADLINE).unwrap().expect("it ends of SIGKILL");
        assert_eq!(supervised.restarts().len(), 0);
    });
    restarted(&supervised, &["it ended (signal: 9"]);
}

/// Whether a pause is as long as can be, or a check is at fault, nobody waits for a restart in vain.
#[test]
fn a_policy_without_looks_and_a_check_that_panics() {
    let supervised =
        serves().supervise(Supervision::restarts(1).check_every(Duration::MAX)).unwrap();
    kill(&supervised);
    restarted(&supervised, &["it ended (signal: 9"]);

    let checks = AtomicU32::new(0);
    let second_panics = move |_: &portlease::Ports| match checks.fetch_add(1, Ordering::Relaxed) {
        0 => true,
        _ => panic!("on purpose"),
    };
    let checked = serves().ready(Ready::when("it is well", second_panics));
    let supervised = checked.supervise(policy(1)).unwrap();
    let error = supervised.wait_for_restarts(1, DEADLINE).unwrap_err().to_string();
    assert!(error.contains("any more: the thread that looks after it panicked"), "{error}");
    assert_eq!(who_answers(supervised.addr()), supervised.pid());
}

/// It may well be ready: nobody knows.
#[test]
fn who_cannot_be_looked_at_is_not_started_again() {
    let mut command = shell("ulimit -n 64; exec \"$0\" supervise-without-descriptors");
    assert_eq!(support::stdout_of(&command.output().unwrap()), "[]");
}
