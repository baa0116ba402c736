//! The kernel's table of sockets as text, `/proc/thread-self/net/tcp` and its like: where netlink is
//! not to be had (a sandbox's filter; no `udp_diag` module). Some milliseconds a look, so never in a
//! loop. `/proc/self/net` would be that of the main thread, which may be in another namespace.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::socket::{Family, MAX_SOCKETS, Protocol, SocketEntry, State, Wanted};

/// The kernel's lines have at most 150 bytes for TCP and 200 for IPv6.
const MAX_LINE: u64 = 512;

/// Adds to `found` those of one protocol and family that are wanted.
pub(super) fn read(
    protocol: Protocol,
    family: Family,
    wanted: Wanted,
    found: &mut Vec<SocketEntry>,
) -> io::Result<()> {
    let name = match (protocol, family) {
        (Protocol::Tcp, Family::V4) => "tcp",
        (Protocol::Tcp, Family::V6) => "tcp6",
        (Protocol::Udp, Family::V4) => "udp",
        (Protocol::Udp, Family::V6) => "udp6",
    };
    let file = match File::open(format!("/proc/thread-self/net/{name}")) {
        // A kernel without IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound && family == Family::V6 => {
            return Ok(());
        }
        file => file?,
    };
    let mut lines = BufReader::new(file);
    let mut line = Vec::new();
    while found.len() < MAX_SOCKETS {
        line.clear();
        if (&mut lines).take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let entry = std::str::from_utf8(&line).ok().and_then(|line| parse(line, protocol));
        found.extend(entry.filter(|entry| wanted.includes(entry)));
    }
    Ok(())
}

/// One line. The heading is none.
pub(super) fn parse(line: &str, protocol: Protocol) -> Option<SocketEntry> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let local = address(fields.next()?)?;
    let remote = address(fields.next()?)?;
    let state = u8::from_str_radix(fields.next()?, 16).ok()?;
    let queue = u32::from_str_radix(fields.next()?.split_once(':')?.1, 16).ok()?;
    let uid = fields.nth(2)?.parse().ok()?; // after two timers
    let inode = fields.nth(1)?.parse().ok()?; // after the timeout
    let state = State::from_number(state);
    Some(SocketEntry { protocol, state, local, remote, inode, uid, only_v6: None, queue })
}

/// `0100007F:1F90`: the address as words of the machine's byte order, the port in none.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(ip.get(at..at + 8)?, 16).ok();
    let ip = match ip.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?.to_ne_bytes())),
        32 => {
            let mut bytes = [0; 16];
            for (at, bytes) in bytes.chunks_exact_mut(4).enumerate() {
                bytes.copy_from_slice(&word(at * 8)?.to_ne_bytes());
            }
            IpAddr::from(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As the kernel prints an address.
    fn printed(address: SocketAddr) -> String {
        let bytes = match address.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let words = bytes.chunks(4).map(|word| <[u8; 4]>::try_from(word).unwrap_or_default());
        let words: String = words.map(|it| format!("{:08X}", u32::from_ne_bytes(it))).collect();
        format!("{words}:{:04X}", address.port())
    }

    proptest! {
        #[test]
        fn what_the_kernel_prints_is_read(
            local: SocketAddr,
            remote: SocketAddr,
            queue: u32,
            uid: u32,
            inode: u32,
            name in "[ -~]{0,20}",
        ) {
            // What belongs to an IPv6 address beside it is not printed.
            let bare = |address: SocketAddr| SocketAddr::new(address.ip(), address.port());
            let line = format!(
                "  12: {} {} 0A 00000000:{queue:08X} 00:00000000 00000000 {uid:>5} 0 {inode} {name}",
                printed(local), printed(remote),
            );
            let expected = SocketEntry {
                protocol: Protocol::Tcp, state: State::Listen, local: bare(local),
                remote: bare(remote), inode, uid, only_v6: None, queue,
            };
            prop_assert_eq!(parse(&line, Protocol::Tcp), Some(expected));
        }

        #[test]
        fn any_line_is_survived(
            line in "[ 0-9A-F:é]{0,200}",
            fields in prop::collection::vec("[0-9A-F]{0,33}(:[0-9A-F]{0,5})?", 0..14),
        ) {
            let _ = parse(&line, Protocol::Tcp);
            let _ = parse(&fields.join(" "), Protocol::Udp);
        }
    }

    fn check(line: &str, protocol: Protocol, expected: Option<(State, &str, &str, u32, u32, u32)>) {
        let found = parse(line, protocol).map(|it| {
            (it.state, it.local.to_string(), it.remote.to_string(), it.queue, it.uid, it.inode)
        });
        let expected = expected.map(|(state, local, remote, queue, uid, inode)| {
            (state, local.to_owned(), remote.to_owned(), queue, uid, inode)
        });
        assert_eq!(found, expected, "{line}");
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn lines_of_a_kernel() {
        let heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
        check(heading, Protocol::Tcp, None);
        check("", Protocol::Tcp, None);
        check(
            "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000002 00:00000000 00000000  1000        0 4711 1 0000000000000000 100 0 0 10 0",
            Protocol::Tcp,
            Some((State::Listen, "127.0.0.1:8080", "0.0.0.0:0", 2, 1000, 4711)),
        );
        check(
            "   1: 0100007F:A8C6 0100007F:1F90 06 00000000:00000000 03:00000EB6 00000000     0        0 0 3 0000000000000000",
            Protocol::Tcp,
            Some((State::TimeWait, "127.0.0.1:43206", "127.0.0.1:8080", 0, 0, 0)),
        );
        check(
            "   0: 00000000000000000000000001000000:0277 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 9 1 0 100 0 0 10 0",
            Protocol::Tcp,
            Some((State::Listen, "[::1]:631", "[::]:0", 0, 0, 9)),
        );
        check(
            " 1234: 3500007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000   102        0 13 2 0 0",
            Protocol::Udp,
            Some((State::Bound, "127.0.0.53:53", "0.0.0.0:0", 0, 102, 13)),
        );
        // More digits than an address has, and a character of more bytes where a word would end.
        check("0: 0100007F00:1F90 0:0 0A 0:0 0:0 0 0 0 1", Protocol::Tcp, None);
        check("0: 010000é7:1F90 00000000:0000 0A 0:0 0:0 0 0 0 1", Protocol::Tcp, None);
    }
}
