//! Supervision: who dies is started again, a bounded number of times, and it is on record.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use portlease::{ErrorKind, Ready, Server, ServerBuilder, Signal, Supervised, Supervision};

use super::server;
use super::support::{DEADLINE, OwnRegistry, is_wine, who_answers};

/// What is on record of one that was killed.
const KILLED: &str = if cfg!(windows) { "it ended (exit code: 1)" } else { "it ended (signal: 9" };

fn serves() -> ServerBuilder {
    server(&["serve"])
}

/// Looks often.
fn policy(restarts: usize) -> Supervision {
    Supervision::restarts(restarts).check_every(Duration::from_millis(10))
}

fn kill(supervised: &Supervised) {
    supervised.with(|server| server.signal(Signal::Kill)).unwrap();
}

/// So many times it was killed and started again, and it came up each time.
fn restarted(supervised: &Supervised, times: usize) {
    supervised.wait_for_restarts(times, DEADLINE).unwrap();
    let restarts = supervised.restarts();
    assert_eq!(restarts.len(), times, "{restarts:?}");
    for restart in restarts {
        assert!(restart.why().contains(KILLED) && restart.error().is_none(), "{restart:?}");
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
    restarted(&supervised, 1);
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
    assert!(!supervised.stop().unwrap().forced() || is_wine());
    drop(own.request().exact(port).lease().unwrap());
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
    assert!(supervised.gave_up().unwrap().starts_with(KILLED));
    restarted(&supervised, 2);
    assert!(supervised.with(Server::try_wait).unwrap().is_some());
    supervised.stop().unwrap();
}

#[test]
fn who_is_in_use_is_not_started_again() {
    let supervised = serves().supervise(policy(1)).unwrap();
    supervised.with(|server| {
        let pid = server.pid();
        server.signal(Signal::Kill).unwrap();
        server.wait(DEADLINE).unwrap().expect("it is killed");
        server.restart().unwrap(); // of the test's own
        assert_ne!(server.pid(), pid);
        server.signal(Signal::Kill).unwrap();
        server.wait(DEADLINE).unwrap().expect("it is killed");
        assert_eq!(supervised.restarts().len(), 0);
    });
    restarted(&supervised, 1);
}

/// Whether a pause is as long as can be, or a check is at fault, nobody waits for a restart in vain.
#[test]
fn a_policy_without_looks_and_a_check_that_panics() {
    let supervised =
        serves().supervise(Supervision::restarts(1).check_every(Duration::MAX)).unwrap();
    kill(&supervised);
    restarted(&supervised, 1);

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
