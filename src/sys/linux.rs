//! What only Linux can tell: its `/proc`, and descriptors of processes.

use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use super::Signal;

/// Identifies the network namespace of the calling thread. `None` where `/proc` is missing.
///
/// Of the thread, not of the process: `setns` and `unshare` change one thread only.
pub(crate) fn net_namespace() -> Option<u64> {
    let link = fs::read_link("/proc/thread-self/ns/net").ok()?;
    let number = link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?;
    number.parse().ok()
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

/// When `pid` was started, in clock ticks since boot: with the pid, it names one process for ever.
/// `None` if there is no such process, or it cannot be told.
pub(crate) fn process_start(pid: u32) -> Option<u64> {
    stat_of(pid).filter(|_| proc_is_ours()).map(|stat| stat.start)
}

/// Whether `/proc` is that of our pid namespace: in another's, each number means somebody else.
fn proc_is_ours() -> bool {
    let shown = fs::read_link("/proc/self");
    shown.is_ok_and(|shown| shown.to_str() == Some(&process::id().to_string()))
}

/// What a process calls itself, at most 15 bytes.
pub(crate) fn process_name(pid: u32) -> Option<String> {
    let name = fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(String::from_utf8_lossy(&name).trim_end_matches('\n').to_owned())
}

/// The living members of a process group. Zombies do not live: under a pid 1 that does not reap,
/// they stay for ever.
///
/// # Errors
///
/// There is no `/proc`, or it is that of another pid namespace, whose numbers mean others.
pub(crate) fn group_members(group: u32) -> io::Result<Vec<u32>> {
    if !proc_is_ours() {
        return Err(io::Error::from(io::ErrorKind::Unsupported));
    }
    let mut members = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        let Ok(pid) = name.parse() else { continue };
        // A process that vanished since the directory was read is no member.
        if stat_of(pid).is_some_and(|stat| stat.group == group && stat.lives()) {
            members.push(pid);
        }
    }
    Ok(members)
}

/// Kills `pid`, if it is a member of `group` now.
///
/// Its descriptor is opened first: what is looked at then, and what is killed, is one process, even
/// if the number should come to mean another in between.
pub(crate) fn kill_member(pid: u32, group: u32) -> io::Result<()> {
    let descriptor = open_process(pid);
    if !stat_of(pid).is_some_and(|stat| stat.group == group && stat.lives()) {
        return Ok(());
    }
    let descriptor = match descriptor {
        Ok(descriptor) => descriptor,
        Err(error) if super::is_no_such_process(&error) => return Ok(()),
        // A kernel before 5.3, or no descriptor left.
        Err(_) => return super::signal_process(pid, Signal::Kill),
    };
    let (fd, signal) = (descriptor.as_raw_fd(), Signal::Kill.number());
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open, and a null pointer stands for no further information.
    match unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, no_info, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Waits until every process of `pids` has ended, or `timeout` has passed. May return early.
///
/// Works for any process, not only for children. Costs one descriptor a process while it waits.
pub(crate) fn wait_for_exit(pids: &[u32], timeout: Duration) {
    let deadline = Instant::now() + timeout;
    let mut descriptors = Vec::with_capacity(pids.len());
    for &pid in pids {
        match open_process(pid) {
            Ok(descriptor) => descriptors.push(descriptor),
            Err(error) if super::is_no_such_process(&error) => {}
            // A kernel before 5.3, or no descriptor left: a short nap, and the caller looks again.
            Err(_) => return thread::sleep(timeout.min(Duration::from_millis(5))),
        }
    }
    while !descriptors.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut polled: Vec<_> = descriptors
            .iter()
            .map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 })
            .collect();
        // Rounded up: a wait of 0.4 ms must not become a busy loop of waits of 0 ms.
        let millis = left.as_micros().div_ceil(1000);
        let millis = libc::c_int::try_from(millis).unwrap_or(libc::c_int::MAX);
        // SAFETY: the pointer and the length describe `polled`, which outlives the call, and whose
        // descriptors are open.
        let ready =
            unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, millis) };
        if ready <= 0 {
            return; // the deadline, or a signal: the caller looks again
        }
        let mut ended = polled.iter().map(|entry| entry.revents != 0);
        descriptors.retain(|_| !ended.next().unwrap_or(false));
    }
}

/// A descriptor of a process, which `poll` reports readable once the process has ended.
fn open_process(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: `pidfd_open` takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::c_long::from(pid), 0) };
    match libc::c_int::try_from(fd) {
        // SAFETY: the kernel has just made this descriptor, close-on-exec, and nobody else knows it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The fields of `/proc/PID/stat` that are used here; proc_pid_stat(5).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: u8,
    group: u32,
    threads: u32,
    start: u64,
}

impl Stat {
    /// Where the first thread has ended before the others, the state is Z all the same.
    fn lives(&self) -> bool {
        !matches!(self.state, b'Z' | b'X') || self.threads > 1
    }

    /// The second field is the program's name, in parentheses and chosen by the program: it may
    /// hold blanks, newlines and parentheses. Only the last parenthesis ends it.
    fn parse(text: &[u8]) -> Option<Stat> {
        let name_end = text.iter().rposition(|&byte| byte == b')')?;
        let rest = std::str::from_utf8(&text[name_end + 1..]).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?.bytes().next()?;
        let group = fields.nth(1)?.parse().ok()?; // field 5, after the state (3) and the parent (4)
        let threads = fields.nth(14)?.parse().ok()?; // field 20
        let start = fields.nth(1)?.parse().ok()?; // field 22
        Some(Stat { state, group, threads, start })
    }
}

fn stat_of(pid: u32) -> Option<Stat> {
    Stat::parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_survives_any_program_name() {
        let tail = "S 1 77 77 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 3 0 123456 2351104 1 0";
        let expected = Some(Stat { state: b'S', group: 77, threads: 3, start: 123_456 });
        for name in ["sh", "a b", ") S 1 2 3 (", "new\nline", "", "ends with )"] {
            assert_eq!(Stat::parse(format!("42 ({name}) {tail}\n").as_bytes()), expected, "{name}");
        }
        assert_eq!(Stat::parse(b"42 (\xff\xfe) S 1 77"), None);
        assert_eq!(Stat::parse(b""), None);
    }

    #[test]
    fn a_zombie_lives_while_it_has_threads() {
        let lives = |state, threads| Stat { state, group: 1, threads, start: 1 }.lives();
        assert!(lives(b'S', 1) && lives(b'T', 1) && lives(b'Z', 2));
        assert!(!lives(b'Z', 1) && !lives(b'X', 1) && !lives(b'Z', 0));
    }

    #[test]
    fn only_a_member_is_killed() {
        let mut child = process::Command::new("sleep").arg("1000").spawn().expect("sleep");
        let group = stat_of(process::id()).expect("no stat of this process").group;
        kill_member(child.id(), group + 1).expect("not a member");
        assert!(child.try_wait().expect("wait").is_none());
        kill_member(child.id(), group).expect("a member");
        assert!(!child.wait().expect("wait").success());
        kill_member(child.id(), group).expect("gone");
    }

    #[test]
    fn this_process_is_found() {
        let pid = std::process::id();
        let group = stat_of(pid).expect("no stat of this process").group;
        assert!(group_members(group).expect("no /proc").contains(&pid));
        assert!(process_start(pid).is_some());
        assert!(net_namespace().is_some());
    }
}
