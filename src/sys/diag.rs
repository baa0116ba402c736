//! `sock_diag` (netlink): unprivileged, 0.02 ms a look at one port's listeners. sock_diag(7), and
//! `inet_diag.h` of the kernel for the layouts.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol as SocketProtocol, Socket, Type};

use super::socket::{CLOSE, Family, LISTEN, MAX_SOCKETS, Protocol, SocketEntry, State, Wanted};

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

/// A socket on which the kernel can be asked.
pub(super) fn open() -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::from(libc::AF_NETLINK),
        Type::from(libc::SOCK_RAW),
        Some(SocketProtocol::from(libc::NETLINK_SOCK_DIAG)),
    )?;
    socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    Ok(socket)
}

/// Adds to `found` those of one protocol and family that are wanted. After an error, the socket may
/// hold the rest of an answer.
///
/// # Errors
///
/// The kernel has no `sock_diag`, or none for this family or protocol: it may have such sockets all
/// the same.
pub(super) fn dump(
    mut socket: &Socket,
    protocol: Protocol,
    family: Family,
    wanted: Wanted,
    found: &mut Vec<SocketEntry>,
) -> io::Result<()> {
    socket.send(&request(protocol, family, wanted))?;
    let mut buffer = vec![0; 32 * 1024];
    for _ in 0..MAX_ANSWERS {
        let size = match socket.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            size => size?,
        };
        let mut messages = Messages { rest: &buffer[..size], protocol };
        for message in &mut messages {
            match message {
                // What was asked for is a hint: an old kernel may answer with others.
                Message::Socket(entry) if wanted.includes(&entry) && found.len() < MAX_SOCKETS => {
                    found.push(entry);
                }
                Message::Socket(_) | Message::Other => {}
                Message::Done | Message::Error(0) => return Ok(()),
                Message::Error(code) => return Err(io::Error::from_raw_os_error(-code)),
            }
        }
    }
    Err(io::Error::from(io::ErrorKind::TimedOut))
}

fn request(protocol: Protocol, family: Family, wanted: Wanted) -> [u8; HEADER + REQUEST] {
    let mut bytes = [0; HEADER + REQUEST];
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    bytes[0..4].copy_from_slice(&((HEADER + REQUEST) as u32).to_ne_bytes());
    bytes[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    bytes[HEADER] = match family {
        Family::V4 => libc::AF_INET,
        Family::V6 => libc::AF_INET6,
    } as u8;
    bytes[HEADER + 1] = match protocol {
        Protocol::Tcp => libc::IPPROTO_TCP,
        Protocol::Udp => libc::IPPROTO_UDP,
    } as u8;
    let states = match wanted.serving {
        None => u32::MAX,
        Some(Protocol::Tcp) => 1_u32 << LISTEN,
        Some(Protocol::Udp) => 1_u32 << CLOSE,
    };
    bytes[HEADER + 4..HEADER + 8].copy_from_slice(&states.to_ne_bytes());
    let port = wanted.port.unwrap_or(0); // 0: any
    bytes[HEADER + 8..HEADER + 10].copy_from_slice(&port.to_be_bytes());
    bytes
}

/// One message of an answer.
#[derive(Debug, PartialEq, Eq)]
enum Message {
    Socket(SocketEntry),
    /// What is not understood, or not asked for.
    Other,
    Done,
    Error(i32),
}

/// The messages of one datagram. Whatever the bytes are, it ends.
struct Messages<'a> {
    rest: &'a [u8],
    protocol: Protocol,
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
                socket(body, self.protocol).map_or(Message::Other, Message::Socket)
            }
            _ => Message::Other,
        })
    }
}

/// How many messages a datagram has.
#[cfg(fuzzing)]
pub(super) fn sockets_in(bytes: &[u8], protocol: Protocol) -> usize {
    Messages { rest: bytes, protocol }.count()
}

/// Reads an `inet_diag_msg` and its attributes.
fn socket(body: &[u8], protocol: Protocol) -> Option<SocketEntry> {
    let (family, state) = (*body.first()?, *body.get(1)?);
    let address = |port_at: usize, ip_at: usize| {
        let port = u16::from_be_bytes(body.get(port_at..port_at + 2)?.try_into().ok()?);
        let bytes: [u8; 16] = body.get(ip_at..ip_at + 16)?.try_into().ok()?;
        let ip = match i32::from(family) {
            libc::AF_INET => {
                let [a, b, c, d, ..] = bytes;
                IpAddr::from(Ipv4Addr::new(a, b, c, d))
            }
            libc::AF_INET6 => IpAddr::from(Ipv6Addr::from(bytes)),
            _ => return None,
        };
        Some(SocketAddr::new(ip, port))
    };
    Some(SocketEntry {
        protocol,
        state: State::from_number(state),
        local: address(4, 8)?,
        remote: address(6, 24)?,
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
    use proptest::prelude::*;

    use super::*;

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

    fn messages(bytes: &[u8]) -> impl Iterator<Item = Message> {
        Messages { rest: bytes, protocol: Protocol::Tcp }
    }

    #[test]
    fn a_datagram_is_read_to_its_end() {
        let mut bytes = datagram();
        bytes.extend(message(libc::NLMSG_ERROR as u16, &(-libc::EPERM).to_ne_bytes()));
        bytes.extend(message(libc::NLMSG_DONE as u16, &[0; 4]));
        let listener = SocketEntry {
            protocol: Protocol::Tcp,
            state: State::Listen,
            local: "[::1]:8080".parse().expect("an address"),
            remote: "[::]:0".parse().expect("an address"),
            inode: 77,
            uid: 1000,
            only_v6: Some(true),
            queue: 3,
        };
        let messages: Vec<_> = messages(&bytes).collect();
        let expected = [Message::Socket(listener), Message::Error(-libc::EPERM), Message::Done];
        assert_eq!(messages, expected);
    }

    proptest! {
        /// No bytes make it panic or go on for ever.
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(messages(&bytes).count() <= bytes.len() / HEADER);
        }

        /// Nor does a datagram that is cut anywhere, and has some bytes changed.
        #[test]
        fn a_damaged_datagram_is_survived(
            end in 0_usize..=300,
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        ) {
            let mut bytes = [datagram(), datagram()].concat();
            for (at, byte) in changes {
                *at.get_mut(&mut bytes) = byte;
            }
            bytes.truncate(end);
            prop_assert!(messages(&bytes).count() <= bytes.len() / HEADER);
        }
    }
}
