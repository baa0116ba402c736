//! The child's half for servers on tokio: [`portlease::child`](crate::child), with listeners of tokio's.
//!
//! The rest of that module, [`announce`](crate::child::announce()) and
//! [`port_from_env`](crate::child::port_from_env), waits for nothing.
//!
//! ```no_run
//! use portlease::tokio::child;
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let listener = child::listener()?;
//!     loop {
//!         let (stream, _) = listener.accept().await?;
//!         stream.try_write(b"HTTP/1.0 200 OK\r\n\r\nhello")?;
//!     }
//! }
//! ```

use std::net::IpAddr;

use ::tokio::net::TcpListener;

use super::socket;
use crate::child;
use crate::error::Result;

/// As [`portlease::child::listener`](crate::child::listener()).
///
/// # Errors
///
/// As there; [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) also if this is not called inside
/// a tokio runtime.
///
/// # Panics
///
/// tokio panics if the runtime has no I/O (`enable_io`).
pub fn listener() -> Result<TcpListener> {
    socket::listener(child::listener)
}

/// As [`portlease::child::listener_on`](crate::child::listener_on).
///
/// # Errors
///
/// As [`listener`].
///
/// # Panics
///
/// As [`listener`].
pub fn listener_on(ip: impl Into<IpAddr>) -> Result<TcpListener> {
    socket::listener(|| child::listener_on(ip))
}

/// As [`portlease::child::listener_named`](crate::child::listener_named).
///
/// # Errors
///
/// As there, and as [`listener`].
///
/// # Panics
///
/// As [`listener`].
pub fn listener_named(name: &str) -> Result<TcpListener> {
    socket::listener(|| child::listener_named(name))
}
