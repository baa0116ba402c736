//! Servers and groups that are awaited, and sockets as tokio has them. Feature `tokio`.
//!
//! The builders, the errors and the guarantees are those of [`portlease::Server`](crate::Server) and
//! [`portlease::Group`](crate::Group). What takes its time there is awaited here.
//!
//! ```no_run
//! use std::process::Command;
//! use std::time::Duration;
//! use portlease::tokio::Server;
//!
//! # async fn test() -> portlease::Result<()> {
//! let builder = Server::builder(Command::new("my-server")).env_port("PORT");
//! let mut server = Server::start(builder).await?;
//! server.wait_for_line("cache is warm", Duration::from_secs(10)).await?;
//! server.restart().await?;
//! server.stop().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Leases are taken as without tokio, by a few system calls; to wait in line for one, there is [`lease()`].
//!
//! # How it is done
//!
//! Each operation is the sync one, on a thread of its own, whose end is awaited; so there is one set of
//! decisions, and it needs nothing of a runtime: neither its timers, which a test may have stopped
//! (`start_paused`: a server lives in real time all the same), nor its threads, of which there may be one,
//! nor its blocking pool, which is waited for when the runtime is shut down. So tests that have a runtime
//! each, as those of `#[tokio::test]` have, can share a server. It costs a thread for the time that the
//! operation takes.
//!
//! # What this does not guarantee
//!
//! A server that is started again when it dies ([`supervise`](crate::ServerBuilder::supervise)) has no
//! form that is awaited.
//!
//! A program that is to end with the thread that started it (`PR_SET_PDEATHSIG`, as `bwrap --die-with-parent`
//! and `setpriv --pdeathsig` set it) is ended as soon as it is ready: that thread is gone by then. Closures of
//! a builder are called on such a thread too, outside of any runtime.
//!
//! [Dropping](Server#dropping) a server does not wait until it is gone. [`stop`](Server::stop) does.

mod background;
pub mod child;
mod exit;
mod group;
mod job;
mod lease;
mod server;
mod socket;

pub use self::group::Group;
pub use self::lease::{lease, lease_block, lease_exact, lease_many};
pub use self::server::Server;
pub use crate::server::Lines;
