//! A server that is made of hyper alone: what accepts its connections is the test's own loop.

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

async fn echo(request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    Ok(Response::new(format!("you asked for {}", request.uri().path())))
}

/// Serves until the test ends.
async fn serve() -> portlease::Result<SocketAddr> {
    let bound = portlease::bind()?;
    let addr = bound.addr();
    let listener = bound.into_tokio()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(
                http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(echo)),
            );
        }
    });
    Ok(addr)
}

#[tokio::test]
async fn it_says_what_it_was_asked_for() -> Result<(), Box<dyn Error>> {
    let addr = serve().await?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let answer = client.get(format!("http://{addr}/some/path")).send().await?;
    assert_eq!(answer.text().await?, "you asked for /some/path");
    Ok(())
}
