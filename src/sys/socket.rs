//! One socket as the kernel describes it, and what is looked for.

use std::net::{IpAddr, SocketAddr};

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

impl SocketEntry {
    /// Whether a client of `ip` may get to it, if it serves.
    pub(crate) fn reaches(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical(); // a client of ::ffff:127.0.0.1 connects to 127.0.0.1
        let only_v6 = self.only_v6 == Some(true);
        match (ip, self.local.ip()) {
            (IpAddr::V4(ip), IpAddr::V4(local)) => local == ip || local.is_unspecified(),
            (IpAddr::V6(ip), IpAddr::V6(local)) => local == ip || local.is_unspecified(),
            (IpAddr::V4(ip), IpAddr::V6(local)) => match local.to_ipv4_mapped() {
                Some(mapped) => mapped == ip || mapped.is_unspecified(),
                // If nobody says whether it is open to IPv4, it may be.
                None => local.is_unspecified() && !only_v6,
            },
            (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    /// Whether it and a socket bound to `ip` would have an address in common. `[::]` is taken for both
    /// families, as most servers have it.
    pub(crate) fn overlaps(&self, ip: IpAddr) -> bool {
        let is_of_v4 = |ip: IpAddr| match ip {
            IpAddr::V4(_) => true,
            IpAddr::V6(ip) => ip.to_ipv4_mapped().is_some(),
        };
        let any = match ip.to_canonical() {
            IpAddr::V6(ip) if ip.is_unspecified() => true,
            IpAddr::V4(ip) if ip.is_unspecified() => {
                is_of_v4(self.local.ip()) || self.reaches(IpAddr::V4(ip))
            }
            _ => false,
        };
        any || self.reaches(ip)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(local: &str, only_v6: Option<bool>) -> SocketEntry {
        let local = SocketAddr::new(local.parse().expect("an address"), 80);
        let any = SocketAddr::new(local.ip(), 0);
        let (protocol, state) = (Protocol::Tcp, State::Listen);
        SocketEntry { protocol, state, local, remote: any, inode: 1, uid: 0, only_v6, queue: 0 }
    }

    fn check(ip: &str, local: &str, only_v6: Option<bool>, expected: bool) {
        let socket = socket(local, only_v6);
        assert_eq!(socket.reaches(ip.parse().expect("an address")), expected, "{ip}: {socket:?}");
    }

    #[test]
    fn which_sockets_a_client_gets_to() {
        check("127.0.0.1", "127.0.0.1", None, true);
        check("127.0.0.1", "0.0.0.0", None, true);
        check("127.0.0.1", "127.0.0.2", None, false);
        check("127.0.0.1", "::", Some(false), true);
        check("127.0.0.1", "::", None, true);
        check("127.0.0.1", "::", Some(true), false);
        check("127.0.0.1", "::1", Some(false), false);
        check("127.0.0.1", "::ffff:127.0.0.1", Some(false), true);
        check("127.0.0.1", "::ffff:127.0.0.2", Some(false), false);
        check("127.0.0.1", "::ffff:0.0.0.0", Some(false), true);
        check("::1", "::1", Some(true), true);
        check("::1", "::", Some(true), true);
        check("::1", "0.0.0.0", None, false);
        check("::1", "127.0.0.1", None, false);
        check("::ffff:127.0.0.1", "127.0.0.1", None, true);
        check("::ffff:127.0.0.1", "0.0.0.0", None, true);
        check("::ffff:127.0.0.1", "::", Some(true), false);
    }

    #[test]
    fn which_addresses_have_one_in_common() {
        let check = |ip: &str, local: &str, only_v6: Option<bool>, expected: bool| {
            let socket = socket(local, only_v6);
            let overlaps = socket.overlaps(ip.parse().expect("an address"));
            assert_eq!(overlaps, expected, "{ip}: {socket:?}");
        };
        check("127.0.0.1", "127.0.0.1", None, true);
        check("127.0.0.1", "127.0.0.2", None, false);
        check("127.0.0.1", "0.0.0.0", None, true);
        check("0.0.0.0", "127.0.0.2", None, true);
        check("0.0.0.0", "::", Some(false), true);
        check("0.0.0.0", "::", Some(true), false);
        check("0.0.0.0", "::ffff:127.0.0.1", Some(false), true);
        check("0.0.0.0", "::1", Some(false), false);
        check("::", "127.0.0.1", None, true);
        check("::", "::1", Some(true), true);
        check("::1", "::", Some(true), true);
        check("::1", "127.0.0.1", None, false);
    }
}
