//! A gRPC service inside the test, on a listener whose port the kernel chose. The service is the one for
//! health that tonic has ready-made; yours is added in the same way.

use std::error::Error;
use std::net::SocketAddr;

use tonic::Code;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::server::{HealthReporter, health_reporter};

/// Serves until the test ends.
async fn serve() -> portlease::Result<(SocketAddr, HealthReporter)> {
    let (reporter, health) = health_reporter();
    let bound = portlease::bind()?;
    let addr = bound.addr();
    let incoming = TcpIncoming::from(bound.into_tokio()?);
    tokio::spawn(Server::builder().add_service(health).serve_with_incoming(incoming));
    Ok((addr, reporter))
}

#[tokio::test]
async fn it_says_which_service_is_serving() -> Result<(), Box<dyn Error>> {
    let (addr, reporter) = serve().await?;
    let channel = Endpoint::from_shared(format!("http://{addr}"))?.connect().await?;
    let mut client = HealthClient::new(channel);
    let request = || HealthCheckRequest { service: "shop".to_owned() };

    assert_eq!(client.check(request()).await.unwrap_err().code(), Code::NotFound);
    reporter.set_service_status("shop", ServingStatus::Serving).await;
    let answer = client.check(request()).await?.into_inner();
    assert_eq!(answer.status, ServingStatus::Serving as i32);
    Ok(())
}
