//! Sockets that a child inherits, from descriptor 3 on.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

/// The first descriptor that is not a standard stream.
const FIRST: RawFd = 3;

/// No descriptor.
const NONE: RawFd = -1;

/// What the children of a command inherit. A closure that runs between fork and exec stays in a
/// command for ever; so it is put in once, and looks here what there is to inherit this time.
#[derive(Debug)]
pub(crate) struct Heirloom {
    numbers: Arc<[AtomicI32]>,
}

impl Heirloom {
    pub(crate) fn new(count: usize) -> Heirloom {
        Heirloom { numbers: (0..count).map(|_| AtomicI32::new(NONE)).collect() }
    }

    /// From now on, the command's children inherit what is [given](Heirloom::give) at their start.
    pub(crate) fn install(&self, command: &mut Command) {
        let numbers = Arc::clone(&self.numbers);
        let inherit = move || {
            for (target, number) in (FIRST..).zip(numbers.iter()) {
                let number = number.load(Ordering::Relaxed);
                // SAFETY: `dup2` takes two integers. The numbers differ, or the copy would be closed
                // at exec as the original is.
                if number != NONE && unsafe { libc::dup2(number, target) } < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        };
        // SAFETY: between fork and exec, the closure only loads atomics and calls `dup2`, which is
        // async-signal-safe; it neither allocates nor locks.
        unsafe { command.pre_exec(inherit) };
    }

    /// Until what this returns is dropped, children that are started inherit `sockets`.
    pub(crate) fn give(&self, sockets: &[TcpListener]) -> io::Result<Given<'_>> {
        let end = FIRST + self.numbers.len() as RawFd;
        let given: io::Result<Vec<_>> =
            sockets.iter().map(|socket| copy_from(socket.as_fd(), end)).collect();
        let given = given?;
        let mut kept = Vec::new();
        // std tells a failed exec through a pipe of its own. Its number must not be one that the
        // sockets get: so none of these may be free.
        for target in FIRST..end {
            if let Some(socket) = given.first() {
                let copy = copy_from(socket.as_fd(), target)?;
                kept.extend((copy.as_raw_fd() == target).then_some(copy));
            }
        }
        for (number, socket) in self.numbers.iter().zip(&given) {
            number.store(socket.as_raw_fd(), Ordering::Relaxed);
        }
        kept.extend(given);
        Ok(Given { heirloom: self, _kept: kept })
    }
}

/// What is inherited for now.
#[derive(Debug)]
pub(crate) struct Given<'a> {
    heirloom: &'a Heirloom,
    _kept: Vec<OwnedFd>,
}

impl Drop for Given<'_> {
    fn drop(&mut self) {
        self.heirloom.numbers.iter().for_each(|number| number.store(NONE, Ordering::Relaxed));
    }
}

/// A copy whose number is not below `least`.
fn copy_from(descriptor: BorrowedFd<'_>, least: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: `fcntl` with this command takes integers; the descriptor is open.
    let copy = unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just made it, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    /// A connection, with one end in the place of a listener.
    fn connection() -> (TcpListener, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let one = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
        let other = listener.accept().expect("accept").0;
        other.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        (TcpListener::from(OwnedFd::from(one)), other)
    }

    /// What its children write to the descriptors says which sockets these are; and if a child that lives has
    /// no copy of them, their other ends can be read to the end.
    #[test]
    fn each_start_inherits_its_own_and_no_other_child_does() {
        let heirloom = Heirloom::new(2);
        let mut command = Command::new("/bin/sh");
        let script = "[ $IS_GIVEN = true ] || exec sleep 1000; echo three >&3; echo four >&4";
        command.args(["-c", script]);
        heirloom.install(&mut command);
        for _ in 0..2 {
            let (sockets, ends): (Vec<_>, Vec<_>) = (0..2).map(|_| connection()).unzip();
            let given = heirloom.give(&sockets).expect("copies");
            assert!(command.env("IS_GIVEN", "true").status().expect("a shell").success());
            drop(given);
            let mut other = command.env("IS_GIVEN", "false").spawn().expect("a shell");
            drop(sockets);
            let said: io::Result<Vec<String>> = ends.into_iter().map(io::read_to_string).collect();
            let lives = other.try_wait().expect("wait").is_none();
            other.kill().and_then(|()| other.wait()).expect("its end");
            assert!(lives, "it has ended before");
            assert_eq!(said.expect("an end"), ["three\n", "four\n"]);
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_still_an_error() {
        let heirloom = Heirloom::new(3);
        let mut command = Command::new("/no/such");
        heirloom.install(&mut command);
        let bind = |_| TcpListener::bind("127.0.0.1:0").expect("listen");
        let sockets: Vec<TcpListener> = (0..3).map(bind).collect();
        let _given = heirloom.give(&sockets).expect("copies");
        let error = command.spawn().expect_err("no such program");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
