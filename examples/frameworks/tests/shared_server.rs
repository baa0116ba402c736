//! One server for all tests of a binary, for one that takes long to start.
//!
//! Statics are never dropped, so nobody stops it in the end. Its watchdog does: it sees that the test process
//! is gone, sends SIGTERM, and SIGKILL once the grace is over. The port stays leased until then, so the next
//! test binary, which may be running already, gets another.
//!
//! With `cargo test`, it is one server for this file; with nextest, whose tests are processes, one for each
//! test that asks for it.

use std::process::Command;
use std::sync::LazyLock;

use portlease::{Ready, Server, ServerBuilder};
use tokio::sync::OnceCell;

fn web() -> ServerBuilder {
    let command = Command::new(env!("CARGO_BIN_EXE_web"));
    Server::builder(command).env_port("PORT").ready(Ready::http("/healthz"))
}

static WEB: LazyLock<Server> = LazyLock::new(|| web().start().unwrap());

fn get(path: &str) -> Result<String, ureq::Error> {
    // Or `HTTP_PROXY`, which a CI machine may have set, would be asked for 127.0.0.1.
    let agent = ureq::Agent::from(ureq::Agent::config_builder().proxy(None).build());
    agent.get(WEB.url(path)).call()?.body_mut().read_to_string()
}

#[test]
fn it_greets() {
    let _log = WEB.log_on_panic(); // what it printed, if this test fails
    assert_eq!(get("/hello/all").unwrap(), "hello, all");
}

#[test]
fn it_has_nothing_else() {
    let _log = WEB.log_on_panic();
    assert!(matches!(get("/goodbye"), Err(ureq::Error::StatusCode(404))));
}

/// The same for async tests. Each has a runtime of its own; the server needs none, and outlives them.
static AWAITED: OnceCell<portlease::tokio::Server> = OnceCell::const_new();

async fn awaited() -> &'static portlease::tokio::Server {
    AWAITED.get_or_init(|| async { portlease::tokio::Server::start(web()).await.unwrap() }).await
}

#[tokio::test]
async fn it_is_there_for_one_runtime() {
    let server = awaited().await;
    let _log = server.log_on_panic();
    tokio::net::TcpStream::connect(server.addr()).await.unwrap();
}

#[tokio::test]
async fn and_for_another() {
    let server = awaited().await;
    let _log = server.log_on_panic();
    tokio::net::TcpStream::connect(server.addr()).await.unwrap();
}
