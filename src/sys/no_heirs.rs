//! Sockets are not inherited on Windows: a handle has no number there that a child could be told of
//! beforehand, and std passes none but the standard streams.

use std::io;
use std::net::TcpListener;
use std::process::Command;

use super::refused::Refused;

fn not_here<T>() -> io::Result<T> {
    let why = "a socket cannot be inherited on Windows; let the server bind its port (`env_port`)";
    Err(io::Error::new(io::ErrorKind::Unsupported, why))
}

/// There is none.
pub(crate) fn adopt_listener(_: i32) -> Result<TcpListener, Refused> {
    not_here().map_err(Refused::Other)
}

/// What the children of a command would inherit.
#[derive(Debug)]
pub(crate) struct Heirloom;

impl Heirloom {
    pub(crate) fn new(_: usize) -> Heirloom {
        Heirloom
    }

    #[allow(clippy::unused_self)] // as on Unix
    pub(crate) fn install(&self, _: &mut Command) {}

    /// # Errors
    ///
    /// Always.
    #[allow(clippy::unused_self)]
    pub(crate) fn give(&self, _: &[TcpListener]) -> io::Result<Given<'_>> {
        not_here()
    }
}

/// What is inherited for now: nothing.
#[derive(Debug)]
pub(crate) struct Given<'a> {
    _heirloom: &'a Heirloom,
    _kept: Vec<TcpListener>,
}
