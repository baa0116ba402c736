//! What is not to be had on Windows, and that this is said.

use portlease::{ErrorKind, Server, Signal};

use super::server;
use super::support::child_command;

#[test]
fn what_is_not_to_be_had_is_said() {
    let command = child_command(&["serve"]);
    let error = Server::builder(command).inherit_port().start().unwrap_err();
    assert!(format!("{error:?}").contains("cannot be inherited on Windows"), "{error:?}");
    let error = Server::builder(child_command(&["serve"])).observe_port().start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("can be looked at on Linux only"), "{error}");
    let error = server(&["serve"]).env_port_named("admin", "Port").start().unwrap_err();
    assert_eq!(error.to_string(), "two ports are told by the variable `Port`");
    let server = server(&["serve"]).start().unwrap();
    let error = server.signal(Signal::User1).unwrap_err();
    assert!(format!("{error:?}").contains("Windows has no such signal"), "{error:?}");
    portlease::orphans().expect_err("nobody looks");
}
