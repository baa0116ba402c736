//! Whether addresses can be bound: asked before a test suite or a CI job starts.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

use super::look;
use crate::diagnosis::Diagnosis;
use crate::registry::Registry;

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
/// its port. A port that somebody else leased counts as his.
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
    let one = |addr: SocketAddr| {
        let lease = registry.as_ref().and_then(|registry| super::lease(addr.port(), registry));
        let error = match lease {
            // A bind, even for a moment, could be in the way of its server.
            Some(lease) if !lease.is_ours => None,
            _ => match bind(addr) {
                Ok(()) => return Check { addr, refused: None },
                Err(error) => Some(error),
            },
        };
        let is_port = error.as_ref().is_none_or(|error| {
            matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied)
        });
        let diagnosis = is_port.then(|| look(addr.port(), registry.as_ref()));
        Check { addr, refused: Some(Refused { error, diagnosis }) }
    };
    addrs.into_iter().map(one).collect()
}

/// As a server does, but for the last step: nobody can connect.
fn bind(addr: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    crate::sys::bind_over_time_wait(&socket)?; // on Windows, `SO_REUSEADDR` would let it in beside anybody
    socket.bind(&addr.into())
}
