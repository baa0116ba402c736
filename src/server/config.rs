//! What is needed at each start of a server.

use std::env;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::command::Launch;
use super::dir::Dir;
use super::ready::Ready;
use super::way::{Handoff, Named, Told, Transport, Way};
use crate::error::{Error, ErrorKind, Result};
use crate::lease::{Lease, LeaseBuilder};
use crate::sys::{self, Heirloom, Protocol, Signal};

/// Names a directory into which the output of each server is copied.
pub(super) const LOG_DIR_VARIABLE: &str = "PORTLEASE_LOG_DIR";

/// Set by somebody who does not want a start any more.
pub(crate) type CalledOff = Arc<AtomicBool>;

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
    pub(super) called_off: CalledOff,
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

    /// For a lease of its own.
    pub(super) fn request(&self) -> LeaseBuilder {
        let request = match self.transport {
            Transport::Tcp => Lease::builder(),
            Transport::Udp | Transport::Both => Lease::builder().udp(),
        };
        match &self.name {
            Some(name) => request.label(name),
            None => request,
        }
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
            Some(Way::Observe) if !sys::CAN_LOOK => {
                return Err(invalid(
                    "on which port a server listens can be looked at on Linux only: let it print its \
                     port, and use `report_port()`, or tell it one with `env_port(\"PORT\")`",
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
        for variable in self.variables.iter().chain(named.clone()) {
            if variable.is_empty() || variable.contains(['=', '\0']) {
                let message = format!("{variable:?}: no environment variable can have that name");
                return Err(invalid(message));
            }
        }
        for (place, variable) in named.clone().enumerate() {
            let before = named.clone().take(place);
            if self.variables.iter().chain(before).any(|other| is_same_variable(other, variable)) {
                return Err(invalid(format!("two ports are told by the variable `{variable}`")));
            }
        }
        for (place, Named { name, .. }) in self.named.iter().enumerate() {
            if name.is_empty() || name.contains([':', '\0']) {
                return Err(invalid(format!("{name:?}: no port can have that name")));
            }
            if self.named[..place].iter().any(|other| other.name == *name) {
                return Err(invalid(format!("two ports of the server have the name `{name}`")));
            }
        }
        if self.inherits() && self.transport != Transport::Tcp {
            return Err(invalid("a socket that is inherited is for TCP: use it without `udp()`"));
        }
        let missing = self.named.len() + usize::from(needs_one && given.is_none());
        let taken = if missing == 0 { Vec::new() } else { self.request().lease_many(missing)? };
        Ok(given.into_iter().chain(taken).collect())
    }
}

/// Windows does not tell upper case from lower.
fn is_same_variable(one: &str, other: &str) -> bool {
    if cfg!(windows) { one.eq_ignore_ascii_case(other) } else { one == other }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}
