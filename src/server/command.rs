//! Where the command of each start comes from.

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use super::ports::Ports;

/// Where the command comes from, at each start.
pub(super) enum Launch {
    Command(Box<Command>),
    /// In a mutex only to be `Sync`: nobody locks it.
    Closure(Mutex<Box<MakeCommand>>),
}

type MakeCommand = dyn FnMut(&Ports) -> io::Result<Command> + Send;

/// The command of one start.
pub(super) enum Made<'a> {
    Same(&'a mut Command),
    Anew(Command),
}

impl Launch {
    pub(super) fn by(make: impl FnMut(&Ports) -> io::Result<Command> + Send + 'static) -> Launch {
        Launch::Closure(Mutex::new(Box::new(make)))
    }

    /// Whether its command is the same at each start.
    pub(super) fn is_the_same(&self) -> bool {
        matches!(self, Launch::Command(_))
    }

    /// The command for a start on `ports`.
    ///
    /// # Errors
    ///
    /// Those of the closure.
    pub(super) fn command(&mut self, ports: &Ports) -> io::Result<Made<'_>> {
        match self {
            Launch::Command(command) => Ok(Made::Same(command)),
            Launch::Closure(make) => {
                let make = make.get_mut().unwrap_or_else(PoisonError::into_inner);
                make(ports).map(Made::Anew)
            }
        }
    }
}

impl Deref for Made<'_> {
    type Target = Command;

    fn deref(&self) -> &Command {
        match self {
            Made::Same(command) => command,
            Made::Anew(command) => command,
        }
    }
}

impl DerefMut for Made<'_> {
    fn deref_mut(&mut self) -> &mut Command {
        match self {
            Made::Same(command) => command,
            Made::Anew(command) => command,
        }
    }
}

impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Launch::Command(command) => command.fmt(f),
            Launch::Closure(_) => f.write_str("made by a closure"),
        }
    }
}
