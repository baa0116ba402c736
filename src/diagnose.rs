//! Looks who has a port.
//!
//! Three sources are joined: the registry (who leased it), the kernel's tables (which sockets are on it),
//! and `/proc` (whose they are: `process`). "Nobody", "somebody who is not to be seen", and "it cannot
//! be looked at" are different answers.

mod check;
mod process;

pub use self::check::{Check, check};

use std::io;
use std::time::Duration;

use crate::diagnosis::{Bind, Diagnosis, LeaseOf, Owner, Socket, Unseen};
use crate::hold::Binder;
use crate::registry::{Registry, slot};
use crate::sys::{self, Protocol, SocketEntry, State, Wanted};

/// How many sockets are told of, and how many owners of each.
const MAX_SOCKETS: usize = 16;
const MAX_OWNERS: usize = 4;

/// How long the owners are looked for.
const AT_MOST: Duration = Duration::from_millis(400);

/// Looks who has `port`: by lease, by TCP or by UDP.
///
/// It does not fail: what cannot be looked at is part of the answer. It takes some milliseconds, and at
/// most about half a second on a machine with thousands of processes.
///
/// # Examples
///
/// ```
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let port = listener.local_addr()?.port();
/// let diagnosis = portlease::diagnose(port);
/// assert_eq!(diagnosis.cause(), portlease::Cause::Listening);
/// assert_eq!(diagnosis.sockets()[0].owners()[0].pid(), std::process::id());
/// println!("{diagnosis}");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn diagnose(port: u16) -> Diagnosis {
    look(port, Registry::global().ok().as_ref())
}

/// Nothing of it fails: what cannot be seen is a part of the answer.
pub(crate) fn look(port: u16, registry: Option<&Registry>) -> Diagnosis {
    let lease = registry.and_then(|registry| lease(port, registry));
    let (mut entries, blind) = match sys::sockets(Wanted { serving: None, port: Some(port) }) {
        Ok(entries) => (entries, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    entries.sort_by_key(|entry| match entry.state {
        State::Listen => 0,
        State::Bound => 1,
        State::Connected => 2,
        State::TimeWait => 3,
    });
    let more = entries.len().saturating_sub(MAX_SOCKETS);
    entries.truncate(MAX_SOCKETS);
    let mut sockets = with_owners(entries);
    let holder = lease.as_ref().and_then(|lease| lease.holder.pid());
    sockets.iter_mut().for_each(|socket| socket.is_hold = is_hold(socket, holder, lease.is_some()));
    let bind = match sockets.is_empty() && lease.is_none() {
        true => bind(port),
        false => Bind::NotAsked,
    };
    Diagnosis { port, lease, sockets, more, blind, bind }
}

fn lease(port: u16, registry: &Registry) -> Option<LeaseOf> {
    let space = registry.space().ok()?;
    let path = space.slot(port);
    // Not by opening it, which would create it.
    if !path.exists() || !slot::is_locked(&path).unwrap_or(false) {
        return None;
    }
    let holder = space.holder(port);
    let started = holder.pid().and_then(sys::process_start);
    let lives = started.is_some() && started == holder.process_start();
    let is_ours = holder.pid() == Some(std::process::id()) && lives;
    Some(LeaseOf { holder, lives, is_ours })
}

fn with_owners(entries: Vec<SocketEntry>) -> Vec<Socket> {
    let inodes: Vec<u64> =
        entries.iter().map(|entry| entry.inode.into()).filter(|&inode| inode != 0).collect();
    let owners = match inodes.is_empty() {
        true => Ok(sys::Owners::default()),
        false => sys::owners(&inodes, AT_MOST),
    };
    let socket = |entry: SocketEntry| {
        let found = owners.as_ref().map(|owners| owners.found.iter()).into_iter().flatten();
        let found = found.filter(|(inode, _)| *inode == u64::from(entry.inode));
        let owned: Vec<Owner> =
            found.take(MAX_OWNERS).map(|&(_, id)| process::describe(id)).collect();
        let unseen = match &owners {
            _ if entry.inode == 0 || !owned.is_empty() => None,
            Ok(owners) if owners.is_partial => Some(Unseen::NotPermitted),
            Ok(_) => Some(Unseen::NotHere),
            Err(_) => Some(Unseen::NoProc),
        };
        Socket { entry, is_hold: false, owners: owned, unseen }
    };
    entries.into_iter().map(socket).collect()
}

/// Bound on the wildcard, and not listening, by who took the lease; or by ourselves, for a server; or by
/// somebody who is not to be seen, of a port that is leased.
fn is_hold(socket: &Socket, holder: Option<u32>, is_leased: bool) -> bool {
    let SocketEntry { protocol, state, local, .. } = &socket.entry;
    let looks_so =
        *protocol == Protocol::Tcp && *state == State::Bound && local.ip().is_unspecified();
    let own = Some(std::process::id());
    let by_holder = |owner: &Owner| Some(owner.pid) == holder || Some(owner.pid) == own;
    looks_so && (socket.owners.iter().any(by_holder) || is_leased && socket.owners.is_empty())
}

/// For a moment, an exclusive bind is in the way of others; so it is the last thing that is asked.
fn bind(port: u16) -> Bind {
    match Binder::new().and_then(|mut binder| binder.hold(port)) {
        Ok(_) => Bind::Free,
        Err(error) => match error.kind() {
            io::ErrorKind::AddrInUse => Bind::Refused,
            io::ErrorKind::PermissionDenied => Bind::NotPermitted,
            _ => Bind::NotAsked,
        },
    }
}
