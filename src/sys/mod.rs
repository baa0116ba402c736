//! The operating system, behind std types: nothing here knows of a lease or a server.
//!
//! `unix.rs` is what POSIX offers, `linux.rs` and `diag.rs` what only Linux can tell. This is the only place of
//! the crate in which `unsafe` is allowed; each block says why it is sound.
#![allow(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!("portlease 0.1 supports Linux; macOS, the BSDs and Windows are to follow");

mod diag;
mod linux;
mod unix;

pub use unix::Signal;

pub(crate) use diag::listeners;
pub(crate) use linux::{
    ephemeral_ports, group_members, kill_member, net_namespace, net_namespace_cookie, process_name,
    process_start, reserved_ports, wait_for_exit,
};
pub(crate) use unix::{
    create_private_dir, create_private_dirs, dir_problem, effective_uid, is_no_such_family,
    is_no_such_process, is_out_of_descriptors, is_unlinked, max_file_size, monotonic_millis,
    open_private, read_at, same_file, signal_group, signal_process, write_at,
};
