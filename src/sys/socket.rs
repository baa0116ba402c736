//! One socket as the kernel describes it, and what is looked for.

use std::net::SocketAddr;

/// The most that is taken of one table: a server with more connections than this has them left out.
pub(super) const MAX_SOCKETS: usize = 100_000;

/// One socket, as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SocketEntry {
    pub(crate) protocol: Protocol,
    pub(crate) state: State,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    /// By which descriptors name it (`socket:[77]`). 0: no process has it any more, as in TIME_WAIT.
    pub(crate) inode: u32,
    /// The user who opened it.
    pub(crate) uid: u32,
    /// Whether an IPv6 socket keeps to IPv6; `None` if that could not be told.
    pub(crate) only_v6: Option<bool>,
    /// How many connections wait to be accepted, if it listens; else how many bytes to be read.
    pub(crate) queue: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

/// The states that make a difference to who wants a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Listen,
    /// Neither listens nor is connected. The state of UDP servers.
    Bound,
    TimeWait,
    /// A connection in any other state, which ends with its two programs.
    Connected,
}

impl State {
    /// From the kernel's `tcp_states.h`, whose numbers UDP sockets have too.
    pub(super) fn from_number(number: u8) -> State {
        match number {
            LISTEN => State::Listen,
            TIME_WAIT => State::TimeWait,
            CLOSE | BOUND_INACTIVE => State::Bound,
            _ => State::Connected,
        }
    }
}

const TIME_WAIT: u8 = 6;
pub(super) const CLOSE: u8 = 7;
pub(super) const LISTEN: u8 = 10;
const BOUND_INACTIVE: u8 = 13;

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Only those by which somebody serves: of TCP, who listens; of UDP, who is bound and not connected.
    pub(crate) serving: Option<Protocol>,
    /// Only those whose own port this is.
    pub(crate) port: Option<u16>,
}

impl Wanted {
    pub(super) fn includes(&self, entry: &SocketEntry) -> bool {
        let serves = match self.serving {
            None => true,
            Some(Protocol::Tcp) => entry.state == State::Listen,
            Some(Protocol::Udp) => entry.state == State::Bound,
        };
        let serves = serves && self.serving.is_none_or(|protocol| protocol == entry.protocol);
        serves && self.port.is_none_or(|port| entry.local.port() == port)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}
