//! Who has a port, as a value: what was seen, what it means (`cause`), and that in words (`text`). Pure;
//! `crate::diagnose` looks.

mod cause;
mod owner;
mod text;

use std::net::{IpAddr, SocketAddr};

pub use self::cause::Cause;
pub use self::owner::{Owner, Role};
use crate::holder::Holder;
use crate::sys::{Protocol, SocketEntry, State};

/// What is known of a port at one moment: by whom it is leased, which sockets are on it, and whose they
/// are. Made by [`diagnose`](crate::diagnose()).
///
/// [`Display`](std::fmt::Display) makes a few lines of it, the last of which says what to do next.
///
/// # What this does not guarantee
///
/// - It is over as soon as it is made: sockets come and go.
/// - It is about the network namespace of the calling thread; a port in another one is another port.
/// - Whose a socket is can only be told of processes that this one may look into: its user's, and for
///   root all of its pid namespace.
#[derive(Clone, Debug)]
pub struct Diagnosis {
    pub(crate) port: u16,
    pub(crate) lease: Option<LeaseOf>,
    pub(crate) sockets: Vec<Socket>,
    /// Beside `sockets`, so many were seen.
    pub(crate) more: usize,
    /// Why the kernel's tables could not be looked at.
    pub(crate) blind: Option<Blind>,
    pub(crate) bind: Bind,
}

/// Why the kernel's tables could not be looked at.
#[derive(Clone, Debug)]
pub(crate) struct Blind {
    pub(crate) why: String,
    /// No file descriptor was left, which is this process's own trouble.
    pub(crate) is_out_of_descriptors: bool,
}

/// Who leased the port.
#[derive(Clone, Debug)]
pub(crate) struct LeaseOf {
    pub(crate) holder: Holder,
    /// Whether the process that took it lives; `None`: it cannot be told.
    pub(crate) lives: Option<bool>,
    pub(crate) is_ours: bool,
}

/// What the kernel says to an exclusive bind. Asked only if nothing else is to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bind {
    NotAsked,
    Free,
    Refused,
    NotPermitted,
}

/// A socket on a port.
#[derive(Clone, Debug)]
pub struct Socket {
    pub(crate) entry: SocketEntry,
    /// Known to be the kernel's hold of a lease.
    pub(crate) is_hold: bool,
    pub(crate) owners: Vec<Owner>,
    /// Beside `owners`, so many were seen.
    pub(crate) more_owners: usize,
    /// Why there are no `owners`.
    pub(crate) unseen: Option<Unseen>,
}

/// Why the owner of a socket is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unseen {
    /// Some processes may not be looked into: those of other users, most often.
    NotPermitted,
    /// It took too long to look at all.
    NoTime,
    /// None that can be seen: of another pid namespace, or gone by now.
    NotHere,
    /// There is no `/proc`, or it is that of another pid namespace.
    NoProc,
    /// No file descriptor was left to look.
    NoDescriptors,
}

/// What a socket does on its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SocketState {
    /// It listens: TCP.
    Listening,
    /// It is bound, and neither listens nor is connected: a UDP server, a lease's hold, or a program
    /// that keeps the port.
    Bound,
    /// One end of a connection: of a server, or of a client whose own port this is.
    Connected,
    /// A connection that is over, which the kernel remembers for a minute.
    TimeWait,
}

impl Socket {
    /// Its own address.
    pub fn local(&self) -> SocketAddr {
        self.entry.local
    }

    /// The other end, if it is connected, or was.
    pub fn remote(&self) -> Option<SocketAddr> {
        let is_connection = matches!(self.entry.state, State::Connected | State::TimeWait);
        is_connection.then_some(self.entry.remote)
    }

    /// Whether it is UDP; else it is TCP.
    pub fn is_udp(&self) -> bool {
        self.entry.protocol == Protocol::Udp
    }

    /// What it does.
    pub fn state(&self) -> SocketState {
        match self.entry.state {
            State::Listen => SocketState::Listening,
            State::Bound => SocketState::Bound,
            State::Connected => SocketState::Connected,
            State::TimeWait => SocketState::TimeWait,
        }
    }

    /// The user who opened it.
    pub fn uid(&self) -> u32 {
        self.entry.uid
    }

    /// The processes that have it: several, if it was inherited; of many, some. None, if they are not to
    /// be seen, which [`unseen`](Socket::unseen) tells, or if nobody has it any more.
    pub fn owners(&self) -> &[Owner] {
        &self.owners
    }

    /// Why there are no [`owners`](Socket::owners), although somebody has it.
    ///
    /// # Examples
    ///
    /// ```
    /// use portlease::Unseen;
    ///
    /// for socket in portlease::diagnose(5432).sockets() {
    ///     match socket.unseen() {
    ///         None => println!("{:?}", socket.owners()),
    ///         Some(Unseen::NotPermitted) => println!("a user may not see that; root may"),
    ///         Some(why) => println!("not to be seen: {why:?}"),
    ///     }
    /// }
    /// ```
    pub fn unseen(&self) -> Option<Unseen> {
        self.unseen
    }

    /// Whether it is known to be that by which the kernel keeps a leased port.
    pub fn is_hold(&self) -> bool {
        self.is_hold
    }
}

impl Diagnosis {
    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Who leased it, if it is leased from this process's registry.
    pub fn lease(&self) -> Option<&Holder> {
        self.lease.as_ref().map(|lease| &lease.holder)
    }

    /// Whether the process that leased it lives. `None`: it is not leased, or that cannot be told. A process
    /// of another container looks gone, and a watchdog may keep the lease of one that is.
    pub fn holder_lives(&self) -> Option<bool> {
        self.lease.as_ref()?.lives
    }

    /// Why the kernel's tables could not be looked at, if so: that there are no
    /// [`sockets`](Diagnosis::sockets) says nothing then.
    pub fn blind(&self) -> Option<&str> {
        self.blind.as_ref().map(|blind| blind.why.as_str())
    }

    /// The sockets on it, those that listen first; of many connections, some.
    pub fn sockets(&self) -> &[Socket] {
        &self.sockets
    }

    /// Those of its sockets that have an address in common with a server on `addr`: on 127.0.0.1, a socket on
    /// 0.0.0.0 or `[::]` has, and one on 127.0.0.2 has not. `[::]` is taken for both families.
    pub fn conflicts(&self, addr: IpAddr) -> impl Iterator<Item = &Socket> {
        self.sockets.iter().filter(move |socket| socket.entry.overlaps(addr))
    }

    /// What keeps others from the port.
    pub fn cause(&self) -> Cause {
        cause::of(self)
    }

    /// Whether a server that sets `SO_REUSEADDR`, as nearly all do, could listen on it, on any address.
    pub fn is_free(&self) -> bool {
        matches!(self.cause(), Cause::Free | Cause::TimeWait)
    }
}
