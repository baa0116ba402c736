//! Leases under contention: between threads, between processes, and against `SIGKILL`.

mod support;

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use support::{Allotment, OwnRegistry, TestChild, child_command, eventually, is_wine};

/// 16 processes of 4 threads, 10 048 leases of 32 ports. That no port ever has two holders is
/// checked by a witness of its own: see `contend` in `support/child.rs`.
#[test]
fn never_two_holders() {
    let own = OwnRegistry::new();
    let block = Allotment::new();
    let witness = own.dir.path().join("witness");
    std::fs::create_dir(&witness).unwrap();
    let (first, last) = (block.first.to_string(), (block.first + 31).to_string());
    let arguments = ["contend", &own.arg(), witness.to_str().unwrap(), &first, &last, "157"];
    let mut children: Vec<_> =
        (0..16).map(|_| TestChild::spawn(child_command(&arguments))).collect();
    let mut exhausted = 0;
    let mut ended = Vec::new();
    for child in &mut children {
        match child.line() {
            Some(line) => {
                exhausted += line.strip_prefix("exhausted ").unwrap().parse::<u32>().unwrap();
            }
            None => ended.push(child.wait().unwrap().to_string()),
        }
    }
    assert!(ended.is_empty(), "of 16 processes, some ended early: {ended:?}; see above for why");
    children.into_iter().for_each(TestChild::finish);
    println!("the range was exhausted {exhausted} times");
    // Under wine, all else takes longer than a port is held for.
    assert!(exhausted > 0 || is_wine(), "the range was never exhausted: not much of a contention");
    assert_eq!(own.registry.list().unwrap(), []);
    let leases = own.request().range(block.first..=block.first + 31).lease_many(32).unwrap();
    assert_eq!(own.registry.list().unwrap().len(), leases.len());
}

/// Killed in the middle of whatever it is doing: taking, holding, releasing, between two steps.
#[test]
fn a_killed_holder_leaves_nothing_to_clean() {
    let own = OwnRegistry::new();
    let block = Allotment::new();
    let (first, last) = (block.first, block.first + 7);
    let arguments = ["churn", &own.arg(), &first.to_string(), &last.to_string()];
    for round in 0..25 {
        let mut children: Vec<_> =
            (0..4).map(|_| TestChild::spawn(child_command(&arguments))).collect();
        for child in &mut children {
            assert_eq!(child.line().as_deref(), Some("churning"));
        }
        thread::sleep(Duration::from_micros(137 * round)); // a different moment each time
        children.into_iter().for_each(TestChild::kill);
        if cfg!(windows) {
            // It frees their locks a moment after they have ended.
            eventually("the dead are no holders", || own.registry.list().unwrap().is_empty());
        }
        assert_eq!(own.registry.list().unwrap(), [], "the dead are no holders");
        let all = own.request().range(first..=last).lease_many(8);
        assert_eq!(all.expect("each port can be leased again at once").len(), 8);
    }
}

/// A child has copies of all descriptors of its parent until its exec. An exact port is released
/// and taken again while other threads spawn all the time.
#[cfg(unix)] // on Windows, a child has copies of nothing
#[test]
fn a_spawn_elsewhere_does_not_make_a_released_port_look_taken() {
    use std::process::Command;

    let own = OwnRegistry::new();
    let spawn = || {
        Command::new("true").status().unwrap();
    };
    support::meanwhile(4, spawn, || {
        let port = own.request().lease().unwrap().port();
        let leased: Result<Vec<_>, _> =
            (0..1000).map(|_| own.request().exact(port).lease().map(drop)).collect();
        leased.expect("a port that was released is free");
    });
}

/// Who waits is passed over by each other process at most once and a half, on whatever machine: turns are
/// counted, not milliseconds. But between what it says, that it asks, and its place in the line, a process may
/// be scheduled out for some turns, and for many if the machine is busy: then once more.
#[test]
fn twelve_in_line_each_get_their_turn() {
    let is_fair = (0..3).any(|_| most_passed_over() <= (PROCESSES - 1) * 3 / 2);
    assert!(is_fair, "somebody was passed over too often, three times");
}

const PROCESSES: usize = 12;

/// Each of the processes wants the port three times. How often the unluckiest was passed over.
fn most_passed_over() -> usize {
    let own = OwnRegistry::new();
    let block = Allotment::new();
    let log = own.dir.path().join("log");
    let arguments = ["queue", &own.arg(), &block.first.to_string(), log.to_str().unwrap(), "3"];
    let mut children: Vec<_> =
        (0..PROCESSES).map(|_| TestChild::spawn(child_command(&arguments))).collect();
    for child in &mut children {
        assert_eq!(child.line().as_deref(), Some("ready"));
    }
    children.iter_mut().for_each(TestChild::go);
    children.into_iter().for_each(TestChild::finish);

    let log = std::fs::read_to_string(log).unwrap();
    let mut passed_over: HashMap<&str, usize> = HashMap::new();
    let mut waits = Vec::new();
    for line in log.lines() {
        match line.split_once(' ').unwrap() {
            ("asks", process) => _ = passed_over.insert(process, 0),
            ("gets", process) => {
                waits.push(passed_over.remove(process).unwrap());
                passed_over.values_mut().for_each(|turns| *turns += 1);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(waits.len(), 3 * PROCESSES);
    let longest = waits.into_iter().max().unwrap();
    println!("passed over at most {longest} times");
    assert!(longest >= PROCESSES / 2, "they were not in line: {longest}");
    longest
}

#[test]
fn two_ports_in_opposite_orders_do_not_deadlock() {
    let own = OwnRegistry::new();
    let block = Allotment::new();
    let (one, two) = (block.first.to_string(), (block.first + 1).to_string());
    let spawn = |first: &str, second: &str| {
        TestChild::spawn(child_command(&["pair", &own.arg(), first, second, "50"]))
    };
    let mut children: Vec<_> =
        (0..4).flat_map(|_| [spawn(&one, &two), spawn(&two, &one)]).collect();
    for child in &mut children {
        assert_eq!(child.line().as_deref(), Some("done"));
    }
    children.into_iter().for_each(TestChild::finish);
}

#[cfg(target_os = "linux")] // by the hold
#[test]
fn registries_that_share_no_directory_exclude_each_other() {
    let (one, other) = (OwnRegistry::new(), OwnRegistry::new());
    let lease = one.request().lease().unwrap();
    let mut child =
        TestChild::spawn(child_command(&["hold-exact", &other.arg(), &lease.to_string(), "0"]));
    assert_eq!(child.line().as_deref(), Some("PortTaken"));
    child.finish();
    let port = lease.port();
    drop(lease);
    // A child of another test may still have a copy of the hold.
    let role = ["hold-exact", &other.arg(), &port.to_string(), "60"];
    let mut child = TestChild::spawn(child_command(&role));
    assert_eq!(child.line().as_deref(), Some("held"));
    assert!(one.request().exact(port).lease().is_err());
    child.finish();
}
