//! Looks who has a port.
//!
//! Three sources are joined: the registry (who leased it), the kernel's tables (which sockets are on it),
//! and `/proc` (whose they are: `process`). "Nobody", "somebody who is not to be seen", and "it cannot
//! be looked at" are different answers.

mod check;
mod process;

pub use self::check::{Check, check};

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::diagnosis::{Bind, Blind, Diagnosis, LeaseOf, Owner, Socket, Unseen};
use crate::hold::{self, Binder};
use crate::holder::Holder;
use crate::registry::{Registry, slot};
use crate::sys::{self, ProcessId, Protocol, SocketEntry, State, Wanted};

/// How many sockets are told of, and how many owners of each.
const MAX_SOCKETS: usize = 16;
const MAX_OWNERS: usize = 4;

/// How long the owners are looked for, apart from waiting for a CPU.
const AT_MOST: Duration = Duration::from_millis(400);

/// Looks who has `port`: by lease, by TCP or by UDP.
///
/// It does not fail: what cannot be looked at is part of the answer. It takes some milliseconds, and at
/// most about half a second on a machine with thousands of processes; ten seconds if that is busy with others.
///
/// # What this does not guarantee
///
/// Elsewhere than on Linux nobody looks at sockets and processes: it tells of the lease, and whether the port
/// can be bound.
///
/// A port on which nothing is seen is bound for a moment, to see whether that is allowed. A server that binds
/// it in the same moment is refused: do not wait for one by asking this again and again.
///
/// # Examples
///
/// ```
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let port = listener.local_addr()?.port();
/// let diagnosis = portlease::diagnose(port);
/// assert!(!diagnosis.is_free());
/// # if cfg!(target_os = "linux") { // elsewhere, nobody looks
/// assert_eq!(diagnosis.cause(), portlease::Cause::Listening);
/// assert_eq!(diagnosis.sockets()[0].owners()[0].pid(), std::process::id());
/// # }
/// println!("{diagnosis}");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn diagnose(port: u16) -> Diagnosis {
    look(port, Registry::global().ok().as_ref())
}

/// Nothing of it fails: what cannot be seen is a part of the answer.
pub(crate) fn look(port: u16, registry: Option<&Registry>) -> Diagnosis {
    let lease = registry.and_then(|registry| lease(port, registry));
    let holder = lease.as_ref().map(|lease| lease.holder.pid());
    and_bind(look_at(port, lease, holder))
}

/// The same for who has leased the port, and asks who else is on it.
pub(crate) fn look_beside_hold(port: u16) -> Diagnosis {
    and_bind(look_at_sockets(port))
}

/// The same without a bind, so that it can be asked again and again while a server may want to bind the
/// port. Who sees nothing knows nothing.
pub(crate) fn look_at_sockets(port: u16) -> Diagnosis {
    look_at(port, None, Some(Some(std::process::id())))
}

/// `holder`: who may have a hold of the port, if it is leased.
fn look_at(port: u16, lease: Option<LeaseOf>, holder: Option<Option<u32>>) -> Diagnosis {
    let (mut entries, blind) = match sys::sockets(Wanted { serving: None, port: Some(port) }) {
        Ok(entries) => (entries, None),
        Err(error) => {
            let is_out_of_descriptors = sys::is_out_of_descriptors(&error);
            (Vec::new(), Some(Blind { why: error.to_string(), is_out_of_descriptors }))
        }
    };
    entries.sort_by_key(order);
    let more = entries.len().saturating_sub(MAX_SOCKETS);
    entries.truncate(MAX_SOCKETS);
    // Its holder has the hold, and this process what a test asks about most often: its own.
    let likely: Vec<_> = holder.flatten().into_iter().chain([std::process::id()]).collect();
    let mut sockets = with_owners(entries, &likely);
    let first_owner = |socket: &Socket| socket.owners.first().map(Owner::pid);
    sockets.sort_by_key(|socket| (order(&socket.entry), first_owner(socket)));
    if let Some(holder) = holder {
        sockets.iter_mut().for_each(|socket| socket.is_hold = is_hold(socket, holder));
    }
    Diagnosis { port, lease, sockets, more, blind, bind: Bind::NotAsked }
}

/// What a bind says, where nothing else does.
fn and_bind(diagnosis: Diagnosis) -> Diagnosis {
    let bind = match diagnosis.sockets.is_empty() && diagnosis.lease.is_none() {
        true => bind(diagnosis.port),
        false => Bind::NotAsked,
    };
    Diagnosis { bind, ..diagnosis }
}

/// What is most in the way goes first, and TCP before UDP.
fn order(entry: &SocketEntry) -> (u8, bool, SocketAddr) {
    let by_state = match entry.state {
        State::Listen => 0,
        State::Bound => 1,
        State::Connected => 2,
        State::TimeWait => 3,
    };
    (by_state, entry.protocol == Protocol::Udp, entry.local)
}

fn lease(port: u16, registry: &Registry) -> Option<LeaseOf> {
    let space = registry.space().ok()?;
    let path = space.slot(port);
    // Not by opening it, which would create it.
    if !path.exists() || !slot::is_locked(&path).unwrap_or(false) {
        return None;
    }
    let holder = space.holder(port);
    let own = std::process::id();
    let is_ours = holder.pid() == Some(own) && holder.process_start() == sys::process_start(own);
    Some(LeaseOf { lives: lives(&holder), holder, is_ours })
}

/// `None`: it cannot be told.
fn lives(holder: &Holder) -> Option<bool> {
    // Without `/proc`, or with that of another pid namespace, all would look gone.
    sys::process_start(std::process::id())?;
    let (pid, start) = (holder.pid()?, holder.process_start()?);
    Some(sys::may_live(ProcessId { pid, start }))
}

fn with_owners(entries: Vec<SocketEntry>, likely: &[u32]) -> Vec<Socket> {
    let inodes: Vec<u64> =
        entries.iter().map(|entry| entry.inode.into()).filter(|&inode| inode != 0).collect();
    // Of a root without its privileges, `is_partial` says so.
    let owners = match inodes.is_empty() {
        true => Ok(sys::Owners::default()),
        false => sys::owners(&inodes, likely, AT_MOST),
    };
    // One process may have them all.
    let mut known = BTreeMap::new();
    let socket = |entry: SocketEntry| {
        let found = owners.as_ref().map(|owners| owners.found.iter()).into_iter().flatten();
        let found = found.filter(|(inode, _)| *inode == u64::from(entry.inode));
        let found: Vec<ProcessId> = found.map(|&(_, id)| id).collect();
        let mut describe =
            |&id: &ProcessId| known.entry(id).or_insert_with(|| process::describe(id)).clone();
        let owned: Vec<Owner> = found.iter().take(MAX_OWNERS).map(&mut describe).collect();
        let unseen = match &owners {
            _ if entry.inode == 0 || !owned.is_empty() => None,
            Ok(owners) if owners.is_late => Some(Unseen::NoTime),
            // Where `/proc` hides other users' processes (`hidepid`), it does not say so.
            Ok(owners) if owners.is_partial || sys::is_hidden_user(entry.uid) => {
                Some(Unseen::NotPermitted)
            }
            Ok(_) => Some(Unseen::NotHere),
            Err(error) if sys::is_out_of_descriptors(error) => Some(Unseen::NoDescriptors),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Some(Unseen::NotPermitted)
            }
            Err(_) => Some(Unseen::NoProc),
        };
        let more_owners = found.len() - owned.len();
        Socket { entry, is_hold: false, owners: owned, more_owners, unseen }
    };
    entries.into_iter().map(socket).collect()
}

/// Of a port that is leased: bound where holds are, and not listening, by who took the lease, or by
/// somebody who is not to be seen.
fn is_hold(socket: &Socket, holder: Option<u32>) -> bool {
    let SocketEntry { protocol, state, local, .. } = &socket.entry;
    let is_bound = *protocol == Protocol::Tcp && *state == State::Bound;
    let looks_so = is_bound && (local.ip().is_unspecified() || local.ip() == hold::TOKEN);
    let by_holder = |owner: &Owner| Some(owner.pid) == holder;
    looks_so && (socket.owners.is_empty() || socket.owners.iter().any(by_holder))
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

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::diagnosis::Role;

    const HOLDER: u32 = 42;

    fn socket(protocol: Protocol, state: State, ip: IpAddr, owner: Option<u32>) -> Socket {
        let entry = SocketEntry {
            protocol,
            state,
            local: SocketAddr::new(ip, 20_001),
            remote: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            inode: 7,
            uid: 0,
            only_v6: None,
            queue: 0,
        };
        let owned_by = |pid| Owner {
            pid,
            name: String::new(),
            command: String::new(),
            uid: None,
            user: None,
            age: None,
            role: Role::Other,
        };
        let owners = owner.map(owned_by).into_iter().collect();
        Socket { entry, is_hold: false, owners, more_owners: 0, unseen: None }
    }

    #[test]
    fn what_is_taken_for_a_hold() {
        let is_hold = |protocol, state, ip: &str, owner| {
            let ip = ip.parse().expect("an address");
            is_hold(&socket(protocol, state, ip, owner), Some(HOLDER))
        };
        let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
        for ip in ["::", "0.0.0.0", &hold::TOKEN.to_string()] {
            assert!(is_hold(tcp, State::Bound, ip, Some(HOLDER)), "{ip}");
            assert!(is_hold(tcp, State::Bound, ip, None), "{ip}");
            assert!(!is_hold(tcp, State::Bound, ip, Some(HOLDER + 1)), "{ip}");
            assert!(!is_hold(tcp, State::Listen, ip, Some(HOLDER)), "{ip}");
            assert!(!is_hold(udp, State::Bound, ip, Some(HOLDER)), "{ip}");
        }
        assert!(!is_hold(tcp, State::Bound, "127.0.0.1", Some(HOLDER)));
        assert!(!is_hold(tcp, State::Bound, "::1", None));
    }
}
