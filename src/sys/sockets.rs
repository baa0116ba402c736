//! The kernel's table of sockets, of the network namespace of the calling thread.
//!
//! It is asked by `sock_diag`, and where that is not possible read in `/proc`. A TCP socket that is
//! bound and neither listens nor is connected, as a hold is, is told by `sock_diag` since Linux 6.8
//! (`TCP_BOUND_INACTIVE`), and never by `/proc`.

use std::collections::HashSet;
use std::io;

use super::socket::{Family, Protocol, SocketEntry, Wanted};
use super::{diag, proc_net};

/// The sockets that are `wanted`.
///
/// # Errors
///
/// Neither of the two ways is open: there is no netlink, and no `/proc`.
pub(crate) fn sockets(wanted: Wanted) -> io::Result<Vec<SocketEntry>> {
    let protocols = match wanted.serving {
        Some(protocol) => &[protocol][..],
        None => &[Protocol::Tcp, Protocol::Udp],
    };
    let netlink = diag::open();
    let mut found = Vec::new();
    for &protocol in protocols {
        for family in [Family::V4, Family::V6] {
            let before = found.len();
            let dumped = match &netlink {
                Ok(socket) => diag::dump(socket, protocol, family, wanted, &mut found),
                Err(error) => Err(io::Error::from(error.kind())),
            };
            if dumped.is_err() {
                found.truncate(before);
                proc_net::read(protocol, family, wanted, &mut found)?;
            }
        }
    }
    // A table that changes while it is told may tell of one twice.
    let mut seen = HashSet::new();
    found.retain(|it| seen.insert((it.protocol, it.local, it.remote, it.inode)));
    Ok(found)
}

/// The sockets by which somebody serves, on `port` or on all.
pub(crate) fn servers(protocol: Protocol, port: Option<u16>) -> io::Result<Vec<SocketEntry>> {
    sockets(Wanted { serving: Some(protocol), port })
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};

    use socket2::{Domain, Socket, Type};

    use super::super::socket::State;
    use super::*;
    use crate::patience::eventually;

    type Look = fn(Wanted) -> io::Result<Vec<SocketEntry>>;

    fn by_diag(wanted: Wanted) -> io::Result<Vec<SocketEntry>> {
        let mut found = Vec::new();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for family in [Family::V4, Family::V6] {
                diag::dump(&diag::open()?, protocol, family, wanted, &mut found)?;
            }
        }
        Ok(found)
    }

    fn by_proc(wanted: Wanted) -> io::Result<Vec<SocketEntry>> {
        let mut found = Vec::new();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for family in [Family::V4, Family::V6] {
                proc_net::read(protocol, family, wanted, &mut found)?;
            }
        }
        Ok(found)
    }

    const WAYS: [(&str, Look); 3] = [("both", sockets), ("diag", by_diag), ("proc", by_proc)];

    fn on(port: u16, serving: impl Into<Option<Protocol>>) -> Wanted {
        Wanted { serving: serving.into(), port: Some(port) }
    }

    /// The one that `is_it`. A table that changes while `/proc` tells it may tell of one twice, or not.
    fn one(
        way: &str,
        look: Look,
        wanted: Wanted,
        is_it: impl Fn(&SocketEntry) -> bool,
    ) -> SocketEntry {
        eventually(|| {
            let mut found = look(wanted).expect(way);
            found.retain(&is_it);
            match found.len() {
                1 => Ok(found.remove(0)),
                _ => Err(format!("{way}: {found:?}")),
            }
        })
    }

    #[test]
    fn a_listener_is_found_with_its_queue_and_a_client_is_not() {
        let server = TcpListener::bind("127.0.0.1:0").expect("listen");
        let address = server.local_addr().expect("address");
        let clients: Vec<_> =
            (0..2).map(|_| TcpStream::connect(address).expect("connect")).collect();
        let client = clients[0].local_addr().expect("address");
        for (way, look) in WAYS {
            let listener = one(way, look, on(address.port(), Protocol::Tcp), |it| {
                it.local == address && it.queue == 2 // once the last client has got there
            });
            assert_eq!(listener.uid, crate::sys::unix::effective_uid(), "{way}");
            let holder = crate::sys::has_socket(std::process::id(), &[listener.inode.into()]);
            assert!(holder.expect("descriptors"), "{way}: {} is not ours", listener.inode);
            let served = look(on(client.port(), Protocol::Tcp)).expect(way);
            assert!(served.iter().all(|it| it.local != client), "{way}");
            // Other tests may have the same number, to another remote end.
            let is_it = |it: &SocketEntry| (it.local, it.remote) == (client, address);
            let connected = one(way, look, on(client.port(), None), is_it);
            assert_eq!(connected.state, State::Connected, "{way}");
        }
    }

    #[test]
    fn who_is_gone_leaves_time_wait_behind() {
        let server = TcpListener::bind("127.0.0.1:0").expect("listen");
        let address = server.local_addr().expect("address");
        let client = TcpStream::connect(address).expect("connect");
        let port = client.local_addr().expect("address").port();
        let (mut accepted, _) = server.accept().expect("accept");
        // The client first, so it is this end which waits. Another test's child may have copies.
        client.shutdown(Shutdown::Write).expect("the end");
        assert_eq!(accepted.read(&mut [0]).expect("the end"), 0);
        accepted.shutdown(Shutdown::Write).expect("the end");
        drop((client, accepted));
        for (way, look) in WAYS {
            eventually(|| {
                let found = look(on(port, None)).expect(way);
                found.into_iter().find(|it| it.state == State::TimeWait).ok_or(way)
            });
        }
    }

    #[test]
    fn a_datagram_socket_is_found() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(socket) = UdpSocket::bind(address) else { continue }; // no IPv6
            let address = socket.local_addr().expect("address");
            for (way, look) in WAYS {
                // Another test may have the number for TCP.
                let is_it = |it: &SocketEntry| it.local == address && it.protocol == Protocol::Udp;
                assert_eq!(one(way, look, on(address.port(), None), is_it).state, State::Bound);
                one(way, look, on(address.port(), Protocol::Udp), is_it);
                let others = look(on(address.port(), Protocol::Tcp)).expect(way);
                assert!(!others.iter().any(is_it), "{way}");
            }
        }
    }

    #[test]
    fn an_ipv6_listener_says_whether_it_keeps_to_ipv6() {
        for only_v6 in [true, false] {
            let Ok(server) = Socket::new(Domain::IPV6, Type::STREAM, None) else { return };
            server.set_only_v6(only_v6).expect("option");
            let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
            server.bind(&any.into()).and_then(|()| server.listen(1)).expect("listen");
            let local = server.local_addr().expect("address").as_socket().expect("inet");
            for (way, look) in WAYS {
                let found = one(way, look, on(local.port(), Protocol::Tcp), |it| it.local == local);
                let expected = (way != "proc").then_some(only_v6);
                assert_eq!(found.only_v6, expected, "{way}");
            }
        }
    }

    /// `ulimit -n 4096; cargo test --release --lib -- --ignored --nocapture what_a_look_costs`
    #[test]
    #[ignore = "prints figures"]
    #[allow(clippy::print_stdout)] // that is what it is for
    fn what_a_look_costs() {
        for count in [10, 2_000] {
            let listeners: Result<Vec<_>, _> =
                (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect();
            let Ok(listeners) = listeners else { return println!("`ulimit -n 4096`") };
            let port = listeners[count / 2].local_addr().expect("address").port();
            let one = on(port, Protocol::Tcp);
            let all = Wanted { serving: Some(Protocol::Tcp), port: None };
            for (way, look) in &WAYS[1..] {
                for (what, wanted) in [("one port", one), ("all", all)] {
                    let mut times: Vec<_> = (0..20)
                        .map(|_| {
                            let start = std::time::Instant::now();
                            assert!(!look(wanted).expect(way).is_empty());
                            start.elapsed()
                        })
                        .collect();
                    times.sort_unstable();
                    println!("{count:>5} listeners, {way}, {what}: {:?}", times[10]);
                }
            }
        }
    }
}
