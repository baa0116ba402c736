//! A program whose port cannot be changed. Its tests wait in line for the port, whatever runs them; with
//! nextest, a group (`.config/nextest.toml`) keeps them from being started only to wait.

use std::os::unix::process::parent_id;
use std::process::Command;
use std::time::Duration;

use portlease::{Lease, Server};

/// Yours is a constant. This one is the same in all tests of a run, and differs from run to run.
fn fixed_port() -> u16 {
    20_000 + (parent_id() % 10_000) as u16
}

fn start() -> Server {
    let lease = Lease::builder().exact(fixed_port()).wait(Duration::from_secs(60)).lease().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_web"));
    command.env("PORT", fixed_port().to_string()); // yours knows its port
    Server::builder(command).lease(lease).start().unwrap() // which keeps the lease until it is gone
}

#[test]
fn one_test_has_it() {
    assert_eq!(start().port(), fixed_port());
}

#[test]
fn then_the_next() {
    assert_eq!(start().port(), fixed_port());
}
