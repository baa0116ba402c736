//! What every Unix offers.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use socket2::Socket;

use super::Signal;

impl Signal {
    /// As `kill -s` takes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Signal::Terminate => "TERM",
            Signal::Interrupt => "INT",
            Signal::Quit => "QUIT",
            Signal::Hangup => "HUP",
            Signal::User1 => "USR1",
            Signal::User2 => "USR2",
            Signal::Stop => "STOP",
            Signal::Continue => "CONT",
            Signal::Kill => "KILL",
        }
    }

    pub(super) fn number(self) -> libc::c_int {
        match self {
            Signal::Terminate => libc::SIGTERM,
            Signal::Interrupt => libc::SIGINT,
            Signal::Quit => libc::SIGQUIT,
            Signal::Hangup => libc::SIGHUP,
            Signal::User1 => libc::SIGUSR1,
            Signal::User2 => libc::SIGUSR2,
            Signal::Stop => libc::SIGSTOP,
            Signal::Continue => libc::SIGCONT,
            Signal::Kill => libc::SIGKILL,
        }
    }
}

/// Sends `signal` to every process of the group `group`.
///
/// The caller must know that the number still means its group: the leader lives, or is not reaped.
pub(crate) fn signal_group(group: u32, signal: Signal) -> io::Result<()> {
    match pid_of(group) {
        Some(group) => kill(-group, signal),
        None => Err(io::Error::from(io::ErrorKind::InvalidInput)),
    }
}

/// Sends `signal` to one process. The caller must know that the number still means that process.
pub(crate) fn signal_process(pid: u32, signal: Signal) -> io::Result<()> {
    match pid_of(pid) {
        Some(pid) => kill(pid, signal),
        None => Err(io::Error::from(io::ErrorKind::InvalidInput)),
    }
}

/// 0 and 1, negated, would mean "my own group" and "everybody".
pub(super) fn pid_of(number: u32) -> Option<libc::pid_t> {
    libc::pid_t::try_from(number).ok().filter(|&pid| pid > 1)
}

fn kill(target: libc::pid_t, signal: Signal) -> io::Result<()> {
    // SAFETY: `kill` takes two integers and touches no memory of ours.
    match unsafe { libc::kill(target, signal.number()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The most descriptors that one message may carry; the kernel's `SCM_MAX_FD`.
const MAX_SENT: usize = 253;

/// A socket in whose queue copies of `files` wait: they stay open for as long as it does, in whatever
/// process.
pub(super) fn parked(files: &[File]) -> io::Result<OwnedFd> {
    let (sender, receiver) = UnixStream::pair()?;
    for files in files.chunks(MAX_SENT) {
        let descriptors: Vec<RawFd> = files.iter().map(AsRawFd::as_raw_fd).collect();
        let size = size_of_val(descriptors.as_slice());
        // SAFETY: these two only compute; the size is at most 253 * 4.
        let (length, space) = unsafe {
            (libc::CMSG_LEN(size as libc::c_uint), libc::CMSG_SPACE(size as libc::c_uint))
        };
        let mut control = vec![0_u64; (space as usize).div_ceil(8)]; // as aligned as a cmsghdr
        let mut byte = *b"!";
        let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
        // SAFETY: a msghdr of zeros is a valid one, without a name, buffers or flags.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = space as _;
        // SAFETY: `control` is as large as the kernel's macros say, is aligned, and outlives the
        // call, as `part` and `byte` do; the descriptors are open.
        let sent = unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = length as _;
            descriptors.as_ptr().cast::<u8>().copy_to_nonoverlapping(libc::CMSG_DATA(header), size);
            libc::sendmsg(sender.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL)
        };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(OwnedFd::from(receiver))
}

pub(super) fn effective_uid() -> u32 {
    // SAFETY: `geteuid` takes nothing and always succeeds.
    unsafe { libc::geteuid() }
}

/// Where the registry is if nobody says so; numbers are appended if somebody else has that name.
///
/// It depends neither on `TMPDIR` nor on `HOME`, which jobs set differently.
pub(crate) fn registry_dir() -> io::Result<PathBuf> {
    Ok(PathBuf::from(format!("/tmp/portlease-{}", effective_uid())))
}

/// A directory, to be locked against those who clean up.
pub(crate) fn open_dir(path: &Path) -> io::Result<Option<File>> {
    File::open(path).map(Some)
}

/// Whether files and sockets of this user may be hidden from us, which root's are not.
pub(crate) fn is_hidden_user(uid: u32) -> bool {
    ![0, uid].contains(&effective_uid())
}

/// Lets a bind succeed only if nobody else is bound there.
pub(crate) fn bind_alone(_: &Socket) -> io::Result<()> {
    Ok(()) // as it is without options
}

/// Lets connections in TIME_WAIT be no obstacle to a bind.
pub(crate) fn bind_over_time_wait(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_address(true)
}

/// Opens, or creates for us alone, a file to be locked.
///
/// Follows no symbolic link, and neither a FIFO nor a device can make it hang.
pub(crate) fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
}

/// The time of a clock that is the same for all processes, and never set.
pub(crate) fn monotonic_millis() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to `time`, which outlives the call. It cannot fail with this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

/// The largest size to which this process may let a file grow (`ulimit -f`): a write beyond it does
/// not fail, but ends the process by SIGXFSZ.
pub(crate) fn max_file_size() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to `limit`, which outlives the call.
    match unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) } {
        #[allow(clippy::useless_conversion)] // an i64 on FreeBSD
        0 => u64::try_from(limit.rlim_cur).unwrap_or(u64::MAX),
        _ => u64::MAX,
    }
}

/// Creates a directory, with those above it, for us alone.
pub(crate) fn create_private_dirs(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Creates a directory for us alone.
pub(crate) fn create_private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// What keeps `metadata`, taken without following links, from being a directory of ours alone.
pub(crate) fn dir_problem(metadata: &Metadata) -> Option<String> {
    let (owner, uid) = (metadata.uid(), effective_uid());
    if metadata.is_symlink() {
        Some(format!("it is a symbolic link (owner: uid {owner})"))
    } else if !metadata.is_dir() {
        Some(format!("it is not a directory (owner: uid {owner})"))
    } else if owner != uid {
        Some(format!("it belongs to uid {owner}, and this process runs as uid {uid}"))
    } else if metadata.mode() & 0o077 != 0 {
        Some(format!(
            "its mode {:04o} lets other users in; `chmod 700` mends it",
            metadata.mode() & 0o7777
        ))
    } else {
        None
    }
}

/// Lets what was never written of a file take no space: here the file system does it unasked, if it can.
pub(crate) fn make_sparse(_: &File) {}

/// Lets a directory be removed, and what is in it.
pub(crate) fn make_removable(dir: &Path) {
    let _ = fs::set_permissions(dir, Permissions::from_mode(0o700));
}

/// Reads what is at `offset`, at most as much as fits; less, or nothing, at the end of the file.
pub(crate) fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    file.read_at(bytes, offset)
}

/// Writes all of `bytes` at `offset`.
pub(crate) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(bytes, offset)
}

/// Whether a file that is open has no name any more.
pub(crate) fn is_unlinked(metadata: &Metadata) -> bool {
    metadata.nlink() == 0
}

pub(crate) fn same_file(a: &Metadata, b: &Metadata) -> bool {
    a.dev() == b.dev() && a.ino() == b.ino()
}

pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Whether there are no sockets of that family here, IPv6 for instance; FreeBSD has another word for it in
/// a jail.
pub(crate) fn is_no_such_family(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn no_number_means_more_than_one_process_or_group() {
        assert_eq!([0, 1, 2, u32::MAX].map(pid_of), [None, None, Some(2), None]);
    }

    #[test]
    fn names_are_those_of_the_numbers() {
        use Signal::{Continue, Hangup, Interrupt, Kill, Quit, Stop, Terminate, User1, User2};
        for signal in [Terminate, Interrupt, Quit, Hangup, User1, User2, Stop, Continue, Kill] {
            let asks = format!("kill -l {}", signal.number());
            let output = Command::new("sh").args(["-c", &asks]).output().expect("sh");
            let name = String::from_utf8_lossy(&output.stdout);
            assert_eq!(name.trim_end(), signal.name(), "{signal:?}");
        }
    }
}
