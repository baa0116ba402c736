//! What macOS and the BSDs tell in a way of their own: the ephemeral ports, and the end of processes.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use socket2::SockRef;

/// What shows people who has which port.
pub(crate) const LIST_SOCKETS: &str =
    if cfg!(target_os = "macos") { "lsof -nP -i" } else { "sockstat" };

/// Keeps those who clean up from a file that was locked: once a day, macOS removes from `/tmp` what has
/// been neither read nor changed for three days, and so can FreeBSD, whether it is locked or not; daily_clean_tmps in
/// periodic.conf(5). With a time that is not to be had, the file is what it was.
pub(crate) fn keep_from_cleaners(file: &File) {
    let _ = file.set_modified(SystemTime::now());
}

/// Why this process may not bind `port`, as far as the number tells.
pub(crate) fn why_excluded(port: u16) -> Option<&'static str> {
    (port < 1024).then_some("a port below 1024 is for root")
}

/// The ports from which the kernel serves `bind(0)` and outgoing connections: ip(4), 49152-65535 on
/// macOS and 10000-65535 on FreeBSD if nobody changed it.
pub(crate) fn ephemeral_ports() -> Option<RangeInclusive<u16>> {
    let first = number(c"net.inet.ip.portrange.first")?;
    let last = number(c"net.inet.ip.portrange.last")?;
    Some(first.min(last)..=first.max(last))
}

/// A setting of the kernel that is an `int`; sysctl(3).
fn number(name: &CStr) -> Option<u16> {
    let mut value: libc::c_int = 0;
    let mut size = size_of_val(&value);
    // SAFETY: the name ends in a zero; the other pointers are to `value` and to its size, both of which
    // outlive the call; nothing is set.
    let result = unsafe {
        libc::sysctlbyname(
            name.as_ptr(),
            (&raw mut value).cast(),
            &raw mut size,
            ptr::null_mut(),
            0,
        )
    };
    u16::try_from(value).ok().filter(|_| result == 0)
}

/// What a socket of this kind is instead of one of TCP. Its protocol cannot be asked for everywhere; SCTP
/// would be taken for TCP.
pub(super) fn other_than_tcp(number: RawFd, kind: libc::c_int) -> io::Result<Option<&'static str>> {
    // SAFETY: the caller has found the descriptor to be an open socket; it is not kept.
    let socket = unsafe { BorrowedFd::borrow_raw(number) };
    let domain = SockRef::from(&socket).local_addr()?.family();
    Ok(match (libc::c_int::from(domain), kind) {
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_STREAM) => None,
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_DGRAM) => Some("a UDP socket"),
        (libc::AF_UNIX, _) => Some("a Unix socket"),
        _ => Some("a socket of another protocol"),
    })
}

/// Waits until every process of `pids` has ended, or `timeout` has passed. May return early.
///
/// Works for any process of ours, not only for children; kqueue(2). The end of a child may be told a moment
/// before it can be waited for.
pub(crate) fn wait_for_exit(pids: &[u32], timeout: Duration) {
    let deadline = Instant::now() + timeout;
    // Where nothing tells of an end: a short nap, and the caller looks again.
    let nap = || thread::sleep(timeout.min(Duration::from_millis(5)));
    let Ok(queue) = queue() else { return nap() }; // no descriptor is left
    let mut left = 0;
    for &pid in pids {
        match watch(&queue, pid) {
            Ok(()) => left += 1,
            // It has ended. Of whom another error is had may live.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            Err(_) => return nap(),
        }
    }
    while left > 0 {
        let time = deadline.saturating_duration_since(Instant::now());
        let time = libc::timespec {
            tv_sec: libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        let mut event = event(0);
        // SAFETY: no changes are passed; there is room for one event, which outlives the call, as the
        // time does; the queue is open.
        let count = unsafe {
            libc::kevent(queue.as_raw_fd(), ptr::null(), 0, &raw mut event, 1, &raw const time)
        };
        if count <= 0 {
            return; // the deadline, or a signal: the caller looks again
        }
        left -= 1;
    }
}

/// How long is waited for what has been killed to be gone.
const KILLED: Duration = Duration::from_secs(1);

/// Waits until nobody is left of the group `group`, all of whom have been killed; not for long, and by asking
/// again, since who is in it cannot be seen, and nobody tells of the end of somebody else's child.
///
/// Its number means no other group until then; after that, it may for as long as this waits.
pub(crate) fn wait_for_group(group: u32) {
    let Some(group) = super::unix::pid_of(group) else { return };
    let deadline = Instant::now() + KILLED;
    // SAFETY: `kill` takes two integers, and signal 0 is none. On macOS, it says EPERM of those who are dead
    // and not reaped.
    while unsafe { libc::kill(-group, 0) } == 0 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
}

fn queue() -> io::Result<OwnedFd> {
    // SAFETY: `kqueue` takes nothing. Its descriptor is not inherited by children: kqueue(2).
    match unsafe { libc::kqueue() } {
        // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
        fd if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has the end of a process told once. `ESRCH`: it has ended. Another error: it is none of ours.
fn watch(queue: &OwnedFd, pid: u32) -> io::Result<()> {
    let change = event(pid);
    // SAFETY: the one change outlives the call, no events are asked for; the queue is open.
    let result = unsafe {
        let none = ptr::null_mut();
        libc::kevent(queue.as_raw_fd(), &raw const change, 1, none, 0, ptr::null())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn event(pid: u32) -> libc::kevent {
    // SAFETY: a kevent of zeros is a valid one; FreeBSD's has fields that others have not.
    let mut event: libc::kevent = unsafe { std::mem::zeroed() };
    event.ident = pid as libc::uintptr_t;
    event.filter = libc::EVFILT_PROC;
    event.flags = libc::EV_ADD | libc::EV_ONESHOT;
    event.fflags = libc::NOTE_EXIT;
    event
}
