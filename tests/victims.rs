//! Tests that end in each of the ways that a test can, with a server. They are run by
//! `tests/nextest.rs`, which knows what has to come of it.
#![cfg(target_os = "linux")] // shells, and looks into `/proc`

mod support;

use std::process::{self, Command};
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use portlease::{Server, ServerBuilder};
use support::{MARK, child_path};

static SERVER: LazyLock<Server> = LazyLock::new(server);

/// Takes longer to end than nextest waits for those who have a test's output.
fn builder() -> ServerBuilder {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "trap '' TERM; exec \"$0\" serve"]).arg(child_path());
    Server::builder(command).env_port("PORT").stop_grace(Duration::from_secs(3))
}

fn server() -> Server {
    let server = builder().start().unwrap();
    println!("serving on {}", server.port());
    server
}

#[test]
#[ignore = "a victim"]
fn passes_with_a_server_in_a_static() {
    LazyLock::force(&SERVER);
}

#[test]
#[ignore = "a victim"]
fn drops_a_server() {
    drop(server());
}

/// The drop does not wait, and the process ends.
#[cfg(feature = "tokio")]
#[tokio::test]
#[ignore = "a victim"]
async fn drops_an_awaited_server() {
    let server = portlease::tokio::Server::start(builder()).await.unwrap();
    println!("serving on {}", server.port());
}

#[test]
#[ignore = "a victim"]
fn panics_with_a_server() {
    let _server = server();
    panic!("as a failed assertion does");
}

#[test]
#[ignore = "a victim"]
fn panics_with_a_server_in_a_static() {
    LazyLock::force(&SERVER);
    panic!("as a failed assertion does");
}

#[test]
#[ignore = "a victim"]
fn exits_with_a_server() {
    let _server = server();
    process::exit(0);
}

#[test]
#[ignore = "a victim"]
fn aborts_with_a_server() {
    let _server = server();
    process::abort();
}

#[test]
#[ignore = "a victim"]
fn hangs_with_a_server() {
    let _server = server();
    loop {
        thread::park();
    }
}

/// Shows that a leak would be seen.
#[test]
#[ignore = "a victim"]
fn leaks_its_output() {
    #[allow(clippy::zombie_processes)]
    Command::new("sleep").arg("5").env_remove(MARK).spawn().unwrap();
}
