//! What holds on every system, asked of each on which tests can be run: of servers here, of leases in
//! `lease.rs` and `exclusive.rs`. It looks from outside only, by connections.

mod support;

use std::net::{Ipv4Addr, TcpListener, TcpStream};

use portlease::{ErrorKind, Lease, Ready, Server};
use support::{
    DEADLINE, OwnRegistry, TestChild, child_command, eventually, stdout_of, who_answers,
};

fn serves(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Where the worker of a server serves.
fn worker_in(line: &str) -> u16 {
    line.split_once("PORT=").unwrap().1.parse().unwrap()
}

#[test]
fn it_serves_on_the_port_that_it_is_told_and_is_gone_after_its_stop() {
    let server = Server::builder(child_command(&["serve"])).env_port("PORT").start().unwrap();
    let port = server.port();
    assert_eq!(who_answers(server.addr()), server.pid());
    let stopped = server.stop().unwrap();
    assert!(stopped.output().contains("serving"), "{}", stopped.output());
    assert!(!serves(port));
}

#[test]
fn what_it_started_goes_with_it() {
    let command = child_command(&["serve-with-worker"]);
    let server = Server::builder(command).env_port("PORT").start().unwrap();
    let worker = worker_in(server.wait_for_line("WORKER", DEADLINE).unwrap().text());
    assert!(serves(worker));
    server.stop().unwrap();
    assert!(!serves(worker));
}

#[test]
fn it_ends_when_it_is_dropped() {
    let server = Server::builder(child_command(&["serve"])).env_port("PORT").start().unwrap();
    let port = server.port();
    drop(server);
    assert!(!serves(port));
}

#[test]
fn what_somebody_listens_on_is_not_free() {
    let own = OwnRegistry::new();
    let lease = own.request().lease().unwrap();
    assert!(portlease::check([lease.addr()])[0].is_free(), "our own lease");
    let _listener = lease.bind().unwrap();
    assert!(!portlease::check([lease.addr()])[0].is_free());
}

/// It does not bind it, so that nothing but the lease keeps others away.
#[test]
fn its_port_is_leased_for_as_long_as_it_lives() {
    let own = OwnRegistry::new();
    let lease = own.request().lease().unwrap();
    let port = lease.port();
    let sleeps = Server::builder(child_command(&["sleep"])).env_port("PORT").lease(lease);
    let mut server = sleeps.ready(Ready::at_once()).start().unwrap();
    for _ in 0..2 {
        let refused = own.request().exact(port).lease().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::PortTaken, "{refused}");
        assert_eq!(own.registry.list().unwrap().len(), 1);
        server.restart().unwrap();
    }
    server.stop().unwrap();
    assert_eq!(own.registry.list().unwrap(), []);
}

#[test]
fn a_restart_keeps_its_port() {
    let mut server = Server::builder(child_command(&["serve"])).env_port("PORT").start().unwrap();
    let (port, pid) = (server.port(), server.pid());
    for _ in 0..3 {
        server.restart().unwrap();
        assert_eq!((server.port(), who_answers(server.addr())), (port, server.pid()));
    }
    assert_ne!(server.pid(), pid);
}

#[test]
fn a_port_of_its_own_choice() {
    let server = Server::builder(child_command(&["serve"])).report_port().start().unwrap();
    assert_eq!(who_answers(server.addr()), server.pid());
}

#[test]
fn one_that_ends_is_an_error_with_its_output() {
    let command = child_command(&["no-such-role"]);
    let error = Server::builder(command).env_port("PORT").start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exited, "{error}");
    assert!(error.output().unwrap().contains("no-such-role"), "{error:?}");
}

#[test]
fn one_that_is_not_there_is_an_error() {
    let command = std::process::Command::new("no-such-program-of-portlease");
    let error = Server::builder(command).env_port("PORT").start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Spawn, "{error}");
}

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

#[test]
fn a_port_that_is_in_use_is_not_called_free() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let diagnosis = portlease::diagnose(port);
    assert!(!diagnosis.is_free(), "{diagnosis}");
    assert!(diagnosis.to_string().starts_with(&format!("port {port} is in use\n")), "{diagnosis}");
    drop(listener);
    let free = stdout_of(&child_command(&["diagnose", &port.to_string()]).output().unwrap());
    assert!(free.starts_with("Free"), "{free}");
}

#[cfg(windows)]
#[test]
fn what_is_not_to_be_had_is_said() {
    let command = child_command(&["serve"]);
    let error = Server::builder(command).inherit_port().start().unwrap_err();
    assert!(format!("{error:?}").contains("cannot be inherited on Windows"), "{error:?}");
    let server = Server::builder(child_command(&["serve"])).env_port("PORT").start().unwrap();
    let error = server.signal(portlease::Signal::User1).unwrap_err();
    assert!(format!("{error:?}").contains("Windows has no such signal"), "{error:?}");
    portlease::orphans().expect_err("nobody looks");
}
