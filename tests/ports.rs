//! Ports that the server chooses: what it says of them, and what it listens on.

mod support;

use std::net::TcpListener;
use std::time::Duration;

use portlease::{Error, ErrorKind, Ready, Server, ServerBuilder};
use support::{child_command, who_answers};

/// A server that listens on so many ports, and prints `text` with them.
fn chooses(count: u32, stream: &str, text: &str) -> ServerBuilder {
    Server::builder(child_command(&["chooses", &count.to_string(), stream, text])).name("api")
}

/// Starts it, and checks that its first port is taken for the main one.
fn check(builder: ServerBuilder) {
    drop(checked(builder));
}

fn checked(builder: ServerBuilder) -> Server {
    let server = builder.start().unwrap();
    assert_eq!(who_answers(server.addr()), server.pid());
    server
}

fn fails(builder: ServerBuilder) -> Error {
    let error = builder.start_timeout(Duration::from_secs(2)).start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady, "{error}");
    error
}

#[test]
fn it_is_reported_on_either_stream_in_a_usual_form() {
    for text in [
        "PORT={0}",
        "starting\nPORT={0}\nstarted",
        r#"{"level":"info","msg":"listening","port":{0}}"#,
        "\u{1b}[32m  Local:\u{1b}[39m   http://127.0.0.1:\u{1b}[1m{0}\u{1b}[22m/",
        "Serving HTTP on 127.0.0.1 port {0}",
        "\u{fffd}listening on [::ffff:127.0.0.1]:{0}",
    ] {
        check(chooses(1, "stdout", text).report_port());
        check(chooses(1, "stderr", text).report_port());
    }
}

#[test]
fn a_form_of_its_own() {
    let own = |line: &str| line.strip_prefix("~")?.parse().ok();
    check(chooses(1, "stdout", "~{0}").report_port_where(own));
    // By then, no other form counts.
    check(chooses(2, "stdout", "PORT={1}\n~{0}").report_port_where(own));
}

#[test]
fn of_two_ports_the_main_one_is_taken() {
    let inspector = "Debugger listening on ws://127.0.0.1:{1}/4711\nListening on port {0}";
    check(chooses(2, "stderr", inspector).report_port());
    let better = "listening on 127.0.0.1:{1}\nhttp://127.0.0.1:{0}/";
    check(chooses(2, "stdout", better).report_port());
    let server = checked(chooses(2, "stdout", "GRPC_PORT={1}\nPORT={0}").report_port());
    let grpc = server.port_of("grpc").unwrap();
    assert_ne!(grpc, server.port());
    assert_eq!(server.port_of("metrics"), None);
}

#[test]
fn two_of_one_kind_are_an_error_with_both_lines() {
    let both = "ready at http://127.0.0.1:{0}/\nready at http://127.0.0.1:{1}/";
    let error = fails(chooses(2, "stdout", both).report_port()).to_string();
    assert!(error.contains("which port is its own? it reports "), "{error}");
    assert_eq!(error.matches("\"ready at http://127.0.0.1:").count(), 2, "{error}");
}

/// Not its own: it is said, and somebody listens on it, but another.
#[test]
fn the_port_of_somebody_else_does_not_count() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let others = other.local_addr().unwrap().port();
    let text = format!("PORT={others}\nPORT={{0}}");
    check(chooses(1, "stdout", &text).report_port());
    let error = fails(chooses(0, "stdout", &format!("PORT={others}")).report_port());
    let expected =
        format!("it reports port {others} (\"PORT={others}\"), where it does not listen");
    assert!(error.to_string().contains(&expected), "{error}");
    let builder = chooses(0, "stdout", &format!("PORT={others}")).report_port();
    // Unless it is meant: somebody else serves the port for it.
    assert_eq!(builder.ready(Ready::connects()).start().unwrap().port(), others);
}

#[test]
fn what_is_no_port() {
    for text in ["PORT=0", "PORT=99999", "PORT="] {
        let error = fails(chooses(0, "stdout", text).report_port());
        assert!(error.to_string().contains("it has not printed its port"), "{error}");
    }
}

/// Its output is held back in a buffer, perhaps.
#[test]
fn one_that_says_nothing_has_the_port_on_which_it_listens() {
    check(chooses(1, "stdout", "started").report_port());
    let error = fails(chooses(2, "stdout", "started").report_port()).to_string();
    assert!(error.contains("which port is its own? it listens on "), "{error}");
}

#[test]
fn it_is_observed() {
    let mut server = checked(chooses(1, "stdout", "").observe_port());
    server.restart().unwrap();
    assert_eq!(who_answers(server.addr()), server.pid());
    let error = fails(chooses(2, "stdout", "").observe_port()).to_string();
    assert!(error.contains("which port is its own? it listens on "), "{error}");
    let error = fails(chooses(0, "stdout", "").observe_port()).to_string();
    assert!(error.contains("it does not listen on any port"), "{error}");
}
