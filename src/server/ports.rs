//! Which ports a server has.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::dir::Dir;

/// The ports of a server, and its directory, for the closure that makes its command.
#[derive(Clone, Debug)]
pub struct Ports {
    pub(super) host: IpAddr,
    pub(super) main: u16,
    pub(super) named: Vec<(String, u16)>,
    pub(super) dir: Arc<Dir>,
}

impl Ports {
    /// The port that the server shall listen on; 0 if it is to choose one.
    pub fn main(&self) -> u16 {
        self.main
    }

    /// The address that the server shall listen on: [`ServerBuilder::host`](crate::ServerBuilder::host),
    /// and the main port. As
    /// text, it is `127.0.0.1:20017`, or `[::1]:20017`.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.main)
    }

    /// A further port, of [`ServerBuilder::port`](crate::ServerBuilder::port) or
    /// [`ServerBuilder::env_port_named`](crate::ServerBuilder::env_port_named).
    pub fn get(&self, name: &str) -> Option<u16> {
        self.named.iter().find(|(known, _)| known == name).map(|&(_, port)| port)
    }

    pub(super) fn contain(&self, port: u16) -> bool {
        self.main == port || self.named.iter().any(|&(_, named)| named == port)
    }

    /// A directory for the server's files, in the system's directory for temporary ones. It is made,
    /// for this user alone, when it is first asked for; it is the same after a
    /// [`restart`](crate::Server::restart); and it is removed when the [`Server`](crate::Server) is gone,
    /// by the watchdog if this process was killed, but on Windows, where it stays then.
    ///
    /// A server that gives up being root (nginx's workers, PostgreSQL) cannot look into it, until
    /// [`chown`](std::os::unix::fs::chown) gives it to that user.
    ///
    /// If it cannot be made, [`start`](crate::ServerBuilder::start) fails.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file in the [directory](Ports::dir), or writes it anew, and returns its path. The
    /// name may have directories in it, which are made.
    ///
    /// If it cannot be written, [`start`](crate::ServerBuilder::start) fails.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::process::Command;
    /// use portlease::Server;
    ///
    /// let broker = Server::with(|ports| {
    ///     let (port, dir) = (ports.main(), ports.dir().display());
    ///     let config = format!("listener {port} 127.0.0.1\npersistence_location {dir}/\n");
    ///     let mut command = Command::new("mosquitto");
    ///     command.arg("-c").arg(ports.write_file("mosquitto.conf", config));
    ///     command
    /// })
    /// .start()?;
    /// # Ok::<(), portlease::Error>(())
    /// ```
    pub fn write_file(&self, name: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> PathBuf {
        self.dir.write(name.as_ref(), contents.as_ref())
    }

    /// All that it has, the main one first.
    pub(super) fn all(&self) -> impl Iterator<Item = u16> {
        let main = (self.main != 0).then_some(self.main);
        main.into_iter().chain(self.named.iter().map(|&(_, port)| port))
    }
}
