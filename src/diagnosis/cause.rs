//! What keeps others from a port. Pure.

use super::{Bind, Diagnosis, Socket, SocketState};

/// What keeps others from a port; of several, the first of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// Somebody listens on it, or serves it by UDP.
    Listening,
    /// It is leased, and nobody listens on it yet.
    Leased,
    /// Somebody has bound it, and does not listen.
    Bound,
    /// It is one end of a connection, of a client for instance.
    Connected,
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
    let any =
        |state: SocketState| diagnosis.sockets.iter().any(|it| !it.is_hold && it.state() == state);
    let serves_udp = |it: &Socket| it.is_udp() && it.state() == SocketState::Bound;
    if any(SocketState::Listening) || diagnosis.sockets.iter().any(serves_udp) {
        Cause::Listening
    } else if diagnosis.lease.is_some() || diagnosis.sockets.iter().any(Socket::is_hold) {
        Cause::Leased
    } else if any(SocketState::Bound) {
        Cause::Bound
    } else if any(SocketState::Connected) {
        Cause::Connected
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
