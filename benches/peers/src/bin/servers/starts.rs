//! From the command to a server that accepts: spawned bare, and with a watchdog, a cookie, readers and all.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use portlease::Server;
use portlease_peers::table::Table;

use crate::child::{self, Bare};
use crate::{table_of, turns};

/// In a process of so many megabytes, of which a fork would have to copy the page tables.
pub(crate) fn table(megabytes: usize, rounds: usize) -> Table {
    let ballast = vec![1_u8; megabytes << 20];
    let times = turns(
        rounds,
        &[
            ("spawned bare", &|_| bare()),
            ("`portlease::Server`", &|_| ours()),
            ("`portlease::tokio::Server`, awaited", &|_| awaited()),
        ],
    );
    drop(ballast);
    table_of(format!("Start until it accepts, in a process of {megabytes} MB"), times)
}

fn bare() -> Duration {
    let start = Instant::now();
    let (_server, address) = Bare::prompt();
    TcpStream::connect(address).expect("connect");
    start.elapsed()
}

fn ours() -> Duration {
    let start = Instant::now();
    let server = Server::builder(child::prompt()).report_port().start().expect("start");
    let time = start.elapsed();
    server.stop().expect("stop");
    time
}

/// On a runtime that is there already.
fn awaited() -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let start = Instant::now();
        let builder = Server::builder(child::prompt()).report_port();
        let server = portlease::tokio::Server::start(builder).await.expect("start");
        let time = start.elapsed();
        server.stop().await.expect("stop");
        time
    })
}
