//! Which ports a server has.

use std::net::{IpAddr, SocketAddr};

/// The ports of a server, for the closure that makes its command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    pub(super) host: IpAddr,
    pub(super) main: u16,
    pub(super) named: Vec<(String, u16)>,
}

impl Ports {
    /// The port that the server shall listen on; 0 if it is to choose one.
    pub fn main(&self) -> u16 {
        self.main
    }

    /// The address that the server shall listen on: [`ServerBuilder::host`](crate::ServerBuilder::host), and the main port. As
    /// text, it is `127.0.0.1:20017`, or `[::1]:20017`.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.main)
    }

    /// A further port, of [`ServerBuilder::port`](crate::ServerBuilder::port) or
    /// [`ServerBuilder::env_port_named`](crate::ServerBuilder::env_port_named).
    pub fn get(&self, name: &str) -> Option<u16> {
        self.named.iter().find(|(known, _)| known == name).map(|&(_, port)| port)
    }

    /// All that it has, the main one first.
    pub(super) fn all(&self) -> impl Iterator<Item = u16> {
        let main = (self.main != 0).then_some(self.main);
        main.into_iter().chain(self.named.iter().map(|&(_, port)| port))
    }
}
