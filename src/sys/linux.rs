//! What only Linux can tell: of the machine, network namespaces and the kernel's ranges of ports; of this
//! process, whether it adopts.

use std::fs::{self, File};
use std::io;
use std::mem::MaybeUninit;
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, RawFd};

use super::adopt::option;

/// A socket can keep a port which servers can bind all the same; see `hold`.
pub(crate) const HAS_HOLDS: bool = true;

/// Whether sockets and processes can be looked at, if nothing is in the way.
pub(crate) const CAN_LOOK: bool = true;

/// What shows people who has which port.
pub(crate) const LIST_SOCKETS: &str = "ss -antup";

/// Keeps those who clean up from a file that was locked: here they leave alone what is in a locked directory.
pub(crate) fn keep_from_cleaners(_: &File) {}

/// Waits until nobody is left of a group: here that is seen, by looking.
pub(crate) fn wait_for_group(_: u32) {}

/// Why this process may not bind `port`, as far as the number tells.
pub(crate) fn why_excluded(port: u16) -> Option<&'static str> {
    (port < 1024).then_some("a port below 1024 needs a privilege (CAP_NET_BIND_SERVICE)")
}

/// Identifies the network namespace of the calling thread. `None` where `/proc` is missing, or does not tell.
///
/// Of the thread, not of the process: `setns` and `unshare` change one thread only.
///
/// # Errors
///
/// What may be otherwise the next time, such as ENOMEM. As `None`, it would be another directory of slots, where
/// nobody else looks.
pub(crate) fn net_namespace() -> io::Result<Option<u64>> {
    use io::ErrorKind::{InvalidInput, NotADirectory, NotFound, PermissionDenied, Unsupported};
    let link = match fs::read_link("/proc/thread-self/ns/net") {
        Ok(link) => link,
        Err(error) => match error.kind() {
            NotFound | NotADirectory | PermissionDenied | InvalidInput | Unsupported => {
                return Ok(None);
            }
            _ => return Err(error),
        },
    };
    let number = |link: &str| link.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok();
    Ok(link.to_str().and_then(number))
}

/// Identifies the network namespace of a socket, by a number that the kernel never uses twice.
/// `None` before Linux 5.14.
pub(crate) fn net_namespace_cookie(socket: &impl AsRawFd) -> Option<u64> {
    let mut cookie = 0_u64;
    let mut size = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the pointers are to `cookie` and to its size, both of which outlive the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut size,
        )
    };
    (result == 0).then_some(cookie)
}

/// Whether a file that is open has no name any more, asked without its times: a time that was looked at
/// is noted at once at the next write (since Linux 6.13), which costs 1 us on ext4.
pub(crate) fn is_nameless(file: &File) -> bool {
    let mut links = MaybeUninit::<libc::statx>::zeroed();
    let (fd, flags) = (file.as_raw_fd(), libc::AT_EMPTY_PATH);
    // SAFETY: the path is a C string, and the kernel writes into `links`, which outlives the call.
    let result =
        unsafe { libc::statx(fd, c"".as_ptr(), flags, libc::STATX_NLINK, links.as_mut_ptr()) };
    // SAFETY: all of it is integers, for which zeros are values.
    let links = unsafe { links.assume_init() };
    let is_told = result == 0 && links.stx_mask & libc::STATX_NLINK != 0;
    match is_told {
        true => links.stx_nlink == 0,
        // Before Linux 4.11, or forbidden by a filter.
        false => file.metadata().is_ok_and(|metadata| super::is_unlinked(&metadata)),
    }
}

/// What a socket of this kind is instead of one of TCP.
pub(super) fn other_than_tcp(number: RawFd, kind: libc::c_int) -> io::Result<Option<&'static str>> {
    let domain = option(number, libc::SO_DOMAIN)?;
    Ok(match (domain, kind, option(number, libc::SO_PROTOCOL)?) {
        (
            libc::AF_INET | libc::AF_INET6,
            libc::SOCK_STREAM,
            libc::IPPROTO_TCP | libc::IPPROTO_MPTCP,
        ) => None,
        (libc::AF_INET | libc::AF_INET6, _, libc::IPPROTO_UDP) => Some("a UDP socket"),
        (libc::AF_UNIX, ..) => Some("a Unix socket"),
        _ => Some("a socket of another protocol"),
    })
}

/// Whether this process becomes the parent of its descendants whose parents end.
pub(crate) fn adopts_orphans() -> bool {
    let mut adopts: libc::c_int = 0;
    // SAFETY: the pointer is to `adopts`, into which this request writes an `int`.
    let result = unsafe { libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut adopts) };
    result == 0 && adopts != 0
}

/// The ports from which the kernel serves `bind(0)` and outgoing connections, in the network
/// namespace of the calling thread.
pub(crate) fn ephemeral_ports() -> Option<RangeInclusive<u16>> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut bounds = text.split_ascii_whitespace().map(str::parse);
    match (bounds.next(), bounds.next()) {
        (Some(Ok(first)), Some(Ok(last))) => Some(first..=last),
        _ => None,
    }
}

/// The administrator's list of ports which the kernel shall not hand out, as the kernel prints it
/// (`8080,9000-9010`); empty where there is none.
pub(crate) fn reserved_ports() -> String {
    fs::read_to_string("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_ranges_are_read() {
        let file = |name| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).expect("/proc");
        let range = ephemeral_ports().expect("a range");
        let text = format!("{}\t{}\n", range.start(), range.end());
        assert_eq!(text, file("ip_local_port_range"));
        assert_eq!(reserved_ports(), file("ip_local_reserved_ports"));
        assert!(why_excluded(1023).is_some() && why_excluded(1024).is_none());
    }

    #[test]
    fn a_file_without_a_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        let file = File::create(&one).expect("a file");
        assert!(!is_nameless(&file));
        fs::hard_link(&one, &two).expect("a second name");
        fs::remove_file(one).expect("remove");
        assert!(!is_nameless(&file), "it has another name");
        fs::remove_file(two).expect("remove");
        assert!(is_nameless(&file));
    }
}
