//! The lease: a guard on one port number. How it is taken: `acquire`; what can be asked for:
//! `builder`.

mod acquire;
mod builder;
mod candidate;
mod line;
mod owner;
mod refusal;

use std::fmt;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use socket2::Type;

pub use self::builder::LeaseBuilder;
use self::candidate::Grip;
use crate::diagnose;
use crate::error::{Error, ErrorKind, Result};
use crate::hold::{self, Binder, Hold};
use crate::registry::Space;
use crate::registry::slot::Slot;
use crate::url::url;

/// Leases one port from the process-wide registry.
///
/// # Errors
///
/// - [`ErrorKind::Exhausted`]: no port of the range is free; the message says who has how many.
/// - [`ErrorKind::Registry`], [`ErrorKind::InvalidInput`]: see [`Registry`](crate::Registry).
/// - [`ErrorKind::OutOfDescriptors`]: a lease takes two descriptors, on Linux.
/// - [`ErrorKind::Io`]: the kernel refuses a socket for another reason.
///
/// # Examples
///
/// ```
/// let lease = portlease::lease()?;
/// let url = format!("http://{}/", lease.addr()); // http://127.0.0.1:20017/
/// # assert_eq!(url, format!("http://127.0.0.1:{lease}/"));
/// # Ok::<(), portlease::Error>(())
/// ```
pub fn lease() -> Result<Lease> {
    Lease::builder().lease()
}

/// Leases `N` ports at once from the process-wide registry: all of them, or none. `N` may be 0.
///
/// # Errors
///
/// As [`lease()`].
///
/// # Examples
///
/// ```
/// let [api, metrics] = portlease::leases()?;
/// assert_ne!(api.port(), metrics.port());
/// # Ok::<(), portlease::Error>(())
/// ```
pub fn leases<const N: usize>() -> Result<[Lease; N]> {
    let leases = Lease::builder().lease_many(N)?;
    leases.try_into().map_err(|leases: Vec<Lease>| {
        let got = leases.len();
        Error::new(ErrorKind::Io, format!("{got} ports were leased where {N} were asked for"))
    })
}

/// A port number, for TCP and UDP alike, that is ours while this value lives.
///
/// Meanwhile no other user of the [`Registry`](crate::Registry) gets it; on Linux the kernel gives
/// it to no `bind(0)`, to no outgoing connection, and to no bind without `SO_REUSEADDR`, of whatever
/// process; and who has it is on record. A server that sets `SO_REUSEADDR` before it binds, as
/// nearly all do on Unix, binds and listens on it as if it were free, as often as it likes.
///
/// Dropping the lease frees the port at once. If the process dies, by `SIGKILL` too, the kernel
/// frees it. So keep the lease for as long as the server lives: `let port = lease()?.port();` is a
/// port that nobody protects. For that reason there is no `Into<u16>` and no `Deref`, only
/// [`port`](Lease::port).
///
/// A freed port rests for 10 s, so that a late client of the last server does not reach the next:
/// others go first, unless 64 resting ones, or 16 that programs without a lease have, are met before a rested
/// one, or it is asked for by number.
///
/// # What this does not guarantee
///
/// - A server that does not set `SO_REUSEADDR`, or sets only `SO_REUSEPORT`, cannot bind a port that
///   is held. Use [`ServerBuilder::report_port`](crate::ServerBuilder::report_port) or
///   [`bind()`](crate::bind()) for these.
/// - A stranger who sets `SO_REUSEADDR` and asks for exactly this number can listen on it before
///   our server does, or beside it on another address (127.0.0.2, ::1). Who uses the registry does
///   not, and `bind(0)` cannot.
/// - An exact port is also given if its last server is gone and connections of it remain, in
///   TIME_WAIT or with the other end still open; or if a stranger has bound it with `SO_REUSEADDR`
///   on one address, and does not listen. The kernel tells none of these from the others.
/// - UDP cannot be held. The slot and the range protect the number; `.udp()` checks that no UDP
///   socket had it.
/// - With the sysctl `ip_autobind_reuse=1` (default 0) the kernel may hand out a held port.
/// - On kernels where the hold would keep servers out (found out by a test; gVisor is said to be
///   one), and for other network namespaces, slot and range remain.
/// - A hold is not in `/proc/net/tcp`, and `ss` and `lsof` do not show it (`ss --bound-inactive` does,
///   since Linux 6.8).
///
/// # On macOS, FreeBSD and Windows
///
/// There is no hold. A lease excludes other leases of the same registry by the slot's lock (`flock`,
/// `LockFileEx`), which the kernel frees with the process; it is taken only if exclusive binds of both wildcards
/// and both loopback addresses succeed at that moment (on Windows, with `SO_EXCLUSIVEADDRUSE`); and its port is
/// from a range that the system does not hand out by itself (but on FreeBSD, which serves `bind(0)` from
/// 10000 on, and on a Windows whose dynamic ports somebody has changed). Who asks for that very number without a
/// lease gets it, and another registry too, as long as no server is bound. It takes one descriptor.
///
/// A port that the system gives to nobody is [`PortExcluded`](crate::ErrorKind::PortExcluded): on macOS and FreeBSD
/// one below 1024, on Windows one of an excluded range. On macOS, a lease that is kept for more than three days may lose
/// its lock's file to those who clean `/tmp`, and its port can then be leased once more.
///
/// A port that these binds refuse is asked for again over TIME_WAIT, if it is exact, or if nothing else of the
/// range is left. Then a listener on any other address is not seen: the lease is had beside a server that
/// listens on this machine's address in the network, and on neither loopback nor all addresses.
///
/// [All of it in one table](crate::guide::platforms).
#[must_use = "the port is free again as soon as the lease is dropped; keep it in a variable for as \
              long as the server lives"]
pub struct Lease {
    port: u16,
    slot: Option<Slot>,
    hold: Option<Hold>,
    space: Arc<Space>,
}

impl Lease {
    /// What can be asked for beyond any one port: an exact one, several, a range, a label ...
    pub fn builder() -> LeaseBuilder {
        LeaseBuilder::new()
    }

    fn new(grip: Grip, space: Arc<Space>) -> Lease {
        let Grip { port, hold, slot } = grip;
        Lease { port, slot: Some(slot), hold: Some(hold), space }
    }

    /// The port number.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1` with the port. A literal address, because `localhost` may be either family.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// `http://127.0.0.1:PORT` with `path`, which may or may not begin with a slash.
    pub fn url(&self, path: &str) -> String {
        url(self.addr(), path)
    }

    /// Listens on [`addr`](Lease::addr), under the protection of the lease: keep both. On Windows, a
    /// program that sets `SO_REUSEADDR` can take the port all the same, as that of any listener of std's.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PortTaken`]: somebody listens there already. [`ErrorKind::OutOfDescriptors`].
    /// [`ErrorKind::Io`]: anything else.
    ///
    /// # Examples
    ///
    /// ```
    /// let lease = portlease::lease()?;
    /// let listener = lease.bind()?;
    /// assert_eq!(listener.local_addr()?, lease.addr());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bind(&self) -> Result<TcpListener> {
        TcpListener::bind(self.addr())
            .map_err(|error| self.bind_error("listen on", Type::STREAM, error))
    }

    /// Binds a UDP socket to [`addr`](Lease::addr).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PortTaken`]: another UDP socket is bound there; ask for the lease with `.udp()`.
    /// [`ErrorKind::OutOfDescriptors`]. [`ErrorKind::Io`]: anything else.
    pub fn bind_udp(&self) -> Result<UdpSocket> {
        UdpSocket::bind(self.addr())
            .map_err(|error| self.bind_error("bind UDP", Type::DGRAM, error))
    }

    fn bind_error(&self, doing: &str, socket: Type, error: io::Error) -> Error {
        let (kind, hint) = match hold::says_in_use(&error, self.port, socket) {
            true => (ErrorKind::PortTaken, ": a socket is bound there already"),
            false => (ErrorKind::Io, ""),
        };
        let error = Error::io(kind, format_args!("{doing} {}{hint}", self.addr()), error);
        match kind {
            ErrorKind::PortTaken => error.with_diagnosis(diagnose::look_beside_hold(self.port)),
            _ => error.with_port(self.port),
        }
    }

    /// Frees the port, as dropping does, and reports what dropping must swallow.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Registry`]: the slot could not be unlocked. It is closed all the same, which
    /// frees the port unless another process has a copy of the descriptor.
    pub fn release(mut self) -> Result<()> {
        let port = self.port;
        self.free().map_err(|error| {
            let doing = format!(
                "release port {port}; its lock is closed all the same, and free unless another process \
                 has a copy of it"
            );
            Error::io(ErrorKind::Registry, doing, error).with_port(port)
        })
    }

    /// The one way to free a port, in the one right order: while the slot is locked, nobody else
    /// asks the kernel for the port; so the hold goes first.
    fn free(&mut self) -> io::Result<()> {
        self.hold = None;
        match self.slot.take() {
            // A forked child has copies of all this: it only closes them.
            Some(slot) if !slot.is_ours() => Ok(()),
            Some(slot) => {
                self.space.released(self.port);
                slot.unlock()
            }
            None => Ok(()),
        }
    }

    /// Lets the kernel's hold go, so that a server which does not set `SO_REUSEADDR` can bind the port;
    /// the slot stays. Returns when such a bind works, or after a second: copies of the hold in
    /// children between fork and exec, or connections in TIME_WAIT, may be in the way.
    pub(crate) fn let_hold_go(&mut self) {
        const AT_MOST: Duration = Duration::from_secs(1);
        if self.hold.take().is_none() {
            return; // at a restart, it is gone already
        }
        let start = Instant::now();
        let may_bind = || Binder::new().and_then(|mut binder| binder.hold(self.port)).is_ok();
        while !may_bind() && start.elapsed() < AT_MOST {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// A copy of the slot's lock: while it is open in some process, the port stays leased, whatever
    /// becomes of this one.
    pub(crate) fn share_lock(&self) -> io::Result<Option<File>> {
        self.slot.as_ref().map(Slot::share).transpose()
    }

    /// Gives the lease up without freeing the port: whoever has a copy of the lock keeps it.
    pub(crate) fn leave(mut self) {
        if let Some(slot) = self.slot.take() {
            slot.leave();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _ = self.free();
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("port", &self.port).finish_non_exhaustive()
    }
}

/// The port number, for URLs and arguments.
impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.port.fmt(f)
    }
}
