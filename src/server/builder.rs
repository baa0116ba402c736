//! What can be asked of a server. Configuration only: `Server` does the work.

use std::fmt;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Server;
use crate::error::Result;
use crate::lease::Lease;

/// The ports of a server, for the closure that makes its command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    pub(super) main: u16,
}

impl Ports {
    /// The port that the server shall listen on; 0 if it is to choose one and report it.
    pub fn main(&self) -> u16 {
        self.main
    }
}

/// Starts a server. Made by [`Server::builder`] and [`Server::with`].
#[must_use = "a builder starts nothing; finish it with `start()`"]
#[derive(Debug)]
pub struct ServerBuilder {
    pub(super) launch: Launch,
    pub(super) way: Option<Way>,
    pub(super) lease: Option<Lease>,
    pub(super) name: Option<String>,
    pub(super) start_timeout: Duration,
    pub(super) stop_grace: Duration,
}

/// How a server and this process agree on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It is leased, and told by this environment variable.
    Variable(String),
    /// It is leased, and put into the command by the closure.
    Closure,
    /// The server chooses it, and reports it.
    Report,
}

/// Where the command comes from, at each start.
pub(super) enum Launch {
    Command(Box<Command>),
    /// In a mutex only to be `Sync`: nobody locks it.
    Closure(Mutex<Box<MakeCommand>>),
}

type MakeCommand = dyn FnMut(&Ports) -> Command + Send;

impl Launch {
    /// Runs `start` with the command for a start on `ports`.
    pub(super) fn with_command<T>(
        &mut self,
        ports: &Ports,
        start: impl FnOnce(&mut Command) -> T,
    ) -> T {
        match self {
            Launch::Command(command) => start(command),
            Launch::Closure(make) => {
                let make = make.get_mut().unwrap_or_else(PoisonError::into_inner);
                start(&mut make(ports))
            }
        }
    }
}

impl ServerBuilder {
    pub(super) fn new(launch: Launch, way: Option<Way>) -> ServerBuilder {
        ServerBuilder {
            launch,
            way,
            lease: None,
            name: None,
            start_timeout: Duration::from_secs(30),
            stop_grace: Duration::from_secs(5),
        }
    }

    /// What the server is called in errors. The default is its program's file name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Leases a port, and tells it to the server by the environment variable `name`.
    pub fn env_port(mut self, name: impl Into<String>) -> Self {
        self.way = Some(Way::Variable(name.into()));
        self
    }

    /// Lets the server choose its port (it binds port 0), and takes it from a line of the form
    /// `PORT=40123` on its standard output.
    pub fn report_port(mut self) -> Self {
        self.way = Some(Way::Report);
        self
    }

    /// Uses this lease, instead of taking one.
    pub fn lease(mut self, lease: Lease) -> Self {
        self.lease = Some(lease);
        self
    }

    /// How long the server may take until it is ready. The default is 30 s.
    pub fn start_timeout(mut self, at_most: Duration) -> Self {
        self.start_timeout = at_most;
        self
    }

    /// How long the server may take to end after `SIGTERM`; then comes `SIGKILL`. The default is
    /// 5 s. When the test process was killed, it is at most 5 s.
    pub fn stop_grace(mut self, at_most: Duration) -> Self {
        self.stop_grace = at_most;
        self
    }

    /// Starts the server, and returns when it accepts connections.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput): nothing says how the server
    ///   gets its port.
    /// - [`ErrorKind::Spawn`](crate::ErrorKind::Spawn): the program cannot be executed.
    /// - [`ErrorKind::Exited`](crate::ErrorKind::Exited): it ended before it was ready; at once,
    ///   with the last it printed.
    /// - [`ErrorKind::NotReady`](crate::ErrorKind::NotReady): it was not ready in time; with the
    ///   last it printed.
    /// - What taking a lease can fail with.
    ///
    /// After an error, nothing of the server is left.
    pub fn start(self) -> Result<Server> {
        Server::start(self)
    }
}

impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Launch::Command(command) => command.fmt(f),
            Launch::Closure(_) => f.write_str("made by a closure"),
        }
    }
}
