//! How a server and this process agree on its ports.

use std::path::PathBuf;

use super::report::Own;
use crate::sys::Protocol;

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
