//! Two gRPC servers that need each other's address: each has to be told a port on which nothing listens yet.
//! Two leases are two ports that stay ours until the servers bind them, and while one of them is down.

use std::error::Error;
use std::process::Command;
use std::time::Duration;

use portlease::tokio::Server;
use portlease::{Lease, ServerBuilder, Signal};
use tonic::transport::Endpoint;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

fn peer(name: &str, own: Lease, other: u16) -> ServerBuilder {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peer"));
    command.env("PEER_PORT", other.to_string());
    Server::builder(command).name(name).env_port("PORT").lease(own)
}

#[tokio::test]
async fn each_knows_whether_the_other_is_there() -> Result<(), Box<dyn Error>> {
    let [left, right] = portlease::leases()?;
    let (left_port, right_port) = (left.port(), right.port());
    let (left, mut right) = tokio::try_join!(
        Server::start(peer("left", left, right_port)),
        Server::start(peer("right", right, left_port)),
    )?;
    wait_until_peer_is(ServingStatus::Serving, &left).await?;
    wait_until_peer_is(ServingStatus::Serving, &right).await?;

    right.signal(Signal::Kill)?;
    wait_until_peer_is(ServingStatus::NotServing, &left).await?;

    // The port that `left` was told at its start is still that of `right`, and nobody had it meanwhile.
    right.restart().await?;
    wait_until_peer_is(ServingStatus::Serving, &left).await?;
    Ok(())
}

/// Waits for what a server says of its peer; the health service has a stream for this.
async fn wait_until_peer_is(status: ServingStatus, server: &Server) -> Result<(), Box<dyn Error>> {
    let channel = Endpoint::from_shared(server.url("/"))?.connect().await?;
    let request = HealthCheckRequest { service: "peer".to_owned() };
    let mut answers = HealthClient::new(channel).watch(request).await?.into_inner();
    let wait = async {
        while let Some(answer) = answers.message().await? {
            if answer.status == status as i32 {
                return Ok(());
            }
        }
        Err(tonic::Status::unavailable("the stream has ended"))
    };
    Ok(tokio::time::timeout(Duration::from_secs(30), wait).await??)
}
