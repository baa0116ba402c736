//! An axum application inside the test. It takes a listener, so it gets one: the kernel chose the port, and
//! since the socket exists from then on, there is no moment at which somebody else could have it.

use std::error::Error;
use std::net::SocketAddr;

use portlease_frameworks::app;

/// Serves until the test ends: with its runtime, the task goes, and with the task the socket.
async fn serve() -> portlease::Result<SocketAddr> {
    let bound = portlease::bind()?;
    let addr = bound.addr();
    let listener = bound.into_tokio()?;
    tokio::spawn(async move { axum::serve(listener, app()).await });
    Ok(addr)
}

async fn get(addr: SocketAddr, path: &str) -> reqwest::Result<String> {
    // Or `HTTP_PROXY`, which a CI machine may have set, would be asked for 127.0.0.1.
    let client = reqwest::Client::builder().no_proxy().build()?;
    client.get(format!("http://{addr}{path}")).send().await?.error_for_status()?.text().await
}

#[tokio::test]
async fn it_greets() -> Result<(), Box<dyn Error>> {
    let addr = serve().await?; // nothing to wait for: the socket listens already
    assert_eq!(get(addr, "/hello/axum").await?, "hello, axum");
    Ok(())
}

#[tokio::test]
async fn any_number_of_them_run_at_once() -> Result<(), Box<dyn Error>> {
    let (one, two) = tokio::try_join!(serve(), serve())?;
    assert_ne!(one.port(), two.port());
    assert_eq!(get(one, "/healthz").await?, "ok");
    assert_eq!(get(two, "/healthz").await?, "ok");
    Ok(())
}
