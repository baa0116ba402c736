//! Ports that nobody else can take, and servers that leave nothing behind, for test suites.
//!
//! ```no_run
//! use std::process::Command;
//! use portlease::Server;
//!
//! # fn main() -> Result<(), portlease::Error> {
//! let server = Server::builder(Command::new("my-server")).env_port("PORT").start()?;
//! let url = server.url("/healthz"); // http://127.0.0.1:20017/healthz
//! # Ok(())
//! # }
//! ```
//!
//! A port picker binds a port, closes it, and returns a number; from then on until the server binds
//! it, anybody can take it. Here the port stays taken: by a lock file that all processes of a user
//! share, and on Linux by the kernel itself, which gives it to nobody who does not ask for that very
//! number as servers do. There is no daemon, and nothing to configure; it works with `cargo test`, with
//! `cargo nextest` (a process for each test), and with several jobs on one host.
//!
//! # Which way for which server
//!
//! | the server | use | who chooses the port |
//! |---|---|---|
//! | runs in the test process, and takes a listener | [`bind()`] | the kernel; it is never free |
//! | takes a port number: variable, argument, file | [`Server`], or [`lease()`] by itself | the lease; it is held for as long as the server lives |
//! | takes a socket | [`ServerBuilder::inherit_port`] | the lease; the socket exists before the server |
//! | can bind port 0 and print what it got | [`ServerBuilder::report_port`] | the kernel, for the server |
//! | can bind port 0, and says nothing | [`ServerBuilder::observe_port`] | the kernel, for the server |
//! | is written in Rust, and shall work in each of these ways | [`child::listener()`] in the server | whoever starts it |
//!
//! # What this does not do
//!
//! - It does not make a server listen: see [`Lease`] for the servers that a held port keeps out.
//! - It does not start containers.
//! - It does not promise the same on every system. Most of it is for Linux; what is left of it on macOS, FreeBSD
//!   and Windows stands in [one table](guide::platforms).
//!
//! What each type does not guarantee stands in its own documentation, under that heading.
//!
//! # Guides
//!
//! - [Which way fits your server](guide::ways), and what each does not protect from.
//! - [CI](guide::ci): nextest, several jobs on one host, containers, timeouts, logs.
//! - [Frameworks](guide::frameworks): axum, hyper, tonic, rstest, a server that tests share.
//! - [Programs whose port cannot be changed](guide::fixed_port).
//! - [Docker](guide::docker): servers in containers, with a port of the host.
//! - [Coming from](guide::coming_from) portpicker, reserve-port, port_check, or `bind(0)` and drop.
//! - [Platforms](guide::platforms): what is promised where, and how that was proved.
//! - [Troubleshooting](guide::troubleshooting), by what a failure looks like.
#![deny(
    clippy::dbg_macro,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::todo,
    clippy::unimplemented,
    clippy::unwrap_used
)]

mod bound;
pub mod child;
mod complaint;
mod cookie;
mod diagnose;
mod diagnosis;
mod error;
mod group;
#[cfg(any(doc, doctest))]
pub mod guide;
mod hold;
mod holder;
mod lease;
#[cfg(test)]
mod patience;
mod range;
mod registry;
mod server;
mod supervised;
mod sys;
mod text;
#[cfg(feature = "tokio")]
pub mod tokio;
mod url;

pub use bound::{Bound, bind};
pub use diagnose::{Check, check, diagnose};
pub use diagnosis::{Cause, Diagnosis, Owner, Role, Socket, SocketState, Unseen};
pub use error::{Error, ErrorKind, Result};
pub use group::{Group, GroupBuilder, Needs};
pub use holder::Holder;
pub use lease::{Lease, LeaseBuilder, lease, leases};
pub use registry::Registry;
pub use server::{
    Handoff, Line, Orphan, PanicLog, Ports, Ready, Server, ServerBuilder, Stopped, Stream, orphans,
    reap, socket_activated,
};
pub use supervised::{Restart, Supervised, Supervision};
pub use sys::Signal;

#[cfg(fuzzing)] // set by cargo-fuzz, for `fuzz/`
#[doc(hidden)]
pub use complaint::fuzz_complaint;
#[cfg(fuzzing)]
#[doc(hidden)]
pub use server::fuzz_report;
#[cfg(all(fuzzing, target_os = "linux"))] // whose kernel prints them
#[doc(hidden)]
pub use sys::fuzz_kernel_tables;

/// The README's code is compiled and run like any other documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
