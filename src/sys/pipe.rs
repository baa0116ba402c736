//! The end of a pipe at which the output of a child is read.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};

/// Read by one thread; others may ask of it.
pub(crate) struct Pipe(File);

impl Pipe {
    pub(crate) fn new(end: impl Into<OwnedFd>) -> Pipe {
        Pipe(File::from(end.into()))
    }

    pub(crate) fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(bytes)
    }

    /// Whether a read would not wait: something has come, or the end.
    pub(crate) fn has_unread(&self) -> bool {
        let mut polled = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: the pointer is to one entry, which outlives the call; its descriptor is open.
        unsafe { libc::poll(&raw mut polled, 1, 0) > 0 }
    }
}
