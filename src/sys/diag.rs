//! The kernel's table of sockets, by `sock_diag` (netlink): unprivileged, 0.02 ms a look at one
//! port's listeners. sock_diag(7), and `inet_diag.h` of the kernel for the layouts.
//!
//! Sockets that are bound and neither listen nor are connected are not in it, and no hold is.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// A socket that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    pub(crate) address: SocketAddr,
    /// Of two sockets on one address (`SO_REUSEPORT`), it tells the one from the other.
    pub(crate) inode: u32,
    /// The user who opened it.
    pub(crate) uid: u32,
    /// Whether an IPv6 socket keeps to IPv6; `None` if the kernel did not say.
    pub(crate) only_v6: Option<bool>,
    /// How many connections wait to be accepted.
    pub(crate) queue: u32,
}

/// `TCP_LISTEN` of the kernel's `tcp_states.h`.
const LISTEN: u8 = 10;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const INET_DIAG_SKV6ONLY: u16 = 11;

/// The sizes of `nlmsghdr`, `inet_diag_req_v2`, `inet_diag_msg`, and `rtattr`.
const HEADER: usize = 16;
const REQUEST: usize = 56;
const MESSAGE: usize = 72;
const ATTRIBUTE: usize = 4;

/// The kernel answers at once; a table that changes all the time must not keep us for ever.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_ANSWERS: usize = 10_000;

/// The TCP sockets that listen on `port`, in the network namespace of the calling thread.
pub(crate) fn listeners(port: u16) -> io::Result<Vec<Listener>> {
    let socket = Socket::new(
        Domain::from(libc::AF_NETLINK),
        Type::from(libc::SOCK_RAW),
        Some(Protocol::from(libc::NETLINK_SOCK_DIAG)),
    )?;
    socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    let mut listeners = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        socket.send(&request(family as u8, port))?;
        dump(&socket, &mut listeners)?;
    }
    // The port in the request is a hint: an old kernel may answer with others.
    listeners.retain(|listener| listener.address.port() == port);
    Ok(listeners)
}

/// Reads the answers to one request, to its end.
fn dump(mut socket: &Socket, listeners: &mut Vec<Listener>) -> io::Result<()> {
    let mut buffer = vec![0; 32 * 1024];
    for _ in 0..MAX_ANSWERS {
        let size = match socket.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            size => size?,
        };
        let mut messages = Messages { rest: &buffer[..size] };
        for message in &mut messages {
            match message {
                Message::Listener(listener) => listeners.push(listener),
                Message::Other => {}
                Message::Done => return Ok(()),
                Message::Error(0) => return Ok(()),
                // A kernel without IPv6, or without this family's module, has no such sockets.
                Message::Error(code) if code == -libc::ENOENT => return Ok(()),
                Message::Error(code) => return Err(io::Error::from_raw_os_error(-code)),
            }
        }
    }
    Err(io::Error::from(io::ErrorKind::TimedOut))
}

fn request(family: u8, port: u16) -> [u8; HEADER + REQUEST] {
    let mut bytes = [0; HEADER + REQUEST];
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    bytes[0..4].copy_from_slice(&((HEADER + REQUEST) as u32).to_ne_bytes());
    bytes[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    bytes[HEADER] = family;
    bytes[HEADER + 1] = libc::IPPROTO_TCP as u8;
    bytes[HEADER + 4..HEADER + 8].copy_from_slice(&(1_u32 << LISTEN).to_ne_bytes());
    bytes[HEADER + 8..HEADER + 10].copy_from_slice(&port.to_be_bytes());
    bytes
}

/// One message of an answer.
#[derive(Debug, PartialEq, Eq)]
enum Message {
    Listener(Listener),
    /// What is not understood, or not asked for.
    Other,
    Done,
    Error(i32),
}

/// The messages of one datagram. Whatever the bytes are, it ends.
struct Messages<'a> {
    rest: &'a [u8],
}

impl Iterator for Messages<'_> {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        let length = usize::try_from(u32_at(self.rest, 0)?).ok()?;
        let kind = u16_at(self.rest, 4)?;
        let body = self.rest.get(HEADER..length)?;
        self.rest = self.rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(match i32::from(kind) {
            libc::NLMSG_DONE => Message::Done,
            libc::NLMSG_ERROR => Message::Error(u32_at(body, 0)? as i32),
            _ if kind == SOCK_DIAG_BY_FAMILY => {
                listener(body).map_or(Message::Other, Message::Listener)
            }
            _ => Message::Other,
        })
    }
}

/// Reads an `inet_diag_msg` and its attributes.
fn listener(body: &[u8]) -> Option<Listener> {
    let (family, state) = (*body.first()?, *body.get(1)?);
    if state != LISTEN {
        return None;
    }
    let port = u16::from_be_bytes(body.get(4..6)?.try_into().ok()?);
    let address: [u8; 16] = body.get(8..24)?.try_into().ok()?;
    let ip = match i32::from(family) {
        libc::AF_INET => {
            let [a, b, c, d, ..] = address;
            IpAddr::from(Ipv4Addr::new(a, b, c, d))
        }
        libc::AF_INET6 => IpAddr::from(Ipv6Addr::from(address)),
        _ => return None,
    };
    Some(Listener {
        address: SocketAddr::new(ip, port),
        queue: u32_at(body, 56)?,
        uid: u32_at(body, 64)?,
        inode: u32_at(body, 68)?,
        only_v6: only_v6(body.get(MESSAGE..)?),
    })
}

fn only_v6(mut attributes: &[u8]) -> Option<bool> {
    loop {
        let length = usize::from(u16_at(attributes, 0)?);
        let kind = u16_at(attributes, 2)?;
        let value = attributes.get(ATTRIBUTE..length)?;
        if kind == INET_DIAG_SKV6ONLY {
            return Some(*value.first()? != 0);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, RandomState};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_listener_is_found_with_its_queue_and_a_client_is_not() {
        let server = TcpListener::bind("127.0.0.1:0").expect("listen");
        let address = server.local_addr().expect("address");
        let clients: Vec<_> =
            (0..2).map(|_| TcpStream::connect(address).expect("connect")).collect();
        let found = listeners(address.port()).expect("look");
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].address, found[0].queue), (address, 2));
        assert_eq!(found[0].uid, crate::sys::effective_uid());
        let link = format!("socket:[{}]", found[0].inode);
        let descriptors = std::fs::read_dir("/proc/self/fd").expect("descriptors");
        let mut links = descriptors.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
        assert!(links.any(|target| target.to_str() == Some(&link)), "{link} is not ours");
        let clients_port = clients[0].local_addr().expect("address").port();
        assert_eq!(listeners(clients_port).expect("look"), []);
    }

    #[test]
    fn an_ipv6_listener_says_whether_it_keeps_to_ipv6() {
        for only_v6 in [true, false] {
            let Ok(server) = Socket::new(Domain::IPV6, Type::STREAM, None) else { return };
            server.set_only_v6(only_v6).expect("option");
            let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
            server.bind(&any.into()).and_then(|()| server.listen(1)).expect("listen");
            let port = server.local_addr().expect("address").as_socket().expect("inet").port();
            let found = listeners(port).expect("look");
            assert_eq!((found.len(), found[0].only_v6), (1, Some(only_v6)));
            assert!(found[0].address.is_ipv6());
        }
    }

    /// A datagram of one message, with an attribute before the one that counts.
    fn datagram() -> Vec<u8> {
        let mut body = vec![0; MESSAGE];
        (body[0], body[1]) = (libc::AF_INET6 as u8, LISTEN);
        body[4..6].copy_from_slice(&8080_u16.to_be_bytes());
        body[23] = 1;
        body[56..60].copy_from_slice(&3_u32.to_ne_bytes());
        body[64..68].copy_from_slice(&1000_u32.to_ne_bytes());
        body[68..72].copy_from_slice(&77_u32.to_ne_bytes());
        for (kind, value) in [(2_u16, 9_u8), (INET_DIAG_SKV6ONLY, 1)] {
            body.extend(5_u16.to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend([value, 0, 0, 0]);
        }
        message(SOCK_DIAG_BY_FAMILY, &body)
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(HEADER, 0);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn a_datagram_is_read_to_its_end() {
        let mut bytes = datagram();
        bytes.extend(message(libc::NLMSG_ERROR as u16, &(-libc::EPERM).to_ne_bytes()));
        bytes.extend(message(libc::NLMSG_DONE as u16, &[0; 4]));
        let listener = Listener {
            address: "[::1]:8080".parse().expect("an address"),
            inode: 77,
            uid: 1000,
            only_v6: Some(true),
            queue: 3,
        };
        let messages: Vec<_> = Messages { rest: &bytes }.collect();
        let expected = [Message::Listener(listener), Message::Error(-libc::EPERM), Message::Done];
        assert_eq!(messages, expected);
    }

    /// No bytes make it panic or hang: cut anywhere, and with any byte changed.
    #[test]
    fn any_bytes_are_survived() {
        let whole = datagram();
        for end in 0..whole.len() {
            assert!(Messages { rest: &whole[..end] }.count() <= 1);
        }
        let random = RandomState::new();
        for round in 0..20_000_u64 {
            let noise = random.hash_one(round);
            let mut bytes = [whole.clone(), whole.clone()].concat();
            for at in 0..noise % 8 {
                let more = random.hash_one((round, at));
                let index = more as usize % bytes.len();
                bytes[index] = (more >> 32) as u8;
            }
            assert!(Messages { rest: &bytes }.count() <= bytes.len() / HEADER + 1);
        }
    }
}
