//! Advisory whole-file locks: the only file that knows which library provides them.
//!
//! The trait is called by its name: std's own methods of the same names, in newer toolchains,
//! would shadow it. Two opens of a file exclude each other within one process too, and the kernel frees
//! what a process that ends has locked. In the rest, systems differ:
//!
//! - On Unix, the locks are `flock`'s. They belong to the open file description, and are freed with its
//!   last copy, in whatever process that is. Who reads or writes is not kept from it by a lock.
//! - On Windows, they are `LockFileEx`'s. They belong to the handle and its process: a copy elsewhere keeps
//!   none. Nobody can read or write by another handle what is locked: so nothing is written into slots.

use std::fs::File;
use std::io;

use fs2::FileExt;

/// Whether the exclusive lock was free, and is ours now.
pub(crate) fn try_exclusive(file: &File) -> io::Result<bool> {
    contended_is_false(FileExt::try_lock_exclusive(file))
}

/// Whether a shared lock was to be had. Not an exclusive one: two who look must not see each other.
pub(crate) fn try_shared(file: &File) -> io::Result<bool> {
    contended_is_false(FileExt::try_lock_shared(file))
}

/// Waits for the exclusive lock, for as long as it takes.
pub(crate) fn wait_exclusive(file: &File) -> io::Result<()> {
    loop {
        match FileExt::lock_exclusive(file) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {} // by the test's own signals
            other => return other,
        }
    }
}

/// Frees the lock, on Unix for every copy of the descriptor, in whatever process it may be.
pub(crate) fn unlock(file: &File) -> io::Result<()> {
    FileExt::unlock(file)
}

/// By its number: on Windows, it has no kind of its own.
fn is_contended(error: &io::Error) -> bool {
    error.raw_os_error() == fs2::lock_contended_error().raw_os_error()
}

fn contended_is_false(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if is_contended(&error) => Ok(false),
        Err(error) => Err(error),
    }
}
