//! The hold: a socket by which the kernel itself keeps a port for its lease.
//!
//! # What is wanted
//!
//! From the moment a port is leased until its server binds it, nobody else may get it: no `bind(0)`,
//! no outgoing connection, no other registry. But the server itself must get it, without knowing
//! of us. A lock file can do none of this; only a socket can.
//!
//! # What does it
//!
//! A TCP socket with `IPV6_V6ONLY` explicitly 0 (under the sysctl `bindv6only=1`, IPv4 would be
//! open), bound to `[::]:port` *without* `SO_REUSEADDR`, never listening; after the bind,
//! `SO_REUSEADDR` is set on it. Measured on Linux 6.18:
//!
//! - The bind is exclusive. It is refused by every other socket on the port, whatever its address
//!   and options, another hold included: 4.6 million races, never two winners.
//! - While it is held the kernel gives the port to no `bind(0)` and to no `connect`, whatever the
//!   options. (With the sysctl `ip_autobind_reuse=1`, it would.)
//! - A server that sets `SO_REUSEADDR` before its bind, as nearly all do on Unix, binds and listens
//!   on any address of the port, again and again: both sockets have the option, and ours does not
//!   listen. A client meanwhile is refused at once.
//!
//! # What was tried instead
//!
//! Setting `SO_REUSEADDR` *before* the bind: two holds join each other. A listening socket: clients
//! connect to the harness instead of being refused. `SO_REUSEPORT`: needs the server to set it too.
//!
//! # Other kernels
//!
//! Linux 6.0 to 6.2 let `[::]` and an IPv4 address coexist, and gVisor may read the options only at
//! the bind. So the first hold of a process is preceded by a test on a port of the kernel's choice,
//! and what the hold is made of follows from what is seen; see [`Kernel`].
//!
//! Systems other than Linux have nothing like it: there it is only looked whether the port is free, by
//! `probe`.
//!
//! # TIME_WAIT
//!
//! A connection in TIME_WAIT refuses the exclusive bind for a minute, though not a server with
//! `SO_REUSEADDR`. But to bind the hold with `SO_REUSEADDR` would join another registry's hold
//! (tried: it does). TIME_WAIT sits on the address that was used, and a hold on the wildcard; so an
//! exclusive bind of a loopback address that nobody uses ([`TOKEN`]) is the question whether a hold
//! exists, and, kept, the answer to the next one who asks. See [`Binder::hold_over_time_wait`].

mod probe;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use once_cell::sync::OnceCell;
use socket2::{Domain, Socket, Type};

use self::probe::{Except, probe};
use crate::sys;

/// The address whose exclusive bind stands for a hold in the presence of TIME_WAIT. Any address of
/// 127.0.0.0/8 that no server uses does.
pub(crate) const TOKEN: Ipv4Addr = Ipv4Addr::new(127, 83, 71, 9);

/// The sockets that keep one port. Dropping them frees it.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    _sockets: Vec<Socket>,
}

/// Whether the refusal of a bind of `port`, for TCP or UDP, says that somebody has it. On Windows, `WSAEACCES` says that or
/// that the system excludes the port: a socket on the wildcard that was bound with `SO_EXCLUSIVEADDRUSE`
/// refuses so who binds one address without it.
pub(crate) fn says_in_use(refusal: &io::Error, port: u16, kind: Type) -> bool {
    match refusal.kind() {
        io::ErrorKind::AddrInUse => true,
        io::ErrorKind::PermissionDenied if cfg!(windows) => {
            let again = probe(port, kind, Except::Nobody);
            again.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
        }
        _ => false,
    }
}

/// What a hold has to be on this kernel. Found out once, by [`Kernel::test`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kernel {
    families: Families,
    /// Whether a server is let in under the hold. If not, a hold would keep the server out: then
    /// it is only looked whether the port is free.
    lets_servers_in: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Families {
    /// One socket on `[::]` stands for both.
    Dual,
    /// They do not exclude each other: each needs its own socket.
    Split,
    /// There is no IPv6.
    Ipv4,
}

const USUAL: Kernel = Kernel { families: Families::Dual, lets_servers_in: true };

static KERNEL: OnceCell<Kernel> = OnceCell::new();

/// Makes holds. Keeps its socket from one refused port to the next: a refused bind on an open
/// socket costs 0.7 us, one on a new socket 6.
#[derive(Debug)]
pub(crate) struct Binder {
    kernel: Kernel,
    spare: Option<Socket>,
}

impl Binder {
    pub(crate) fn new() -> io::Result<Binder> {
        if !sys::HAS_HOLDS {
            return Ok(Binder { kernel: USUAL, spare: None });
        }
        let kernel = match KERNEL.get() {
            Some(&kernel) => kernel,
            None => match Kernel::test()? {
                Some(kernel) => *KERNEL.get_or_init(|| kernel),
                None => USUAL, // and asked again next time
            },
        };
        Ok(Binder { kernel, spare: Some(kernel.families.socket(Type::STREAM)?) })
    }

    /// The cookie of the network namespace in which ports are held.
    pub(crate) fn namespace(&self) -> Option<u64> {
        self.spare.as_ref().and_then(sys::net_namespace_cookie)
    }

    /// Holds `port`, if nobody at all uses it.
    ///
    /// # Errors
    ///
    /// `AddrInUse` and `PermissionDenied` are the kernel's answer about this port; any other kind
    /// is a failure of its own.
    pub(crate) fn hold(&mut self, port: u16) -> io::Result<Hold> {
        if !sys::HAS_HOLDS {
            return probe(port, Type::STREAM, Except::Nobody).map(|()| Hold::default());
        }
        let sockets = self.bind_wildcard(port, false)?;
        self.keep(sockets)
    }

    /// Holds `port` although connections of its last server are in TIME_WAIT, if nobody else holds
    /// it and nobody listens on it.
    ///
    /// The order matters: never the second bind without the first.
    ///
    /// # Errors
    ///
    /// As [`Binder::hold`].
    pub(crate) fn hold_over_time_wait(&mut self, port: u16) -> io::Result<Hold> {
        if !sys::HAS_HOLDS {
            return probe(port, Type::STREAM, Except::TimeWait).map(|()| Hold::default());
        }
        // Refused by a hold, and by any socket on the wildcard.
        let token = tcp_socket(Domain::IPV4)?;
        token.bind(&SocketAddr::from((TOKEN, port)).into()).map_err(|error| {
            match error.kind() {
                // A loopback device with less than 127.0.0.0/8: nothing can be told, so it is taken.
                io::ErrorKind::AddrNotAvailable => io::Error::from(io::ErrorKind::AddrInUse),
                _ => error,
            }
        })?;
        token.set_reuse_address(true)?;
        // Refused by whoever listens, or is bound without SO_REUSEADDR; not by TIME_WAIT.
        let mut sockets = self.bind_wildcard(port, true)?;
        sockets.push(token);
        self.keep(sockets)
    }

    /// Binds the wildcard of each family, exclusively or in company of all who `reuse`.
    fn bind_wildcard(&mut self, port: u16, reuse: bool) -> io::Result<Vec<Socket>> {
        let families = self.kernel.families;
        let socket = match self.spare.take() {
            Some(spare) => spare,
            None => families.socket(Type::STREAM)?,
        };
        if reuse {
            socket.set_reuse_address(true)?;
        }
        if let Err(error) = socket.bind(&families.wildcard(port).into()) {
            self.spare = Some(socket).filter(|_| !reuse);
            return Err(error);
        }
        let mut sockets = vec![socket];
        if families == Families::Split {
            let ipv4 = tcp_socket(Domain::IPV4)?;
            ipv4.set_reuse_address(reuse)?;
            ipv4.bind(&Families::Ipv4.wildcard(port).into())?;
            sockets.push(ipv4);
        }
        Ok(sockets)
    }

    /// Lets the server in, from now on.
    fn keep(&self, sockets: Vec<Socket>) -> io::Result<Hold> {
        if !self.kernel.lets_servers_in {
            return Ok(Hold::default());
        }
        sockets.iter().try_for_each(|socket| socket.set_reuse_address(true))?;
        Ok(Hold { _sockets: sockets })
    }

    /// Whether `port` is free for UDP. UDP cannot be held: a UDP server does not set
    /// `SO_REUSEADDR`, and a socket beside its own would take its datagrams.
    pub(crate) fn probe_udp(&self, port: u16) -> io::Result<()> {
        if !sys::HAS_HOLDS {
            return probe(port, Type::DGRAM, Except::Nobody);
        }
        let families = self.kernel.families;
        families.socket(Type::DGRAM)?.bind(&families.wildcard(port).into())?;
        if families == Families::Split {
            Families::Ipv4.socket(Type::DGRAM)?.bind(&Families::Ipv4.wildcard(port).into())?;
        }
        Ok(())
    }
}

/// Whether somebody may hold `port`, of whatever registry. Who binds it as a server does is let in by a hold,
/// and does not notice; so [`TOKEN`] is bound exclusively, for a moment. TIME_WAIT does not refuse that, and any
/// socket on the wildcard does.
pub(crate) fn may_be_held(port: u16) -> bool {
    let bind = || tcp_socket(Domain::IPV4)?.bind(&SocketAddr::from((TOKEN, port)).into());
    sys::HAS_HOLDS && bind().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

impl Families {
    /// A socket for the wildcard address.
    fn socket(self, kind: Type) -> io::Result<Socket> {
        if self == Families::Ipv4 {
            return Socket::new(Domain::IPV4, kind, None);
        }
        let socket = Socket::new(Domain::IPV6, kind, None)?;
        socket.set_only_v6(self == Families::Split)?;
        Ok(socket)
    }

    fn wildcard(self, port: u16) -> SocketAddr {
        match self {
            Families::Ipv4 => (Ipv4Addr::UNSPECIFIED, port).into(),
            Families::Dual | Families::Split => (Ipv6Addr::UNSPECIFIED, port).into(),
        }
    }
}

impl Kernel {
    /// Which kernel this is. `None`: the whole ephemeral range is in use, no test is possible.
    ///
    /// On a port of the kernel's choice, so that it disturbs nobody. A stranger could take part in
    /// the test by mere chance; so what the binds say against the usual has to be seen twice.
    fn test() -> io::Result<Option<Kernel>> {
        let first = Kernel::test_once()?;
        let unusual =
            |kernel: Kernel| kernel.families == Families::Split || !kernel.lets_servers_in;
        let again = if first.is_some_and(unusual) { Kernel::test_once()? } else { first };
        Ok(first.filter(|_| first == again))
    }

    fn test_once() -> io::Result<Option<Kernel>> {
        let (families, socket) = match Families::Dual.socket(Type::STREAM) {
            Err(error) if sys::is_no_such_family(&error) => {
                (Families::Ipv4, Families::Ipv4.socket(Type::STREAM)?)
            }
            socket => (Families::Dual, socket?),
        };
        match socket.bind(&families.wildcard(0).into()) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Ok(None),
            bound => bound?,
        }
        socket.set_reuse_address(true)?;
        let Some(bound) = socket.local_addr()?.as_socket() else { return Ok(None) };
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, bound.port()));

        let stranger = tcp_socket(Domain::IPV4)?;
        let excludes = stranger.bind(&loopback.into()).is_err();
        drop(stranger);
        let server = tcp_socket(Domain::IPV4)?;
        server.set_reuse_address(true)?;
        let refused = server.bind(&loopback.into());
        let lets_servers_in = !refused.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse);
        let families = if excludes { families } else { Families::Split };
        Ok(Some(Kernel { families, lets_servers_in }))
    }
}

fn tcp_socket(domain: Domain) -> io::Result<Socket> {
    Socket::new(domain, Type::STREAM, None)
}

#[cfg(test)]
#[cfg(target_os = "linux")] // elsewhere, there is none
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::patience::eventually;
    use crate::registry::{Registry, slot::Slot};

    const FAMILIES: [Families; 3] = [Families::Dual, Families::Split, Families::Ipv4];

    fn binder(families: Families) -> Binder {
        Binder { kernel: Kernel { families, lets_servers_in: true }, spare: None }
    }

    /// The addresses that a hold of `families` protects, as far as this machine has them.
    fn addresses(families: Families) -> impl Iterator<Item = &'static str> {
        let known = ["127.0.0.1", "0.0.0.0", "[::1]", "[::]"].into_iter();
        known.filter(move |address| {
            let protected = families != Families::Ipv4 || !address.starts_with('[');
            protected && TcpListener::bind(format!("{address}:0")).is_ok()
        })
    }

    /// Runs `check` with a port that nobody holds. Its slot is locked meanwhile, and the range is
    /// not the kernel's: nobody else takes it.
    fn with_free_port(check: impl Fn(u16)) {
        let space = Registry::global().and_then(|registry| registry.space()).expect("registry");
        let seed = u64::from(std::process::id()) << 32;
        for port in space.ports.shuffled(seed) {
            let slot = Slot::try_lock(&space.slot(port)).expect("slot");
            if slot.is_some() && binder(Families::Dual).hold(port).is_ok() {
                return check(port);
            }
        }
        panic!("no port is free");
    }

    #[test]
    fn this_kernel_is_the_usual_one() {
        assert_eq!(Kernel::test().expect("test"), Some(USUAL));
    }

    #[test]
    fn a_server_starts_under_the_hold_and_a_stranger_does_not() {
        for families in FAMILIES {
            with_free_port(|port| {
                let _hold = eventually(|| binder(families).hold(port));
                for address in addresses(families) {
                    let address: SocketAddr = format!("{address}:{port}").parse().expect("address");
                    let domain = Domain::for_address(address);
                    let stranger = Socket::new(domain, Type::STREAM, None).expect("socket");
                    assert!(stranger.bind(&address.into()).is_err(), "{families:?} {address}");
                    eventually(|| TcpListener::bind(address)); // with SO_REUSEADDR
                }
            });
        }
    }

    #[test]
    fn two_holds_exclude_each_other_however_they_were_made() {
        for families in FAMILIES {
            with_free_port(|port| {
                let (mut one, mut two) = (binder(families), binder(families));
                let hold = eventually(|| one.hold(port));
                assert!(two.hold(port).is_err() && two.hold_over_time_wait(port).is_err());
                drop(hold);
                let _hold = eventually(|| one.hold_over_time_wait(port));
                assert!(two.hold(port).is_err() && two.hold_over_time_wait(port).is_err());
                let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
                TcpListener::bind(address).expect("a server starts over the token");
            });
        }
    }

    #[test]
    fn a_listener_refuses_every_kind_of_hold() {
        for families in FAMILIES {
            for address in addresses(families) {
                with_free_port(|port| {
                    let address = format!("{address}:{port}");
                    let _server = TcpListener::bind(&address).expect("listen");
                    let mut binder = binder(families);
                    for refused in [binder.hold(port), binder.hold_over_time_wait(port)] {
                        let kind = refused.map(|_| ()).map_err(|error| error.kind());
                        assert_eq!(kind, Err(io::ErrorKind::AddrInUse), "{families:?} {address}");
                    }
                });
            }
        }
    }

    #[test]
    fn a_refused_binder_can_be_used_again() {
        with_free_port(|taken| {
            with_free_port(|free| {
                let _server = TcpListener::bind((Ipv4Addr::LOCALHOST, taken)).expect("listen");
                let mut binder = binder(Families::Dual);
                assert!(binder.hold(taken).is_err());
                eventually(|| binder.hold(free));
            });
        });
    }

    #[test]
    fn where_a_hold_would_keep_servers_out_there_is_none() {
        with_free_port(|port| {
            let kernel = Kernel { lets_servers_in: false, ..USUAL };
            let mut binder = Binder { kernel, spare: None };
            let hold = eventually(|| binder.hold(port));
            let server = tcp_socket(Domain::IPV4).expect("socket");
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            eventually(|| server.bind(&address.into()));
            assert!(hold._sockets.is_empty());
            assert!(binder.hold(port).is_err(), "but who has the port is seen");
        });
    }

    #[test]
    fn udp_is_probed_on_both_families() {
        for families in FAMILIES {
            for address in addresses(families) {
                with_free_port(|port| {
                    let binder = binder(families);
                    eventually(|| binder.probe_udp(port));
                    let address = format!("{address}:{port}");
                    let _server = eventually(|| std::net::UdpSocket::bind(&address));
                    let error = binder.probe_udp(port).expect_err("taken");
                    assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{families:?} {address}");
                });
            }
        }
    }
}
