//! Servers: they serve where it was agreed, and are gone afterwards, with all that they started.

use std::process::Command;
use std::time::Duration;

use portlease::{ErrorKind, Ready, Server, ServerBuilder, Signal};

use super::support::twin::{Twin, table};
use super::support::{DEADLINE, OwnRegistry, child_command, eventually, who_answers};
use super::{not_asked_for_long, server, serves, worker_in};

table! {
    it_serves_on_the_port_that_it_is_told_and_is_gone_after_its_stop,
    what_it_started_goes_with_it,
    it_ends_when_it_is_dropped,
    its_port_is_leased_for_as_long_as_it_lives,
    a_port_of_its_own_choice,
    one_that_ends_is_an_error_with_its_output,
    one_that_is_not_there_is_an_error,
    one_that_ends_because_its_port_is_in_use_is_told_so,
    a_kill_of_one_that_has_ended_is_lost,
    what_makes_no_sense_is_said,
}

fn it_serves_on_the_port_that_it_is_told_and_is_gone_after_its_stop<S: Twin>() {
    let server = S::start(server(&["serve"])).unwrap();
    let port = server.port();
    assert_eq!(who_answers(server.addr()), server.pid());
    let stopped = server.stop().unwrap();
    assert!(stopped.output().contains("serving"), "{}", stopped.output());
    assert!(!serves(port));
}

fn what_it_started_goes_with_it<S: Twin>() {
    let server = S::start(server(&["serve-with-worker"])).unwrap();
    let worker = worker_in(server.wait_for_line("WORKER", DEADLINE).unwrap().text());
    assert!(serves(worker));
    server.stop().unwrap();
    assert!(!serves(worker));
}

fn it_ends_when_it_is_dropped<S: Twin>() {
    let server = S::start(server(&["serve"])).unwrap();
    let port = server.port();
    drop(server);
    assert!(!serves(port));
}

/// It does not bind it, so that nothing but the lease keeps others away.
fn its_port_is_leased_for_as_long_as_it_lives<S: Twin>() {
    let own = OwnRegistry::new();
    let lease = own.request().lease().unwrap();
    let port = lease.port();
    let sleeps = server(&["sleep"]).lease(lease).ready(Ready::at_once());
    let mut server = S::start(sleeps).unwrap();
    for _ in 0..2 {
        let refused = own.request().exact(port).lease().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::PortTaken, "{refused}");
        assert_eq!(own.registry.list().unwrap().len(), 1);
        server.restart().unwrap();
    }
    server.stop().unwrap();
    assert_eq!(own.registry.list().unwrap(), []);
}

fn a_port_of_its_own_choice<S: Twin>() {
    let builder = Server::builder(child_command(&["serve"])).report_port();
    let server = S::start(not_asked_for_long(builder)).unwrap();
    assert_eq!(who_answers(server.addr()), server.pid());
}

fn one_that_ends_is_an_error_with_its_output<S: Twin>() {
    let error = S::start(server(&["no-such-role"])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exited, "{error}");
    assert!(error.output().unwrap().contains("no-such-role"), "{error:?}");
}

fn one_that_is_not_there_is_an_error<S: Twin>() {
    let command = Command::new("no-such-program-of-portlease");
    let error = S::start(Server::builder(command).env_port("PORT")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Spawn, "{error}");
}

/// As it says itself; and where nobody can look who has the port, a bind confirms it.
fn one_that_ends_because_its_port_is_in_use_is_told_so<S: Twin>() {
    let own = OwnRegistry::new();
    let lease = own.request().lease().unwrap();
    let port = lease.port();
    let _stranger = lease.bind().unwrap();
    // Where nobody can look who accepts, the stranger would do.
    let never = Ready::listening().and(Ready::when("it is told", |_| false));
    let error = S::start(server(&["serve"]).lease(lease).ready(never)).unwrap_err();
    assert_eq!((error.kind(), error.port()), (ErrorKind::PortTaken, Some(port)), "{error:?}");
}

fn a_kill_of_one_that_has_ended_is_lost<S: Twin>() {
    let server = S::start(server(&["serve"])).unwrap();
    eventually("it is gone", || {
        server.signal(Signal::Kill).unwrap();
        !serves(server.port())
    });
    server.signal(Signal::Kill).unwrap();
}

fn what_makes_no_sense_is_said<S: Twin>() {
    let error = S::start(Server::builder(child_command(&["serve"]))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("env_port"), "{error}");
    let lease = portlease::lease().unwrap();
    for name in ["", "A=B", "A\0"] {
        let builder = Server::builder(child_command(&["serve"])).env_port(name);
        let error = S::start(builder).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    let serves = || Server::builder(child_command(&["serve"])).env_port("PORT").port("a");
    let fails = |builder: ServerBuilder, text: &str| {
        let error = S::start(builder.start_timeout(Duration::ZERO)).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::InvalidInput, text));
    };
    fails(serves().port("a"), "two ports of the server have the name `a`");
    let main = serves().env_port_named("b", "PORT");
    fails(main, "two ports are told by the variable `PORT`");
    let twice = serves().env_port_named("b", "B").env_port_named("c", "B");
    fails(twice, "two ports are told by the variable `B`");
    let both = Server::builder(child_command(&["serve"])).report_port().lease(lease);
    assert_eq!(S::start(both).unwrap_err().kind(), ErrorKind::InvalidInput);
}
