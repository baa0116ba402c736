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
    refused: Option<(Option<io::Error>, Diagnosis)>,
}

impl Check {
    /// The address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Whether a server that sets `SO_REUSEADDR`, as nearly all do, can listen on it now.
    pub fn is_free(&self) -> bool {
        self.refused.is_none()
    }

    /// Who has its port, if it is not free.
    pub fn diagnosis(&self) -> Option<&Diagnosis> {
        self.refused.as_ref().map(|(_, diagnosis)| diagnosis)
    }
}

/// `127.0.0.1:5432 can be bound`, or why it cannot.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addr = self.addr;
        let Some((error, diagnosis)) = &self.refused else {
            return write!(f, "{addr} can be bound");
        };
        match error {
            Some(error) => write!(f, "{addr} cannot be bound ({error}): {diagnosis}"),
            None => write!(f, "{addr} is not to be bound: {diagnosis}"),
        }
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
        let refused = match lease {
            // A bind, even for a moment, could be in the way of its server.
            Some(lease) if !lease.is_ours => Some(None),
            _ => bind(addr).err().map(Some),
        };
        let refused = refused.map(|error| (error, look(addr.port(), registry.as_ref())));
        Check { addr, refused }
    };
    addrs.into_iter().map(one).collect()
}

/// As a server does, but for the last step: nobody can connect.
fn bind(addr: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())
}
