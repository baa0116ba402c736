//! What is needed at each start of a server.

use std::env;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::dir::Dir;
use super::ports::Ports;
use super::ready::Ready;
use super::report::Own;
use crate::error::{Error, ErrorKind, Result};
use crate::lease::Lease;
use crate::sys::{Heirloom, Protocol, Signal};

/// Names a directory into which the output of each server is copied.
pub(super) const LOG_DIR_VARIABLE: &str = "PORTLEASE_LOG_DIR";

/// What is needed at each start.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) launch: Launch,
    pub(super) way: Option<Way>,
    pub(super) host: IpAddr,
    /// What tells the main port.
    pub(super) variables: Vec<String>,
    /// By what the main port is served; further ones are for TCP.
    pub(super) transport: Transport,
    /// Further leased ports.
    pub(super) named: Vec<Named>,
    pub(super) name: Option<String>,
    pub(super) ready: Ready,
    pub(super) handoff: Handoff,
    pub(super) start_timeout: Duration,
    /// By somebody who does not want it any more.
    pub(super) called_off: Arc<AtomicBool>,
    /// `None`: the one that is usual for the program.
    pub(super) stop_signal: Option<Signal>,
    pub(super) stop_grace: Duration,
    pub(super) pipe_stdin: bool,
    pub(super) log_dir: Option<PathBuf>,
    /// In whose command it is, once it was started; a closure's is new each time.
    pub(super) heirloom: Option<Heirloom>,
    pub(super) dir: Arc<Dir>,
}

impl Config {
    pub(super) fn new(launch: Launch, way: Option<Way>) -> Config {
        let log_dir = env::var_os(LOG_DIR_VARIABLE).filter(|dir| !dir.is_empty());
        Config {
            launch,
            way,
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            variables: Vec::new(),
            transport: Transport::Tcp,
            named: Vec::new(),
            name: None,
            ready: Ready::listening(),
            handoff: Handoff::Hold,
            start_timeout: Duration::from_secs(30),
            called_off: Arc::default(),
            stop_signal: None,
            stop_grace: Duration::from_secs(5),
            pipe_stdin: false,
            log_dir: log_dir.map(PathBuf::from),
            heirloom: None,
            dir: Arc::new(Dir::new()),
        }
    }

    /// By what its ports are served.
    pub(super) fn protocols(&self) -> &'static [Protocol] {
        match self.transport {
            Transport::Udp if !self.named.is_empty() => Transport::Both.protocols(),
            transport => transport.protocols(),
        }
    }

    /// Whether it inherits any socket.
    pub(super) fn inherits(&self) -> bool {
        let one = |named: &Named| matches!(named.told, Told::Socket);
        matches!(self.way, Some(Way::Inherit)) || self.named.iter().any(one)
    }

    /// The leases that a server needs, the main one first: the one that was `given`, and those that are
    /// taken now.
    pub(super) fn leases(&self, given: Option<Lease>) -> Result<Vec<Lease>> {
        let needs_one = match &self.way {
            None => {
                return Err(invalid(
                    "nothing says how the server gets its port: use `env_port(\"PORT\")`, \
                     `report_port()` or `observe_port()`, or `Server::with` for a port in its arguments; \
                     for a program whose port is fixed, `lease(..)`; for one that has none, `no_port()`",
                ));
            }
            Some(Way::Lease | Way::Inherit) => true,
            Some(_) if given.is_some() => {
                return Err(invalid(
                    "the server shall have a lease, and choose its port itself or have none: use either \
                     `lease(..)`, or one of `report_port()`, `observe_port()` and `no_port()`",
                ));
            }
            Some(_) => false,
        };
        let named = self.named.iter().filter_map(|named| match &named.told {
            Told::Variable(variable) => Some(variable),
            Told::Socket | Told::Closure => None,
        });
        for variable in self.variables.iter().chain(named) {
            if variable.is_empty() || variable.contains(['=', '\0']) {
                let message = format!("{variable:?}: no environment variable can have that name");
                return Err(invalid(message));
            }
        }
        for Named { name, .. } in &self.named {
            if name.is_empty() || name.contains([':', '\0']) {
                return Err(invalid(format!("{name:?}: no port can have that name")));
            }
        }
        if self.inherits() && self.transport != Transport::Tcp {
            return Err(invalid("a socket that is inherited is for TCP: use it without `udp()`"));
        }
        let missing = self.named.len() + usize::from(needs_one && given.is_none());
        let request = match self.transport {
            Transport::Tcp => Lease::builder(),
            Transport::Udp | Transport::Both => Lease::builder().udp(),
        };
        let request = match &self.name {
            Some(name) => request.label(name),
            None => request,
        };
        let taken = if missing == 0 { Vec::new() } else { request.lease_many(missing)? };
        Ok(given.into_iter().chain(taken).collect())
    }
}

/// What becomes of the kernel's hold on a leased port when the server starts; see
/// [`ServerBuilder::handoff`](crate::ServerBuilder::handoff).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Handoff {
    /// It stays, and lets in who sets `SO_REUSEADDR` before binding, as nearly all servers do.
    #[default]
    Hold,
    /// It is let go before the start, for a server that does not.
    Release,
}

/// By what a port is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Udp,
    Both,
}

impl Transport {
    pub(super) fn protocols(self) -> &'static [Protocol] {
        match self {
            Transport::Tcp => &[Protocol::Tcp],
            Transport::Udp => &[Protocol::Udp],
            Transport::Both => &[Protocol::Tcp, Protocol::Udp],
        }
    }
}

/// How a server and this process agree on a port.
#[derive(Clone, Debug)]
pub(super) enum Way {
    /// It is leased, and told by environment variables, or put into the command by the closure.
    Lease,
    /// It is leased, and a socket that listens on it is inherited.
    Inherit,
    /// The server chooses it, and reports it.
    Report(Source),
    /// The server chooses it, and says nothing.
    Observe,
    /// There is none.
    None,
}

/// A further port.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) told: Told,
}

/// How the server learns of a further port.
#[derive(Clone, Debug)]
pub(super) enum Told {
    /// By the closure that makes its command.
    Closure,
    /// By an environment variable.
    Variable(String),
    /// It inherits the socket.
    Socket,
}

/// Where a server reports its port.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// In its output, in a form of its own or in a usual one.
    Output(Option<Own>),
    /// In a file.
    File(PathBuf),
}

impl Way {
    /// Whether the port is leased.
    pub(super) fn is_leased(&self) -> bool {
        matches!(self, Way::Lease | Way::Inherit)
    }

    /// Whether the server chooses its port itself.
    pub(super) fn is_servers_choice(&self) -> bool {
        matches!(self, Way::Report(_) | Way::Observe)
    }
}

/// Where the command comes from, at each start.
pub(super) enum Launch {
    Command(Box<Command>),
    /// In a mutex only to be `Sync`: nobody locks it.
    Closure(Mutex<Box<MakeCommand>>),
}

type MakeCommand = dyn FnMut(&Ports) -> io::Result<Command> + Send;

/// The command of one start.
pub(super) enum Made<'a> {
    Same(&'a mut Command),
    Anew(Command),
}

impl Launch {
    pub(super) fn by(make: impl FnMut(&Ports) -> io::Result<Command> + Send + 'static) -> Launch {
        Launch::Closure(Mutex::new(Box::new(make)))
    }

    /// Whether its command is the same at each start.
    pub(super) fn is_the_same(&self) -> bool {
        matches!(self, Launch::Command(_))
    }

    /// The command for a start on `ports`.
    ///
    /// # Errors
    ///
    /// Those of the closure.
    pub(super) fn command(&mut self, ports: &Ports) -> io::Result<Made<'_>> {
        match self {
            Launch::Command(command) => Ok(Made::Same(command)),
            Launch::Closure(make) => {
                let make = make.get_mut().unwrap_or_else(PoisonError::into_inner);
                make(ports).map(Made::Anew)
            }
        }
    }
}

impl Deref for Made<'_> {
    type Target = Command;

    fn deref(&self) -> &Command {
        match self {
            Made::Same(command) => command,
            Made::Anew(command) => command,
        }
    }
}

impl DerefMut for Made<'_> {
    fn deref_mut(&mut self) -> &mut Command {
        match self {
            Made::Same(command) => command,
            Made::Anew(command) => command,
        }
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Launch::Command(command) => command.fmt(f),
            Launch::Closure(_) => f.write_str("made by a closure"),
        }
    }
}
