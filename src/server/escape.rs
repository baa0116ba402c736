//! Processes of a server that left its group, and whose parent is gone: daemons, and the children of
//! a server that was killed.
//!
//! Who is found is ended, so each sign has to be one that nobody else can have.

use std::collections::BTreeSet;
use std::process;

use super::cookie::Cookie;
use crate::sys::{self, ProcessEntry, ProcessId};

/// By what a process of one start of a server can be known.
#[derive(Clone, Debug, Default)]
pub(super) struct Trail {
    /// In its environment, if it did not write over it.
    pub(super) cookie: Option<Cookie>,
    /// The inodes of the pipes that are read as the server's output.
    pub(super) pipes: Vec<u64>,
    /// The port that was leased for it; 0: none was.
    pub(super) port: u16,
    /// The file name of its program.
    pub(super) program: String,
}

/// Of `all`, who was started since the server's child (`since`), is not `known` yet, and
///
/// - has its cookie; or, without any cookie that can be read,
/// - can write to its output, while `output_is_open`, and is not a copy of this very program: that
///   would be a child of another thread, between its fork and its exec, which has all our files;
/// - or listens on the port that is leased for it, calls itself as its program does, acts for our
///   user, and has left our session: nginx as a daemon.
pub(super) fn find(
    all: &[ProcessEntry],
    since: ProcessId,
    trail: &Trail,
    output_is_open: bool,
    known: &BTreeSet<ProcessId>,
) -> Vec<ProcessId> {
    let Some(own) = all.iter().find(|entry| entry.id.pid == process::id()) else {
        return Vec::new();
    };
    let newer = all.iter().filter(|entry| {
        entry.id.start >= since.start && entry.id != own.id && !known.contains(&entry.id)
    });
    let mut listening: Option<Vec<u64>> = None; // looked up for the first one who may listen
    let is_ours = |entry: &&ProcessEntry| {
        let pid = entry.id.pid;
        if let Some(cookie) = Cookie::of(pid) {
            return trail.cookie.as_ref() == Some(&cookie);
        }
        let writes = output_is_open
            && sys::can_write_to(pid, &trail.pipes).unwrap_or(false)
            && sys::is_same_program(pid, own.id.pid) == Some(false);
        writes
            || trail.port != 0
                && entry.session != own.session
                && calls_itself(pid, &trail.program)
                && sys::process_uid(pid) == Some(sys::effective_uid())
                && listens(pid, listening.get_or_insert_with(|| listening_on(trail.port)))
    };
    newer.filter(is_ours).map(|entry| entry.id).collect()
}

/// The kernel cuts names after 15 bytes.
fn calls_itself(pid: u32, program: &str) -> bool {
    let program = program.as_bytes();
    let cut = program.get(..15).unwrap_or(program);
    sys::process_name(pid).is_some_and(|name| name.as_bytes() == cut)
}

fn listening_on(port: u16) -> Vec<u64> {
    let listeners = sys::listeners(port).unwrap_or_default();
    listeners.into_iter().map(|listener| listener.inode.into()).collect()
}

fn listens(pid: u32, inodes: &[u64]) -> bool {
    !inodes.is_empty() && sys::has_socket(pid, inodes).unwrap_or(false)
}
