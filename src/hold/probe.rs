//! Whether anybody has a port, where no socket can hold it: a moment's bind of each address that a server
//! on this machine is likely to have.
//!
//! Each by itself, because systems differ in what a wildcard stands for. Windows lets a socket on
//! 127.0.0.1 be bound beside one on 0.0.0.0; so do macOS and the BSDs, if the second one sets
//! `SO_REUSEADDR`. A bind of the wildcard alone, or of the loopback alone, would miss the other.
//!
//! The wildcards first: on Windows, who has one of them exclusively refuses the bind of another address with
//! `WSAEACCES`, which is also what the system says of a port that it excludes. Of the wildcard itself, it
//! says that it is in use.
//!
//! # What is not seen
//!
//! Over TIME_WAIT, a listener on any other address, of the network for instance: a wildcard is let in beside
//! it, on Windows without `SO_EXCLUSIVEADDRUSE`, and on macOS and FreeBSD with `SO_REUSEADDR`. Without the
//! one, or with the other, TIME_WAIT itself would be taken for somebody.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

use crate::sys;

const ADDRESSES: [IpAddr; 4] = [
    IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

/// What does not count as somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Except {
    Nobody,
    /// Connections of the last server, which its successor may ignore.
    TimeWait,
}

/// # Errors
///
/// `AddrInUse` and `PermissionDenied` are the system's answer about this port; any other kind is a
/// failure of its own.
pub(super) fn probe(port: u16, kind: Type, except: Except) -> io::Result<()> {
    for ip in ADDRESSES {
        match bind(SocketAddr::new(ip, port), kind, except) {
            Err(error) if is_no_such_address(&error) => {}
            result => result?,
        }
    }
    Ok(())
}

fn bind(addr: SocketAddr, kind: Type, except: Except) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(addr), kind, None)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    match except {
        Except::Nobody => sys::bind_alone(&socket)?,
        Except::TimeWait => sys::bind_over_time_wait(&socket)?,
    }
    socket.bind(&addr.into())
}

/// There is no IPv6 here, or none on the loopback device.
fn is_no_such_address(error: &io::Error) -> bool {
    sys::is_no_such_family(error) || error.kind() == io::ErrorKind::AddrNotAvailable
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;
    use crate::hold::says_in_use;
    use crate::patience::eventually;

    /// Another test may have the number by chance: then another one is tried.
    fn with_free_port(kind: Type, test: impl Fn(u16)) {
        for _ in 0..100 {
            let port = crate::lease().expect("lease").port();
            if probe(port, kind, Except::Nobody).is_ok() {
                return test(port);
            }
        }
        panic!("no port is free");
    }

    #[test]
    fn a_listener_is_seen_on_every_address() {
        for ip in ADDRESSES {
            with_free_port(Type::STREAM, |port| {
                let Ok(_server) = TcpListener::bind((ip, port)) else { return }; // no IPv6
                for except in [Except::Nobody, Except::TimeWait] {
                    let error = probe(port, Type::STREAM, except).expect_err("somebody listens");
                    assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{ip} {except:?}");
                }
            });
        }
    }

    #[test]
    fn a_refusal_that_may_mean_two_things_is_asked_for_once_more() {
        use io::ErrorKind::{AddrInUse, AddrNotAvailable, PermissionDenied};
        let says = |refusal, port, kind| says_in_use(&io::Error::from(refusal), port, kind);
        with_free_port(Type::STREAM, |port| {
            assert!(says(AddrInUse, port, Type::STREAM));
            assert!(!says(AddrNotAvailable, port, Type::STREAM));
            assert!(!says(PermissionDenied, port, Type::STREAM), "nobody has it");
            let _server = eventually(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)));
            assert_eq!(says(PermissionDenied, port, Type::STREAM), cfg!(windows));
            assert!(!says(PermissionDenied, port, Type::DGRAM), "nobody has it for UDP");
        });
    }

    #[test]
    fn a_datagram_socket_is_seen_on_every_address() {
        for ip in ADDRESSES {
            with_free_port(Type::DGRAM, |port| {
                let Ok(_server) = UdpSocket::bind((ip, port)) else { return }; // no IPv6
                let error =
                    probe(port, Type::DGRAM, Except::Nobody).expect_err("somebody is bound");
                assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{ip}");
                eventually(|| probe(port, Type::STREAM, Except::Nobody)); // UDP alone
            });
        }
    }

    #[test]
    fn connections_that_are_over_can_be_excepted() {
        with_free_port(Type::STREAM, |port| {
            let server = eventually(|| TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
            let client =
                std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connect");
            let (accepted, _) = server.accept().expect("accept");
            // The server's end first, so that it is the one which waits.
            drop((accepted, server));
            let mut client = client;
            assert_eq!(std::io::Read::read(&mut client, &mut [0]).expect("the end"), 0);
            drop(client);
            eventually(|| probe(port, Type::STREAM, Except::TimeWait));
        });
    }
}
