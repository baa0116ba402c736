//! What holds on every system, asked of each on which tests can be run: of servers here, of leases in
//! `lease.rs` and `exclusive.rs` as well. It looks from outside only, by connections, files and lines.

#[path = "../support/mod.rs"]
mod support;

#[cfg(feature = "tokio")]
mod awaited;
mod child_half;
mod directory;
mod groups;
mod killed;
mod output;
mod places;
mod ready;
mod restarts;
mod servers;
mod supervision;
#[cfg(windows)]
mod unsupported;

use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::time::Duration;

use portlease::{Server, ServerBuilder};
use support::{child_command, is_wine};

/// A server by the child program, in this role, which is told its port by `PORT`.
fn server(role: &[&str]) -> ServerBuilder {
    told(child_command(role))
}

fn told(command: Command) -> ServerBuilder {
    not_asked_for_long(Server::builder(command).env_port("PORT"))
}

/// Under wine nobody hears that he is asked to end: each stop would take all of the grace.
fn not_asked_for_long(builder: ServerBuilder) -> ServerBuilder {
    if is_wine() { builder.stop_grace(Duration::from_millis(50)) } else { builder }
}

/// Whether somebody accepts connections there.
fn serves(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Where the worker of a server serves.
fn worker_in(line: &str) -> u16 {
    line.split_once("PORT=").unwrap().1.parse().unwrap()
}
