//! A harness that is killed, and what is left of it: nothing.

use portlease::Lease;

use super::support::{DEADLINE, OwnRegistry, TestChild, child_command, eventually};
use super::{serves, worker_in};

#[test]
fn a_harness_that_is_killed_takes_all_of_it_with_it() {
    let own = OwnRegistry::new();
    for _ in 0..3 {
        let mut command = child_command(&["plain-harness"]);
        own.lend_to(&mut command);
        let mut harness = TestChild::spawn(command);
        let line = harness.line_after("serving ");
        let port: u16 = line.split(' ').next().unwrap().parse().unwrap();
        let worker = worker_in(&line);
        assert!(serves(port) && serves(worker));
        harness.kill();
        eventually("both are gone", || !serves(port) && !serves(worker));
        let again = Lease::builder().registry(&own.registry).exact(port).wait(DEADLINE).lease();
        drop(again.expect("the port is free"));
    }
}
