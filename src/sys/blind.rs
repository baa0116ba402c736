//! What is looked up on Linux only. Here nobody looks, and says so: "it cannot be told" is one of the
//! answers that all who ask are prepared for, since `/proc` may be missing there too.

use std::fs::File;
use std::io;
use std::time::Duration;

use super::Signal;
use super::id::{Owners, ProcessEntry, ProcessId, Service};
use super::socket::{Protocol, SocketEntry, Wanted};

/// No socket keeps a port that servers could still bind: `SO_REUSEADDR` does not let two sockets have one
/// address here, or lets a server of anybody in.
pub(crate) const HAS_HOLDS: bool = false;

/// Whether sockets and processes can be looked at.
pub(crate) const CAN_LOOK: bool = false;

fn cannot_look<T>() -> io::Result<T> {
    let why = "portlease looks at sockets and at other processes on Linux only";
    Err(io::Error::new(io::ErrorKind::Unsupported, why))
}

pub(crate) fn sockets(_: Wanted) -> io::Result<Vec<SocketEntry>> {
    cannot_look()
}

pub(crate) fn servers(_: Protocol, _: Option<u16>) -> io::Result<Vec<SocketEntry>> {
    cannot_look()
}

pub(crate) fn owners(_: &[u64], _: &[u32], _: Duration) -> io::Result<Owners> {
    cannot_look()
}

pub(crate) fn processes() -> io::Result<Vec<ProcessEntry>> {
    cannot_look()
}

pub(crate) fn group_members(_: u32) -> io::Result<Vec<ProcessEntry>> {
    cannot_look()
}

pub(crate) fn sockets_of(_: u32) -> io::Result<Vec<u64>> {
    cannot_look()
}

pub(crate) fn has_socket(_: u32, _: &[u64]) -> io::Result<bool> {
    cannot_look()
}

pub(crate) fn can_write_to(_: u32, _: &[u64]) -> io::Result<bool> {
    cannot_look()
}

/// Whether a file that is open has no name any more.
pub(crate) fn is_nameless(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| super::is_unlinked(&metadata))
}

/// By pid alone, another process could be hit.
pub(crate) fn signal_exactly(_: ProcessId, _: Signal) -> io::Result<()> {
    cannot_look()
}

pub(crate) fn inode<T>(_: &T) -> io::Result<u64> {
    cannot_look()
}

pub(crate) fn is_same_program(_: u32, _: u32) -> Option<bool> {
    None
}

pub(crate) fn process_start(_: u32) -> Option<u64> {
    None
}

pub(crate) fn process_name(_: u32) -> Option<String> {
    None
}

pub(crate) fn process_arguments(_: u32) -> Option<Vec<String>> {
    None
}

pub(crate) fn process_variable(_: u32, _: &str) -> Option<String> {
    None
}

/// Whether a process is in the middle of an exec.
pub(crate) fn is_in_exec(_: u32) -> bool {
    false
}

pub(crate) fn process_uid(_: u32) -> Option<u32> {
    None
}

pub(crate) fn is_of_our_user(_: u32) -> bool {
    false
}

pub(crate) fn process_age(_: ProcessId) -> Option<Duration> {
    None
}

pub(crate) fn process_service(_: u32) -> Option<Service> {
    None
}

pub(crate) fn process_namespaces() -> Option<String> {
    None
}

pub(crate) fn user_name(_: u32) -> Option<String> {
    None
}

pub(crate) fn boot_id() -> Option<String> {
    None
}

/// It cannot be told to be gone.
pub(crate) fn may_live(_: ProcessId) -> bool {
    true
}

pub(crate) fn adopts_orphans() -> bool {
    false
}

/// There is one network for all, as far as a registry is concerned.
#[allow(clippy::unnecessary_wraps)] // as on Linux, where it may fail
pub(crate) fn net_namespace() -> io::Result<Option<u64>> {
    Ok(None)
}

pub(crate) fn net_namespace_cookie<T>(_: &T) -> Option<u64> {
    None
}

/// Nobody has a list of them.
pub(crate) fn reserved_ports() -> String {
    String::new()
}
