//! Sockets of this crate as tokio has them.

use std::io;
use std::net;

use ::tokio::net::{TcpListener, UdpSocket};
use ::tokio::runtime::Handle;

use crate::bound::Bound;
use crate::error::{Error, ErrorKind, Result};
use crate::lease::Lease;

impl Bound {
    /// Takes the listener out as one of tokio's; from now on it alone is the guard. Feature `tokio`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`]: this is not called inside a tokio runtime. [`ErrorKind::Io`]: the
    /// runtime cannot watch one more socket.
    ///
    /// # Panics
    ///
    /// tokio panics if the runtime has no I/O (`enable_io`).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bound = portlease::bind()?;
    /// let addr = bound.addr();
    /// let listener = bound.into_tokio()?; // give this to the server
    /// # let server = tokio::spawn(async move { listener.accept().await });
    /// tokio::net::TcpStream::connect(addr).await?;
    /// # server.await??;
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_tokio(self) -> Result<TcpListener> {
        listener(|| Ok(self.into_listener()))
    }
}

impl Bound<net::UdpSocket> {
    /// Takes the socket out as one of tokio's; from now on it alone is the guard. Feature `tokio`.
    ///
    /// # Errors
    ///
    /// As for a [listener](Bound::into_tokio).
    ///
    /// # Panics
    ///
    /// As for a listener.
    pub fn into_tokio(self) -> Result<UdpSocket> {
        socket(self.into_socket())
    }
}

impl Lease {
    /// As [`bind`](Lease::bind), for a listener of tokio's. Feature `tokio`.
    ///
    /// # Errors
    ///
    /// As [`bind`](Lease::bind); [`ErrorKind::InvalidInput`]: this is not called inside a tokio runtime.
    ///
    /// # Panics
    ///
    /// tokio panics if the runtime has no I/O (`enable_io`).
    pub fn bind_tokio(&self) -> Result<TcpListener> {
        listener(|| self.bind())
    }

    /// As [`bind_udp`](Lease::bind_udp), for a socket of tokio's. Feature `tokio`.
    ///
    /// # Errors
    ///
    /// As [`bind_udp`](Lease::bind_udp); [`ErrorKind::InvalidInput`]: this is not called inside a tokio
    /// runtime.
    ///
    /// # Panics
    ///
    /// tokio panics if the runtime has no I/O (`enable_io`).
    pub fn bind_udp_tokio(&self) -> Result<UdpSocket> {
        socket(self.bind_udp()?)
    }
}

/// Hands over what `listen` returns, which is only called where that is possible.
pub(super) fn listener(listen: impl FnOnce() -> Result<net::TcpListener>) -> Result<TcpListener> {
    inside_runtime()?;
    let socket = listen()?;
    let handed_over = socket.set_nonblocking(true).and_then(|()| TcpListener::from_std(socket));
    handed_over.map_err(failed)
}

fn socket(socket: net::UdpSocket) -> Result<UdpSocket> {
    inside_runtime()?;
    let handed_over = socket.set_nonblocking(true).and_then(|()| UdpSocket::from_std(socket));
    handed_over.map_err(failed)
}

/// Outside of one, tokio panics.
fn inside_runtime() -> Result<()> {
    Handle::try_current().map(drop).map_err(|_| {
        let message = "a socket of tokio's is made inside a tokio runtime: call this in async code";
        Error::new(ErrorKind::InvalidInput, message)
    })
}

fn failed(error: io::Error) -> Error {
    Error::io(ErrorKind::Io, "hand a socket over to the tokio runtime", error)
}
