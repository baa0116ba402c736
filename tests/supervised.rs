//! Supervision: who is not ready any more is started again, and it is on record. Of those who die: `everywhere`.
#![cfg(target_os = "linux")] // shells, and looks into `/proc`

mod support;

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use portlease::{Ready, Server, ServerBuilder, Signal, Supervised, Supervision};
use support::{DEADLINE, MARK, eventually, processes_with, shell, unique_mark, who_answers};

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
fn who_is_not_ready_any_more_is_started_again() {
    let well = Ready::when("it is well", |ports| !ports.dir().join("sick").exists());
    // The line is of the first life only.
    let ready = well.and(Ready::line("first")).and(Ready::file("up"));
    let lives = "rm -f sick; [ -e up ] || echo first; echo $$ >>up; echo first; exec \"$0\" serve";
    let supervised = script(lives).ready(ready).supervise(policy(1)).unwrap();
    let dir = fs::read_link(format!("/proc/{}/cwd", supervised.pid())).unwrap();
    fs::write(dir.join("sick"), "").unwrap();
    restarted(&supervised, &["it was not ready any more for "]);
    let why = supervised.restarts()[0].why().to_owned();
    let seconds = why.strip_prefix("it was not ready any more for ").expect(&why);
    let seconds = seconds.strip_suffix(" s: it is not so that it is well").expect(&why);
    assert!(seconds.parse::<f64>().is_ok(), "{why}"); // 0. and something, if nothing is late
    // The old one was gone before.
    let pids = fs::read_to_string(dir.join("up")).unwrap();
    assert_eq!(pids.lines().last().unwrap(), supervised.pid().to_string());
    assert_eq!(who_answers(supervised.addr()), supervised.pid());
    assert_eq!(supervised.url("a"), format!("http://{}/a", supervised.addr()));
}

#[test]
fn who_is_not_ready_for_a_moment_is_left_alone() {
    static IS_WELL: AtomicBool = AtomicBool::new(true);
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let well = Ready::when("it is well", |_| {
        ASKED.fetch_add(1, Ordering::Relaxed);
        IS_WELL.load(Ordering::Relaxed)
    });
    let policy = policy(1).unready_for(DEADLINE);
    let supervised = script("exec \"$0\" serve").ready(well).supervise(policy).unwrap();
    for is_well in [false, true] {
        IS_WELL.store(is_well, Ordering::Relaxed);
        let before = ASKED.load(Ordering::Relaxed);
        eventually("it is asked thrice", || ASKED.load(Ordering::Relaxed) >= before + 3);
    }
    assert!(supervised.restarts().is_empty(), "{:?}", supervised.restarts());
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

/// It may well be ready: nobody knows.
#[test]
fn who_cannot_be_looked_at_is_not_started_again() {
    let mut command = shell("ulimit -n 64; exec \"$0\" supervise-without-descriptors");
    assert_eq!(support::stdout_of(&command.output().unwrap()), "[]");
}
