//! Sockets that this process has inherited, each of which is taken once.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use super::refused::Refused;

/// The numbers of those that were taken. They stay: what has such a number later is something else.
static TAKEN: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

/// Takes the descriptor that has this number, which must be that of a listening TCP socket. From now
/// on, it is closed at exec.
///
/// Who calls this has been told that it was inherited. That is believed only if it can be so:
/// whatever std opens is closed at exec, and is refused, as is what others have taken who care for
/// their children.
pub(crate) fn adopt_listener(number: RawFd) -> Result<TcpListener, Refused> {
    // Until it is closed at exec, nobody else may look at it.
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    if taken.contains(&number) {
        return Err(Refused::Taken);
    }
    // SAFETY: `fcntl` with this command takes integers, and fails if the descriptor is not open.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 {
        return Err(Refused::NotOpen);
    }
    if flags & libc::FD_CLOEXEC != 0 {
        return Err(Refused::NotInherited);
    }
    check_listens(number)?;
    // SAFETY: as above.
    if unsafe { libc::fcntl(number, libc::F_SETFD, flags | libc::FD_CLOEXEC) } < 0 {
        return Err(Refused::Other(io::Error::last_os_error()));
    }
    taken.insert(number);
    // SAFETY: the descriptor is open, and the table above gives each number once. It was said to be
    // inherited, and was not closed at exec, as whatever std opens is: so no value of std owns it. Only
    // who opens sockets without that mark, under a number that `LISTEN_FDS` counts, could be robbed.
    Ok(TcpListener::from(unsafe { OwnedFd::from_raw_fd(number) }))
}

fn check_listens(number: RawFd) -> Result<(), Refused> {
    let option = |name| option(number, name);
    let kind = match option(libc::SO_TYPE) {
        Err(error) if error.raw_os_error() == Some(libc::ENOTSOCK) => {
            return Err(Refused::NoSocket(fs::read_link(format!("/proc/self/fd/{number}")).ok()));
        }
        other => other.map_err(Refused::Other)?,
    };
    if let Some(other) = super::other_than_tcp(number, kind).map_err(Refused::Other)? {
        return Err(Refused::NotTcp(other));
    }
    match option(libc::SO_ACCEPTCONN) {
        Ok(0) => Err(Refused::NotListening),
        // macOS does not tell. Then the first `accept` does.
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(()),
        result => result.map(|_| ()).map_err(Refused::Other),
    }
}

/// An option of a socket that is a number.
pub(super) fn option(number: RawFd, name: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut size = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the pointers are to `value`, which is as large as `size` says, and to `size`; both
    // outlive the call, which fails if the descriptor is not an open socket.
    let result = unsafe {
        let value = (&raw mut value).cast();
        libc::getsockopt(number, libc::SOL_SOCKET, name, value, &raw mut size)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}
