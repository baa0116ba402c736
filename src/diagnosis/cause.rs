//! What keeps others from a port. Pure.

use super::{Bind, Diagnosis, Socket, SocketState};

/// What keeps others from a port; of several, the first of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// Somebody listens on it.
    Listening,
    /// It is leased, and nobody listens on it yet.
    Leased,
    /// Somebody has bound it, and does not listen.
    Bound,
    /// It is one end of a connection, of a client for instance.
    Connected,
    /// Somebody has bound it for UDP: a server, or a client whose own port it is. TCP may be free.
    Udp,
    /// The system does not let this process bind it.
    NotPermitted,
    /// Connections that are over: who sets `SO_REUSEADDR` can bind it, others after a minute.
    TimeWait,
    /// Nothing.
    Free,
    /// It cannot be told: neither the kernel's tables nor a bind say anything.
    Unknown,
}

pub(super) fn of(diagnosis: &Diagnosis) -> Cause {
    let sockets = || diagnosis.sockets.iter().filter(|it| !it.is_hold);
    let any = |state: SocketState| sockets().any(|it| !it.is_udp() && it.state() == state);
    if any(SocketState::Listening) {
        Cause::Listening
    } else if diagnosis.lease.is_some() {
        Cause::Leased
    } else if any(SocketState::Bound) {
        Cause::Bound
    } else if sockets().any(|it| it.state() == SocketState::Connected) {
        Cause::Connected
    } else if sockets().any(Socket::is_udp) {
        Cause::Udp
    } else if diagnosis.sockets.iter().any(Socket::is_hold) {
        Cause::Leased
    } else if any(SocketState::TimeWait) {
        Cause::TimeWait
    } else {
        match diagnosis.bind {
            Bind::Refused => Cause::Bound,
            Bind::NotPermitted => Cause::NotPermitted,
            Bind::Free => Cause::Free,
            Bind::NotAsked => Cause::Unknown,
        }
    }
}
