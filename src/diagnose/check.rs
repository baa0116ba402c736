//! Whether addresses can be bound: asked before a test suite or a CI job starts.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Type};

use super::look;
use crate::diagnosis::{Diagnosis, Role, Socket, SocketState};
use crate::hold;
use crate::registry::Registry;
use crate::sys;

/// Whether an address can be bound; made by [`check`].
#[derive(Debug)]
pub struct Check {
    addr: SocketAddr,
    refused: Option<Refused>,
}

/// Why not.
#[derive(Debug)]
struct Refused {
    /// What the kernel says, if it was asked.
    error: Option<io::Error>,
    diagnosis: Option<Diagnosis>,
}

impl Check {
    /// The address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Whether a server that sets `SO_REUSEADDR`, as nearly all do, can listen on it now; on Windows, one that
    /// does not, as nearly none does there.
    pub fn is_free(&self) -> bool {
        self.refused.is_none()
    }

    /// Who has its port, if that is why it is not free.
    pub fn diagnosis(&self) -> Option<&Diagnosis> {
        self.refused.as_ref()?.diagnosis.as_ref()
    }
}

/// `127.0.0.1:5432 can be bound`, or why it cannot.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addr = self.addr;
        let Some(Refused { error, diagnosis }) = &self.refused else {
            return write!(f, "{addr} can be bound");
        };
        match error {
            Some(error) => write!(f, "{addr} cannot be bound: {error}")?,
            None => write!(f, "{addr} is not to be bound")?,
        }
        diagnosis.iter().try_for_each(|diagnosis| write!(f, ": {diagnosis}"))
    }
}

/// Looks whether servers could listen on these TCP addresses now: of each, in their order, yes or who has
/// its port. A port that somebody else leased counts as his, from whatever registry; one that this process has
/// leased is free, unless its server is there.
///
/// For the setup of a test suite whose ports are fixed, and for CI scripts. It keeps nothing: who wants
/// a port takes a [lease](crate::Lease).
///
/// # Examples
///
/// ```
/// use std::net::SocketAddr;
///
/// let addrs: [SocketAddr; 2] = [([127, 0, 0, 1], 5432).into(), ([127, 0, 0, 1], 6379).into()];
/// for check in portlease::check(addrs) {
///     if !check.is_free() {
///         eprintln!("{check}");
///     }
/// }
/// ```
pub fn check(addrs: impl IntoIterator<Item = SocketAddr>) -> Vec<Check> {
    let registry = Registry::global().ok();
    addrs.into_iter().map(|addr| check_one(addr, registry.as_ref())).collect()
}

fn check_one(addr: SocketAddr, registry: Option<&Registry>) -> Check {
    let port = addr.port();
    let free = Check { addr, refused: None };
    let refused = |error, diagnosis| Check { refused: Some(Refused { error, diagnosis }), ..free };
    let see = || look(port, registry);
    let lease = registry.and_then(|registry| super::lease(port, registry));
    if lease.as_ref().is_some_and(|lease| !lease.is_ours) {
        // A bind, even for a moment, could be in the way of its server.
        return refused(None, Some(see()));
    }
    // By a lease of another registry, which is not on record here. Our own lets our server in.
    let may_be_held = lease.is_none() && hold::may_be_held(port);
    match bind(addr) {
        Ok(()) if may_be_held => {
            let diagnosis = see();
            match is_held(&diagnosis, addr.ip()) {
                true => refused(None, Some(diagnosis)),
                false => free,
            }
        }
        Ok(()) => free,
        Err(error) => {
            let is_port =
                matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied);
            refused(Some(error), is_port.then(see))
        }
    }
}

/// Whether it is somebody else's hold that a bind of [`hold::TOKEN`] was refused for: a listener would do,
/// too, and need not be in the way of a server on `ip`, which was not refused.
fn is_held(diagnosis: &Diagnosis, ip: IpAddr) -> bool {
    let refuses = |it: &&Socket| {
        let is_server = matches!(it.state(), SocketState::Listening | SocketState::Bound);
        !it.is_udp() && is_server && it.entry.overlaps(hold::TOKEN.into())
    };
    let mut refusing = diagnosis.sockets().iter().filter(refuses).peekable();
    if refusing.peek().is_none() {
        return true; // before Linux 6.8, the kernel does not show it
    }
    let is_ours = |it: &Socket| it.owners().iter().any(|it| *it.role() == Role::Ourselves);
    refusing.any(|it| it.state() == SocketState::Bound && it.entry.overlaps(ip) && !is_ours(it))
}

/// As a server does, but for the last step: nobody can connect.
fn bind(addr: SocketAddr) -> io::Result<()> {
    let socket = socket2::Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    sys::bind_over_time_wait(&socket)?; // on Windows, `SO_REUSEADDR` would let it in beside anybody
    socket.bind(&addr.into())
}
