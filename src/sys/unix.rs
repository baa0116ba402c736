//! What every Unix offers.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// The signals that this crate sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Terminate,
    Continue,
    Kill,
}

impl Signal {
    fn number(self) -> libc::c_int {
        match self {
            Signal::Terminate => libc::SIGTERM,
            Signal::Continue => libc::SIGCONT,
            Signal::Kill => libc::SIGKILL,
        }
    }
}

/// Sends `signal` to every process of the group `group`.
///
/// The caller must know that the number still means its group: the leader lives, or is not reaped.
pub(crate) fn signal_group(group: u32, signal: Signal) -> io::Result<()> {
    // 0 and 1 would mean "my own group" and "everybody" once negated.
    let group = match libc::pid_t::try_from(group) {
        Ok(group) if group > 1 => group,
        _ => return Err(io::Error::from(io::ErrorKind::InvalidInput)),
    };
    // SAFETY: `kill` takes two integers and touches no memory of ours.
    match unsafe { libc::kill(-group, signal.number()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

pub(crate) fn effective_uid() -> u32 {
    // SAFETY: `geteuid` takes nothing and always succeeds.
    unsafe { libc::geteuid() }
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

pub(crate) fn is_no_such_process(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ESRCH)
}

pub(crate) fn is_no_such_family(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}
