//! What is not to be had on Windows, and that this is said.

use portlease::{Server, Signal};

use super::server;
use super::support::child_command;

#[test]
fn what_is_not_to_be_had_is_said() {
    let command = child_command(&["serve"]);
    let error = Server::builder(command).inherit_port().start().unwrap_err();
    assert!(format!("{error:?}").contains("cannot be inherited on Windows"), "{error:?}");
    let server = server(&["serve"]).start().unwrap();
    let error = server.signal(Signal::User1).unwrap_err();
    assert!(format!("{error:?}").contains("Windows has no such signal"), "{error:?}");
    portlease::orphans().expect_err("nobody looks");
}
