//! The same application as a program, `src/bin/web.rs`: as it runs in production, with its own runtime, its
//! own signals and its own end.

use std::error::Error;
use std::process::Command;

use portlease::tokio::Server;
use portlease::{Ready, ServerBuilder};

/// Cargo builds the program before the test, and says where it is.
fn web() -> ServerBuilder {
    let command = Command::new(env!("CARGO_BIN_EXE_web"));
    Server::builder(command).env_port("PORT").ready(Ready::http("/healthz"))
}

async fn get(url: String) -> reqwest::Result<String> {
    // Or `HTTP_PROXY`, which a CI machine may have set, would be asked for 127.0.0.1.
    let client = reqwest::Client::builder().no_proxy().build()?;
    client.get(url).send().await?.error_for_status()?.text().await
}

#[tokio::test]
async fn it_greets() -> Result<(), Box<dyn Error>> {
    let server = Server::start(web()).await?;
    assert_eq!(get(server.url("/hello/child")).await?, "hello, child");
    Ok(())
} // a thread ends it, and the test does not wait for that

#[tokio::test]
async fn it_shuts_down_when_it_is_asked_to() -> Result<(), Box<dyn Error>> {
    let server = Server::start(web()).await?;
    assert_eq!(get(server.url("/healthz")).await?, "ok");

    let stopped = server.stop().await?;
    assert!(stopped.success(), "{stopped:?}"); // by itself, and with exit status 0
    assert!(
        stopped.output().ends_with("shutting down\nall requests are answered\n"),
        "{stopped:?}"
    );
    Ok(())
}

#[tokio::test]
async fn it_comes_back_on_its_port() -> Result<(), Box<dyn Error>> {
    let mut server = Server::start(web()).await?;
    let url = server.url("/healthz"); // good for as long as `server` lives
    let first = server.pid();
    server.restart().await?;
    assert_ne!(server.pid(), first);
    assert_eq!(get(url).await?, "ok");
    Ok(())
}

/// `portlease::child` has it work in each of the ways.
#[tokio::test]
async fn it_may_choose_its_port_or_inherit_a_socket() -> Result<(), Box<dyn Error>> {
    let builder = || Server::builder(Command::new(env!("CARGO_BIN_EXE_web")));
    let chooses = Server::start(builder().report_port()).await?; // it prints `PORT=`
    assert_eq!(get(chooses.url("/healthz")).await?, "ok");
    let inherits = Server::start(builder().inherit_port()).await?; // its socket listens already
    assert_eq!(get(inherits.url("/healthz")).await?, "ok");
    Ok(())
}
