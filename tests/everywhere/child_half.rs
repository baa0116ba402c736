//! The child's half: one program, which asks for its listeners by `portlease::child`, under each way to agree
//! on a port that this system has.

use std::process::Command;

use portlease::{Server, ServerBuilder};

use super::not_asked_for_long;
use super::support::{
    DEADLINE, by_itself, child_command, child_path, fails, own_half_command, stdout_of, who_answers,
};

/// The ways that not every system has.
const HAS_INHERITED: bool = cfg!(unix);
const HAS_OBSERVED: bool = cfg!(target_os = "linux");

fn own_half(names: &[&str]) -> ServerBuilder {
    Server::builder(own_half_command(names)).name("api")
}

/// It serves on its main port, and on those of these names.
fn check(server: &Server, names: &[&str]) {
    let said = |variable: &str, port: u16| {
        let line = format!("{variable}={port}");
        let is_it = |text: &str| text == line;
        server.wait_for_line_where(&format!("that is {line}"), DEADLINE, is_it).unwrap();
    };
    assert_eq!(who_answers(server.addr()), server.pid());
    said("PORT", server.port());
    for name in names {
        let port = server.port_of(name).unwrap_or_else(|| panic!("no {name}: {server:?}"));
        assert_ne!(port, server.port());
        assert_eq!(who_answers(("127.0.0.1", port)), server.pid(), "{name}");
        said(&format!("{}_PORT", name.to_uppercase().replace('-', "_")), port);
    }
}

/// It serves so at its first start and at two more; on the same ports, if those are leased.
fn check_restarts(builder: ServerBuilder, names: &[&str], is_leased: bool) {
    let mut server = not_asked_for_long(builder).start().unwrap();
    let ports = |server: &Server| {
        let named = names.iter().map(|name| server.port_of(name));
        named.chain([Some(server.port())]).collect::<Vec<_>>()
    };
    let first = ports(&server);
    check(&server, names);
    for _ in 0..2 {
        server.restart().unwrap();
        check(&server, names);
        assert!(!is_leased || ports(&server) == first, "{first:?}, then {:?}", ports(&server));
    }
}

#[test]
fn one_program_in_each_way() {
    let activated = || {
        let mut command = portlease::socket_activated(child_path());
        command.arg("own-half");
        Server::builder(command)
    };
    check_restarts(own_half(&[]).env_port("PORT"), &[], true);
    check_restarts(own_half(&[]).report_port(), &[], false);
    if HAS_INHERITED {
        check_restarts(own_half(&[]).inherit_port(), &[], true);
        check_restarts(own_half(&[]).inherit_port().env_port("PORT"), &[], true);
        check_restarts(activated().inherit_port(), &[], true);
    }
    if HAS_OBSERVED {
        check_restarts(own_half(&[]).observe_port(), &[], false);
    }
}

/// As is written on it: its own way to end, too.
#[cfg(feature = "tokio")]
#[test]
fn one_program_on_tokio_in_each_way() {
    let names = &["grpc"];
    let program = || Server::builder(child_command(&["own-half-awaited", "grpc"]));
    let told = program().env_port("PORT").env_port_named("grpc", "GRPC_PORT");
    check_restarts(told, names, true);
    check_restarts(program().report_port(), names, false);
    if HAS_INHERITED {
        check_restarts(program().inherit_port().inherit_port_named("grpc"), names, true);
    }
    let alone = || Server::builder(child_command(&["own-half-awaited"]));
    if HAS_OBSERVED {
        check_restarts(alone().observe_port(), &[], false);
    }
    let stopped = not_asked_for_long(alone().env_port("PORT")).start().unwrap().stop().unwrap();
    let is_content = stopped.success() && stopped.output().ends_with("asked to end\n");
    assert!(is_content || super::support::is_wine(), "{stopped:?}");
}

#[test]
fn further_ports_in_each_way() {
    let names = &["grpc", "my-admin"];
    let program = || own_half(names);
    let told = |builder: ServerBuilder| {
        builder.env_port_named("grpc", "GRPC_PORT").env_port_named("my-admin", "MY_ADMIN_PORT")
    };
    let inherited =
        |builder: ServerBuilder| builder.inherit_port_named("grpc").inherit_port_named("my-admin");
    check_restarts(told(program().env_port("PORT")), names, true);
    check_restarts(program().report_port(), names, false);
    check_restarts(told(program().report_port()), names, false);
    if HAS_INHERITED {
        check_restarts(inherited(program().inherit_port()), names, true);
        // Each by a way of its own.
        check_restarts(inherited(program().env_port("PORT")), names, true);
        check_restarts(told(program().inherit_port()), names, true);
        check_restarts(inherited(program().report_port()), names, false);
        let mixed = program().env_port("PORT").env_port_named("grpc", "GRPC_PORT");
        check_restarts(mixed.inherit_port_named("my-admin"), names, true);
    }
}

#[test]
fn names_that_no_port_has() {
    for name in ["", "a:b", "a=b", "ä"] {
        let expected = format!(
            "InvalidInput: {name:?}: no port can have that name; use letters, digits, `_` and `-` of \
             ASCII"
        );
        fails(&mut by_itself(own_half_command(&[name])), &expected);
        fails(&mut by_itself(child_command(&["announce", name, "1"])), &expected);
    }
    let expected =
        "InvalidInput: \"main\" is the server's main port: use `listener()` and `announce(..)`";
    fails(&mut by_itself(own_half_command(&["main"])), expected);
}

#[test]
fn its_parts() {
    let says = |command: &mut Command| stdout_of(&command.output().unwrap());
    let asks = || by_itself(child_command(&["port-from-env"]));
    assert_eq!(says(&mut asks()), "None");
    assert_eq!(says(asks().env("PORT", "0")), "Some(0)");
    assert_eq!(says(asks().env("PORT", "65535")), "Some(65535)");
    assert_eq!(says(&mut child_command(&["announce", "40123"])), "PORT=40123");
    let announce = &["announce", "my-admin", "40124"];
    assert_eq!(says(&mut child_command(announce)), "MY_ADMIN_PORT=40124");
}
