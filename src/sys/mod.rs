//! The operating system, behind std types: nothing here knows of a lease or a server.
//!
//! `unix.rs` is what POSIX offers, `inherit.rs` what a child gets of it, `pipe.rs` how its
//! output is read, `adopt.rs` what this process got as a child, `watchdog.rs` what ends a server when its
//! harness dies first. On Windows, that is `windows.rs`, `no_heirs.rs`, and `job.rs`. Of sockets (`sockets`,
//! by `diag` or `proc_net`), of processes (`process`, `owners`, `pidfd`) and of the machine (`linux`), only
//! Linux tells; elsewhere, `blind.rs` says that nobody looked, and `bsd.rs` has what macOS and the BSDs do in
//! a way of their own. This is the only place of the crate in which `unsafe` is allowed; each block says why
//! it is sound.
#![allow(unsafe_code)]

// Each of these is compiled by CI; what is not, would be broken.
#[cfg(not(any(target_os = "linux", target_os = "macos", target_os = "freebsd", windows)))]
compile_error!("portlease supports Linux, macOS, FreeBSD and Windows");

mod id;
#[cfg_attr(windows, allow(dead_code))] // nothing is inherited there
mod refused;
mod signal;
#[cfg_attr(not(target_os = "linux"), allow(dead_code))] // nobody looks at sockets there
mod socket;

#[cfg(unix)]
mod adopt;
#[cfg(unix)]
mod inherit;
#[cfg(unix)]
mod pipe;
#[cfg(unix)]
mod unix;
#[cfg(unix)]
mod watchdog;

#[cfg(windows)]
mod job;
#[cfg(windows)]
mod no_heirs;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
mod diag;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod owners;
#[cfg(target_os = "linux")]
mod pidfd;
#[cfg(target_os = "linux")]
mod proc_net;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod sockets;

#[cfg(not(target_os = "linux"))]
mod blind;
#[cfg(all(unix, not(target_os = "linux")))]
mod bsd;

pub use signal::Signal;

/// Feeds all parsers of what the kernel prints.
#[cfg(all(fuzzing, target_os = "linux"))]
pub fn fuzz_kernel_tables(bytes: &[u8]) {
    let _ = process::Stat::parse(bytes);
    for protocol in [socket::Protocol::Tcp, socket::Protocol::Udp] {
        let _ = diag::sockets_in(bytes, protocol);
        let _ = std::str::from_utf8(bytes).map(|line| proc_net::parse(line, protocol));
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) use blind::*;
#[cfg(all(unix, not(target_os = "linux")))]
pub(crate) use bsd::{
    LIST_SOCKETS, ephemeral_ports, keep_from_cleaners, wait_for_exit, wait_for_group, why_excluded,
};
pub(crate) use id::{Owners, ProcessEntry, ProcessId, Service};
pub(crate) use refused::Refused;
pub(crate) use socket::{Protocol, SocketEntry, State, Wanted};
#[cfg(unix)]
pub(crate) use {
    adopt::adopt_listener,
    inherit::{Given, Heirloom},
    pipe::Pipe,
    unix::{
        bind_alone, bind_over_time_wait, create_private_dir, create_private_dirs, dir_problem,
        is_hidden_user, is_no_such_family, is_out_of_descriptors, is_unlinked, make_removable,
        make_sparse, max_file_size, monotonic_millis, open_dir, open_private, read_at,
        registry_dir, same_file, signal_group, signal_process, write_at,
    },
    watchdog::{COPIES_KEEP_LOCKS, WATCHDOG, Watchdog, lead_group, lead_own_group},
};
#[cfg(windows)]
pub(crate) use {
    job::{
        COPIES_KEEP_LOCKS, WATCHDOG, Watchdog, lead_group, lead_own_group, signal_group,
        signal_process, wait_for_exit, wait_for_group,
    },
    no_heirs::{Given, Heirloom, adopt_listener},
    windows::{
        LIST_SOCKETS, Pipe, bind_alone, bind_over_time_wait, create_private_dir,
        create_private_dirs, dir_problem, ephemeral_ports, is_hidden_user, is_no_such_family,
        is_out_of_descriptors, is_unlinked, keep_from_cleaners, make_removable, make_sparse,
        max_file_size, monotonic_millis, open_dir, open_private, read_at, registry_dir, same_file,
        why_excluded, write_at,
    },
};
#[cfg(target_os = "linux")]
pub(crate) use {
    linux::{
        CAN_LOOK, HAS_HOLDS, LIST_SOCKETS, adopts_orphans, ephemeral_ports, is_nameless,
        keep_from_cleaners, net_namespace, net_namespace_cookie, reserved_ports, wait_for_group,
        why_excluded,
    },
    owners::{owners, process_age, process_service, user_name},
    pidfd::{signal_exactly, wait_for_exit},
    process::{
        boot_id, can_write_to, group_members, has_socket, inode, is_in_exec, is_of_our_user,
        is_same_program, may_live, process_arguments, process_name, process_namespaces,
        process_start, process_uid, process_variable, processes, sockets_of,
    },
    sockets::{servers, sockets},
};

#[cfg(all(unix, not(target_os = "linux")))]
use bsd::other_than_tcp;
#[cfg(target_os = "linux")]
use linux::other_than_tcp;
