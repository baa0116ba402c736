//! Whether the one who listens is ours.
//!
//! Asked of the kernel, without a connection: a server that serves one connection would be used up
//! by it, and a stranger must not get a byte. Two programs that both set `SO_REUSEPORT` share one
//! port, so all sockets that a client could reach have to be ours.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};

use super::look::Look;
use super::process::{Process, describe};
use crate::diagnose;
use crate::diagnosis::{Cause, Diagnosis, Role, Socket, SocketState, Unseen};
use crate::sys::{self, ProcessEntry, ProcessId, Protocol, SocketEntry};

/// Who listens where a server should.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Listening {
    /// The server, and nobody else.
    Ours,
    /// Nobody whom a client would reach. Text: who listens on the port beside it, if somebody does.
    Nobody(Option<String>),
    /// Somebody who is not of the server. Text: who.
    Stranger(String),
    /// Somebody of whom cannot be told who he is. Text: as what he is to be seen.
    CannotTell(String),
}

/// Looks who listens where a client of `addr` gets to; of UDP, who is bound there. `before`: the inodes
/// of the sockets that listened on the port before the server was started.
///
/// Who cannot be told (another user's process, one with privileges of its own) is taken for ours if
/// the socket came after the start, and was opened by a user whom the server acts for.
///
/// # Errors
///
/// The kernel's tables cannot be looked at.
pub(super) fn look(
    process: &mut Process,
    protocol: Protocol,
    addr: SocketAddr,
    before: &[u32],
    output_is_open: bool,
) -> io::Result<Listening> {
    let listeners = sys::servers(protocol, Some(addr.port()))?;
    let (reachable, beside): (Vec<_>, Vec<_>) =
        listeners.into_iter().partition(|socket| socket.reaches(addr.ip()));
    if reachable.is_empty() {
        let beside: Vec<_> = beside.iter().map(|socket| socket.local.to_string()).collect();
        return Ok(Listening::Nobody((!beside.is_empty()).then(|| beside.join(" and "))));
    }
    // Most servers are one process: then there is no need to look at all, which takes a millisecond.
    let child = process.pid();
    if reachable.iter().all(|socket| has_it(child, socket)) {
        return Ok(Listening::Ours);
    }
    let all = Look::now()?;
    let mut ours = process.family(&all).living;
    for socket in reachable {
        if has_one(&ours, &socket) {
            continue;
        }
        ours = process.family_with_escaped(&all, output_is_open).living;
        if has_one(&ours, &socket) {
            continue;
        }
        if let Some(owner) = owner(&all.all, &socket) {
            return Ok(Listening::Stranger(format!("{} on {}", describe(owner), socket.local)));
        }
        let of_our_user = ours.iter().any(|it| sys::process_uid(it.id.pid) == Some(socket.uid));
        if before.contains(&socket.inode) || !of_our_user {
            let seen = format!("somebody (uid {}) on {}", socket.uid, socket.local);
            return Ok(Listening::CannotTell(seen));
        }
    }
    Ok(Listening::Ours)
}

/// Who else is on a `port` that the server wants, if somebody is, or may be; 0: it has none.
pub(super) fn others_on(
    process: &mut Process,
    port: u16,
    output_is_open: bool,
) -> Option<Diagnosis> {
    // A bind would be in the server's way, and what it says is said of the server too.
    let seen = Some(port).filter(|&port| port != 0).map(diagnose::look_at_sockets)?;
    let diagnosis = with_own(process, seen, output_is_open);
    let is_late = |it: &Socket| it.unseen == Some(Unseen::NoTime); // so it may be the server's
    let is_own = |it: &Socket| it.owners().iter().any(|owner| process.has(owner.pid()));
    let is_others = |it: &Socket| !it.is_hold() && !is_late(it) && !is_own(it);
    // Nobody has the connections that the server has not accepted.
    let in_the_way = |it: &Socket| match it.state() {
        SocketState::Listening | SocketState::Bound => is_others(it),
        _ => is_others(it) && !it.owners().is_empty(),
    };
    diagnosis.sockets().iter().any(in_the_way).then_some(diagnosis)
}

/// The same for a server that has ended: no bind is in its way now, which tells where nobody can look.
pub(super) fn others_on_after_end(
    process: &mut Process,
    port: u16,
    output_is_open: bool,
) -> Option<Diagnosis> {
    if sys::CAN_LOOK || port == 0 {
        return others_on(process, port, output_is_open);
    }
    let seen = diagnose::look_beside_hold(port);
    (seen.cause() == Cause::Bound).then_some(seen)
}

/// A diagnosis that knows the server's processes, also those who have wiped the cookie from their
/// environment, as nginx does.
pub(super) fn with_own(
    process: &mut Process,
    mut diagnosis: Diagnosis,
    output_is_open: bool,
) -> Diagnosis {
    let owners = || diagnosis.sockets().iter().flat_map(Socket::owners);
    if owners().next().is_none() {
        return diagnosis;
    }
    // After the sockets were looked at: who was started in between is known then. Where nobody can be
    // looked at, nobody is known as an owner.
    if let Ok(all) = Look::now() {
        process.family_with_escaped(&all, output_is_open);
    }
    let harness = std::process::id();
    let owners = diagnosis.sockets.iter_mut().flat_map(|socket| &mut socket.owners);
    for owner in owners.filter(|owner| process.has(owner.pid())) {
        owner.role = Role::Server { harness };
    }
    diagnosis
}

/// The sockets that serve where a client of `ip` gets to, and are not among those `before`.
///
/// # Errors
///
/// The kernel's tables cannot be looked at.
pub(super) fn new_listeners(
    protocol: Protocol,
    ip: IpAddr,
    before: &[u32],
) -> io::Result<Vec<SocketEntry>> {
    let mut listeners = sys::servers(protocol, None)?;
    listeners.retain(|socket| socket.reaches(ip) && !before.contains(&socket.inode));
    Ok(listeners)
}

/// The ports of those `listeners` that are the child's own.
pub(super) fn ports_of_child(process: &Process, listeners: &[SocketEntry]) -> BTreeSet<u16> {
    if listeners.is_empty() {
        return BTreeSet::new();
    }
    ports_of(&sys::sockets_of(process.pid()).unwrap_or_default(), listeners)
}

/// The ports of those `listeners` that are the server's.
///
/// # Errors
///
/// The processes cannot be looked at.
pub(super) fn ports_of_all(
    process: &mut Process,
    listeners: &[SocketEntry],
    output_is_open: bool,
) -> io::Result<BTreeSet<u16>> {
    if listeners.is_empty() {
        return Ok(BTreeSet::new());
    }
    Ok(ports_of(&sockets_of_all(process, output_is_open)?, listeners))
}

/// Where the server listens beside `ports`. If it chooses its main port, only where no client of `ip`
/// gets to: any other may be its choice.
///
/// # Errors
///
/// The kernel's tables, or the processes, cannot be looked at.
pub(super) fn elsewhere(
    process: &mut Process,
    ip: IpAddr,
    ports: &[u16],
    chooses: bool,
    output_is_open: bool,
) -> io::Result<BTreeSet<SocketAddr>> {
    let mut listeners = sys::servers(Protocol::Tcp, None)?;
    listeners.retain(|socket| !ports.contains(&socket.local.port()));
    listeners.retain(|socket| !chooses || !socket.reaches(ip));
    let inodes = sockets_of_all(process, output_is_open)?;
    Ok(owned(&inodes, &listeners).map(|socket| socket.local).collect())
}

/// The inodes of the sockets that the server's processes have.
fn sockets_of_all(process: &mut Process, output_is_open: bool) -> io::Result<Vec<u64>> {
    let look = Look::now()?;
    let family = process.family_with_escaped(&look, output_is_open).living;
    Ok(family.iter().flat_map(|it| sys::sockets_of(it.id.pid).unwrap_or_default()).collect())
}

fn ports_of(inodes: &[u64], listeners: &[SocketEntry]) -> BTreeSet<u16> {
    owned(inodes, listeners).map(|socket| socket.local.port()).collect()
}

fn owned<'a>(
    inodes: &[u64],
    listeners: &'a [SocketEntry],
) -> impl Iterator<Item = &'a SocketEntry> {
    listeners.iter().filter(|socket| inodes.contains(&u64::from(socket.inode)))
}

fn has_one(processes: &[ProcessEntry], socket: &SocketEntry) -> bool {
    owner(processes, socket).is_some()
}

fn owner(processes: &[ProcessEntry], socket: &SocketEntry) -> Option<ProcessId> {
    processes.iter().map(|entry| entry.id).find(|id| has_it(id.pid, socket))
}

fn has_it(pid: u32, socket: &SocketEntry) -> bool {
    sys::has_socket(pid, &[u64::from(socket.inode)]).unwrap_or(false)
}

#[cfg(test)]
#[cfg(target_os = "linux")] // elsewhere, nobody looks
mod tests {
    use std::fs::File;
    use std::net::TcpListener;
    use std::os::fd::OwnedFd;
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::patience::eventually;
    use crate::sys::Watchdog;

    /// As another user's is not, or one in another pid namespace: here, the socket waits in the queue of
    /// another, and no process has it.
    #[test]
    fn a_listener_whose_owner_is_not_to_be_seen_is_another() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let port = listener.local_addr().expect("its address").port();
        let null = File::open("/dev/null").expect("/dev/null");
        let queued = vec![File::from(OwnedFd::from(listener)), null];
        let watchdog = Watchdog::spawn(queued, Duration::ZERO, Path::new(""));
        let mut process = Process::sleeping(watchdog.expect("a shell"));
        // A child of another test may have it for a moment, between its fork and its exec.
        eventually(|| match others_on(&mut process, port, false) {
            Some(seen) if seen.sockets().iter().all(|it| it.owners().is_empty()) => Ok(()),
            seen => Err(format!("{seen:?}")),
        });
        process.sweep();
        process.close();
    }
}
