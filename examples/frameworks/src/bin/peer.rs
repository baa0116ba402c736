//! A gRPC server that needs another one like it: it listens on `PORT`, and asks the one on `PEER_PORT` all
//! the time whether it is there. Its health service answers for itself, and for `peer`.

use std::env;
use std::error::Error;
use std::time::Duration;

use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::server::HealthReporter;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = env::var("PORT")?.parse()?;
    let peer: u16 = env::var("PEER_PORT")?.parse()?;
    let peer = Endpoint::from_shared(format!("http://127.0.0.1:{peer}"))?.connect_lazy();

    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("peer", ServingStatus::NotServing).await;
    tokio::spawn(ask(peer, reporter));

    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    Server::builder().add_service(health).serve_with_incoming(TcpIncoming::from(listener)).await?;
    Ok(())
}

async fn ask(peer: Channel, reporter: HealthReporter) {
    let mut peer = HealthClient::new(peer);
    loop {
        let status = match peer.check(HealthCheckRequest::default()).await {
            Ok(_) => ServingStatus::Serving,
            Err(_) => ServingStatus::NotServing,
        };
        reporter.set_service_status("peer", status).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
