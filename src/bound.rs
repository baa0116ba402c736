//! Port 0: the kernel chooses, and the live socket is the guard.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Socket, Type};

use crate::error::{Error, ErrorKind, Result};
use crate::sys;
use crate::url::url;

/// How many numbers are tried where two sockets must have the same one. One in ten thousand is
/// taken by chance; so many in a row are not.
const MAX_TRIES: usize = 100;

/// How many connections wait to be accepted, as with std.
const BACKLOG: i32 = 128;

/// Listens on a free port of 127.0.0.1, which the kernel chooses.
///
/// The best way if the server under test runs in this process and takes a listener: the port is
/// never free, so nobody can take it.
///
/// # Errors
///
/// [`ErrorKind::OutOfDescriptors`], or [`ErrorKind::Io`] if every ephemeral port is in use.
///
/// # Examples
///
/// ```
/// use std::net::TcpStream;
///
/// let bound = portlease::bind()?;
/// let addr = bound.addr();
/// let listener = bound.into_listener(); // give this to the server
/// # let server = std::thread::spawn(move || listener.accept().map(|_| ()));
/// TcpStream::connect(addr)?;
/// # server.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn bind() -> Result<Bound> {
    Bound::on(Ipv4Addr::LOCALHOST)
}

/// A live socket on a port that the kernel chose; dropping it frees the port.
///
/// `Bound` is a listener; `Bound<UdpSocket>` is a UDP socket.
///
/// # What this does not guarantee
///
/// Once the socket is dropped, the number is anybody's. To give a *number* to a server, use a
/// [`Lease`](crate::Lease).
#[must_use = "the port is free again as soon as this is dropped; take the socket out with \
              `into_listener()` or `into_socket()`"]
#[derive(Debug)]
pub struct Bound<S = TcpListener> {
    socket: S,
    addr: SocketAddr,
}

impl Bound {
    /// Listens on a free port of `ip`.
    ///
    /// # Errors
    ///
    /// As [`bind()`]; [`ErrorKind::Io`] also if this machine does not have the address.
    pub fn on(ip: impl Into<IpAddr>) -> Result<Bound> {
        let ip = ip.into();
        listen(SocketAddr::new(ip, 0))
            .map_err(|error| failed("listen on a free port of", ip, error))
    }

    /// Listens on 127.0.0.1 and on ::1, on the same number.
    ///
    /// For clients that are given `localhost`, which may be either.
    ///
    /// # Errors
    ///
    /// As [`bind()`]; [`ErrorKind::Io`] also where `::1` does not exist, as in many containers.
    pub fn both_families() -> Result<[Bound; 2]> {
        let pair = pair(listen, |port| listen((Ipv6Addr::LOCALHOST, port).into()));
        let (v4, v6) =
            pair.map_err(|error| failed("listen on", "both 127.0.0.1 and ::1", error))?;
        Ok([v4, v6])
    }

    /// Listens on a TCP port of 127.0.0.1, and binds the UDP port of the same number.
    ///
    /// # Errors
    ///
    /// As [`bind()`].
    pub fn tcp_and_udp() -> Result<(Bound, Bound<UdpSocket>)> {
        pair(listen, |port| bind_udp((Ipv4Addr::LOCALHOST, port).into())).map_err(|error| {
            failed("bind one number for TCP and UDP on", Ipv4Addr::LOCALHOST, error)
        })
    }

    /// The listener.
    pub fn listener(&self) -> &TcpListener {
        &self.socket
    }

    /// `http://127.0.0.1:PORT` with `path`, which may or may not begin with a slash.
    pub fn url(&self, path: &str) -> String {
        url(self.addr, path)
    }

    /// Takes the listener out; from now on it alone is the guard.
    pub fn into_listener(self) -> TcpListener {
        self.socket
    }
}

impl Bound<UdpSocket> {
    /// Binds a UDP socket to a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// As [`bind()`].
    pub fn udp() -> Result<Bound<UdpSocket>> {
        bind_udp((Ipv4Addr::LOCALHOST, 0).into())
            .map_err(|error| failed("bind a free UDP port of", Ipv4Addr::LOCALHOST, error))
    }

    /// The socket.
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Takes the socket out; from now on it alone is the guard.
    pub fn into_socket(self) -> UdpSocket {
        self.socket
    }
}

impl<S> Bound<S> {
    /// The port that the kernel chose.
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// The address that the socket is bound to.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// The port number, for URLs and arguments.
impl<S> fmt::Display for Bound<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.port().fmt(f)
    }
}

fn listen(addr: SocketAddr) -> io::Result<Bound> {
    let socket = if cfg!(windows) {
        let socket = alone(addr, Type::STREAM)?;
        socket.listen(BACKLOG)?;
        socket.into()
    } else {
        TcpListener::bind(addr)?
    };
    Ok(Bound { addr: socket.local_addr()?, socket })
}

fn bind_udp(addr: SocketAddr) -> io::Result<Bound<UdpSocket>> {
    let socket =
        if cfg!(windows) { alone(addr, Type::DGRAM)?.into() } else { UdpSocket::bind(addr)? };
    Ok(Bound { addr: socket.local_addr()?, socket })
}

/// Nobody is let in by options of his own, as Windows would: who sets `SO_REUSEADDR` there has the port of
/// a socket like std's.
fn alone(addr: SocketAddr, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind, None)?;
    sys::bind_alone(&socket)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

/// Two sockets on the same number, which the kernel chooses for the first.
fn pair<A, B>(
    first: impl Fn(SocketAddr) -> io::Result<Bound<A>>,
    second: impl Fn(u16) -> io::Result<Bound<B>>,
) -> io::Result<(Bound<A>, Bound<B>)> {
    let mut refused = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..MAX_TRIES {
        let a = first((Ipv4Addr::LOCALHOST, 0).into())?;
        match second(a.port()) {
            Ok(b) => return Ok((a, b)),
            Err(error) if is_of_number(&error) => refused = error,
            Err(error) => return Err(error),
        }
    }
    Err(refused)
}

/// Whether another number may do: this one is in use, or, on Windows, excluded for the second one alone.
fn is_of_number(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied)
}

fn failed(doing: &str, what: impl fmt::Display, error: io::Error) -> Error {
    let hint = match error.kind() {
        io::ErrorKind::AddrNotAvailable => {
            ": this machine has no such address, or it is switched off"
        }
        io::ErrorKind::AddrInUse => {
            ": no port is free of those that the system hands out; close what is no longer needed"
        }
        _ => "",
    };
    Error::io(ErrorKind::Io, format_args!("{doing} {what}{hint}"), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_have_one_number() {
        match Bound::both_families() {
            Ok([v4, v6]) => {
                assert_eq!(v4.port(), v6.port());
                assert!(v4.addr().is_ipv4() && v6.addr().is_ipv6());
            }
            Err(error) => {
                assert!(Bound::on(Ipv6Addr::LOCALHOST).is_err(), "{error}"); // no IPv6 here
            }
        }
        let (tcp, udp) = Bound::tcp_and_udp().expect("TCP and UDP");
        assert_eq!(tcp.port(), udp.port());
        assert_eq!(udp.socket().local_addr().expect("address"), tcp.addr());
        assert_ne!(Bound::udp().expect("UDP").port(), 0);
    }

    #[test]
    fn a_number_that_is_refused_is_tried_with_another() {
        let tries = std::cell::Cell::new(0);
        for refusal in [io::ErrorKind::AddrInUse, io::ErrorKind::PermissionDenied] {
            tries.set(0);
            let second = |port| {
                tries.set(tries.get() + 1);
                if tries.get() < 3 {
                    return Err(io::Error::from(refusal));
                }
                bind_udp((Ipv4Addr::LOCALHOST, port).into())
            };
            let (first, second) = pair(listen, second).expect("the third number");
            assert_eq!(first.port(), second.port());
        }
        tries.set(0);
        let never = |_| {
            tries.set(tries.get() + 1);
            Err::<Bound<UdpSocket>, _>(io::Error::from(io::ErrorKind::AddrNotAvailable))
        };
        assert!(pair(listen, never).is_err() && tries.get() == 1, "another failure is not retried");
    }

    #[test]
    fn an_address_of_another_machine_is_an_error_that_names_it() {
        let error = Bound::on([192, 0, 2, 1]).expect_err("not ours");
        let text = "failed to listen on a free port of 192.0.2.1: this machine has no such address, or \
                    it is switched off";
        assert_eq!(error.to_string(), text);
    }
}
