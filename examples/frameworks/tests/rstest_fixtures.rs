//! Servers as fixtures of rstest: one for each case, for each async test, or for all of them.

use std::process::Command;

use portlease::{Ready, Server, ServerBuilder};
use rstest::{fixture, rstest};

fn web() -> ServerBuilder {
    let command = Command::new(env!("CARGO_BIN_EXE_web"));
    Server::builder(command).env_port("PORT").ready(Ready::http("/healthz"))
}

fn get(url: String) -> String {
    // Or `HTTP_PROXY`, which a CI machine may have set, would be asked for 127.0.0.1.
    let agent = ureq::Agent::from(ureq::Agent::config_builder().proxy(None).build());
    agent.get(url).call().unwrap().body_mut().read_to_string().unwrap()
}

/// A server for each test that names it. The test owns it, so it is stopped with the test.
#[fixture]
fn server() -> Server {
    web().start().unwrap()
}

#[rstest]
#[case("one")]
#[case("another")]
fn each_case_has_a_server(server: Server, #[case] name: &str) {
    assert_eq!(get(server.url(&format!("/hello/{name}"))), format!("hello, {name}"));
}

#[fixture]
async fn awaited() -> portlease::tokio::Server {
    portlease::tokio::Server::start(web()).await.unwrap()
}

#[rstest]
#[tokio::test]
async fn an_async_test_has_one(#[future(awt)] awaited: portlease::tokio::Server) {
    let stopped = awaited.stop().await.unwrap();
    assert!(!stopped.forced(), "{stopped:?}");
}

/// One for all tests of a process: a static, which is never dropped, so that the watchdog ends it.
#[fixture]
#[once]
fn shared() -> Server {
    web().start().unwrap()
}

#[rstest]
#[case("one")]
#[case("another")]
fn all_cases_share_a_server(shared: &Server, #[case] name: &str) {
    let _log = shared.log_on_panic(); // what it printed, if this case fails
    assert_eq!(get(shared.url(&format!("/hello/{name}"))), format!("hello, {name}"));
}
