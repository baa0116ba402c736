//! The harness is killed: no server is left, and its port is leased until it is gone.

mod support;

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use portlease::Holder;
use support::{OwnRegistry, TestChild, child_command, eventually, processes_with};

const MARK: &str = "PORTLEASE_TEST_MARK";

/// A harness whose whole offspring can be found by its environment.
fn harness(own: &OwnRegistry, way: &str, mark: &str) -> Command {
    let mut command = child_command(&["harness", &own.arg(), way]);
    command.env(MARK, mark).stderr(Stdio::null());
    command
}

/// Waits until nothing of a killed harness is left; meanwhile its port must be leased.
fn nothing_is_left(own: &OwnRegistry, mark: &str) {
    eventually("nothing of the harness is left", || {
        // In this order: whoever is seen below was there above, when it had to be leased.
        let leased = own.registry.list().unwrap();
        let left = processes_with(MARK, mark);
        assert!(left.is_empty() || !leased.is_empty(), "{left:?} are left without a lease");
        // Who is ending has lost its environment already, and may not have closed its files yet.
        left.is_empty() && leased.is_empty()
    });
}

fn unique_mark() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// From before its first spawn to after the server is ready: at a different microsecond each time.
#[test]
fn killed_at_any_moment_of_the_start() {
    let kills = std::env::var("PORTLEASE_TEST_KILLS").map_or(300, |kills| kills.parse().unwrap());
    // How long a whole start takes on this machine, now.
    let own = OwnRegistry::new();
    let start = Instant::now();
    let mark = unique_mark();
    let mut child = TestChild::spawn(harness(&own, "polite", &mark));
    while !child.line().expect("the harness failed").starts_with("serving") {}
    let whole_start = start.elapsed();
    child.kill();
    nothing_is_left(&own, &mark);

    let (before, during) = (AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        for worker in 0..4 {
            let (before, during) = (&before, &during);
            scope.spawn(move || {
                for kill in (worker..kills).step_by(4) {
                    let own = OwnRegistry::new();
                    let mark = unique_mark();
                    let mut child = TestChild::spawn(harness(&own, "polite", &mark));
                    // Spread evenly, in an order that does not follow the load of the machine.
                    let share = f64::from(kill * 97 % kills) / f64::from(kills);
                    thread::sleep(whole_start.mul_f64(share * 1.5));
                    std::process::Child::kill(&mut child).unwrap();
                    let mut said = String::new();
                    while let Some(line) = child.line() {
                        said = line;
                    }
                    match said.split(' ').next() {
                        Some("serving") => {}
                        Some("leased") => _ = during.fetch_add(1, Ordering::Relaxed),
                        _ => _ = before.fetch_add(1, Ordering::Relaxed),
                    }
                    child.wait().unwrap();
                    nothing_is_left(&own, &mark);
                }
            });
        }
    });
    let (before, during) = (before.into_inner(), during.into_inner());
    println!("{kills} kills: {before} before the lease, {during} before the server was ready");
    assert!(during > 0, "no kill hit the start");
}

#[test]
fn a_server_that_ignores_sigterm_keeps_its_lease_until_it_is_killed() {
    let own = OwnRegistry::new();
    let mark = unique_mark();
    let mut child = TestChild::spawn(harness(&own, "stubborn", &mark));
    while !child.line().expect("the harness failed").starts_with("serving") {}
    let leased: Vec<_> = own.registry.list().unwrap().iter().map(Holder::port).collect();
    child.kill();
    assert_eq!(own.registry.list().unwrap().iter().map(Holder::port).collect::<Vec<_>>(), leased);
    nothing_is_left(&own, &mark);
    // The port went without being released: it rests, but an exact lease gets it.
    drop(own.request().exact(leased[0]).wait(Duration::ZERO).lease().unwrap());
}

/// The watchdog asks before it kills, whatever its PATH is. (A server that is stopped by a signal
/// gets SIGHUP and SIGCONT from the kernel, when the death of the harness makes its group an orphan.)
#[test]
fn an_orphan_gets_time_to_tidy_up() {
    for path in [None, Some("/nowhere")] {
        let own = OwnRegistry::new();
        let mark = unique_mark();
        let tidied = own.dir.path().join("tidied");
        let mut command = harness(&own, "tidy", &mark);
        command.env("PORTLEASE_TEST_TIDY", &tidied);
        if let Some(path) = path {
            command.env("PATH", path);
        }
        let mut child = TestChild::spawn(command);
        while !child.line().expect("the harness failed").starts_with("serving") {}
        child.kill();
        nothing_is_left(&own, &mark);
        assert!(tidied.exists(), "PATH: {path:?}");
    }
}
