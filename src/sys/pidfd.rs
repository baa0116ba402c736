//! Processes by descriptor: what was looked at is what is waited for, or signalled, even if the pid
//! comes to mean another in between. Since Linux 5.3; before, a look and a signal by pid remain.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use super::Signal;
use super::id::ProcessId;
use super::process::lives;

/// Sends `signal` to the process `id`, and to no other that has its pid now.
///
/// # Errors
///
/// `ESRCH`: it is gone. Or this process may not.
pub(crate) fn signal_exactly(id: ProcessId, signal: Signal) -> io::Result<()> {
    // Opened before it is looked at.
    let descriptor = open_process(id.pid);
    if !lives(id)? {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    let descriptor = match descriptor {
        Ok(descriptor) => descriptor,
        Err(error) if is_no_such_process(&error) => return Err(error),
        // A kernel before 5.3, or no descriptor left.
        Err(_) => return super::signal_process(id.pid, signal),
    };
    let (fd, signal) = (descriptor.as_raw_fd(), signal.number());
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
            Err(error) if is_no_such_process(&error) => {}
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

fn is_no_such_process(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ESRCH)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::sys::process_start;

    #[test]
    fn only_that_very_process_is_signalled() {
        let mut child = Command::new("sleep").arg("1000").spawn().expect("sleep");
        let pid = child.id();
        let start = process_start(pid).expect("start");
        let another = ProcessId { pid, start: start + 1 };
        let error = signal_exactly(another, Signal::Kill).expect_err("another was signalled");
        assert!(is_no_such_process(&error));
        assert!(child.try_wait().expect("wait").is_none());
        signal_exactly(ProcessId { pid, start }, Signal::Kill).expect("signal");
        assert!(!child.wait().expect("wait").success());
        signal_exactly(ProcessId { pid, start }, Signal::Kill).expect_err("it is gone");
    }
}
