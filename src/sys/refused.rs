//! What is said of a socket that was to be inherited, and is not there to take.

use std::io;
use std::path::PathBuf;

/// Why a descriptor is not taken.
#[derive(Debug)]
pub(crate) enum Refused {
    /// It was before.
    Taken,
    NotOpen,
    /// It is closed at exec, so it did not come through one.
    NotInherited,
    /// What it is instead, if that can be told.
    NoSocket(Option<PathBuf>),
    /// What it is instead.
    NotTcp(&'static str),
    NotListening,
    Other(io::Error),
}
