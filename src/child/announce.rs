//! A port, told on standard output.

use std::io::{self, Write};

use super::which::Which;
use crate::error::{Error, ErrorKind, Result};

/// Prints `PORT=40123` on standard output: a line of its own, at once.
///
/// [`listener`](super::listener) does so by itself. This is for a server that binds its port in
/// another way.
///
/// # Errors
///
/// - [`ErrorKind::InvalidInput`]: the port is 0, which stands for any.
/// - [`ErrorKind::Io`]: nobody reads the output any more, or it cannot be written.
///
/// # Examples
///
/// ```
/// let listener = std::net::TcpListener::bind("0.0.0.0:0")?;
/// portlease::child::announce(listener.local_addr()?.port())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn announce(port: u16) -> Result<()> {
    say(Which::Main, port)
}

/// The same for a further port: `GRPC_PORT=40124` for `grpc`. Where the main port is told by a line
/// too, that line comes last: then the server is ready.
///
/// # Errors
///
/// As [`announce`]; [`ErrorKind::InvalidInput`] also if the name is none, as
/// [`listener_named`](super::listener_named) says.
pub fn announce_named(name: &str, port: u16) -> Result<()> {
    say(Which::named(name)?, port)
}

/// In one write: other threads may print as well.
pub(super) fn say(which: Which<'_>, port: u16) -> Result<()> {
    let variable = which.variable();
    if port == 0 {
        let message = format!(
            "{variable}=0 cannot be announced: 0 stands for any port; say which one it became \
             (`local_addr`)"
        );
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    let line = format!("{variable}={port}\n");
    let mut stdout = io::stdout().lock();
    stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| {
        let doing = format!(
            "announce {variable}={port} on standard output; let somebody read that, or send it to \
             /dev/null"
        );
        Error::io(ErrorKind::Io, doing, error).with_port(port)
    })
}
