//! The operating system, behind std types: nothing here knows of a lease or a server.
//!
//! `unix.rs` is what POSIX offers, `inherit.rs` what a child gets of it, `adopt.rs` what this process
//! got as one. The others are what only Linux can tell: of sockets (`sockets`, by
//! `diag` or `proc_net`), of processes (`process`, `owners`, `pidfd`), of the machine (`linux`). This is the
//! only place of the crate in which `unsafe` is allowed; each block says why it is sound.
#![allow(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!("portlease 0.1 supports Linux; macOS, the BSDs and Windows are to follow");

mod adopt;
mod diag;
mod inherit;
mod linux;
mod owners;
mod pidfd;
mod proc_net;
mod process;
mod socket;
mod sockets;
mod unix;

pub use unix::Signal;

/// Feeds all parsers of what the kernel prints.
#[cfg(fuzzing)]
pub fn fuzz_kernel_tables(bytes: &[u8]) {
    let _ = process::Stat::parse(bytes);
    for protocol in [socket::Protocol::Tcp, socket::Protocol::Udp] {
        let _ = diag::sockets_in(bytes, protocol);
        let _ = std::str::from_utf8(bytes).map(|line| proc_net::parse(line, protocol));
    }
}

pub(crate) use adopt::{Refused, adopt_listener};
pub(crate) use inherit::{Given, Heirloom};
pub(crate) use linux::{
    adopts_orphans, ephemeral_ports, is_nameless, net_namespace, net_namespace_cookie,
    reserved_ports,
};
pub(crate) use owners::{Owners, owners, process_age, process_service, user_name};
pub(crate) use pidfd::{signal_exactly, wait_for_exit};
pub(crate) use process::{
    ProcessEntry, ProcessId, boot_id, can_write_to, group_members, has_socket, inode,
    is_same_program, may_live, process_arguments, process_name, process_namespaces, process_start,
    process_uid, process_variable, processes, sockets_of,
};
pub(crate) use socket::{Protocol, SocketEntry, State, Wanted};
pub(crate) use sockets::{servers, sockets};
pub(crate) use unix::{
    create_private_dir, create_private_dirs, dir_problem, effective_uid, is_no_such_family,
    is_no_such_process, is_out_of_descriptors, is_unlinked, max_file_size, monotonic_millis,
    open_private, parked, read_at, same_file, signal_group, signal_process, write_at,
};
