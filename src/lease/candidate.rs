//! One port, tried: its slot, which excludes the other users of the registry; then the hold, which
//! excludes everybody else.
//!
//! Slot before hold: a bind, even for a moment, could refuse the server of a lease whose hold is
//! let go just now.

use std::io;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::hold::{Binder, Hold};
use crate::registry::slot::Slot;
use crate::registry::{Registry, Space, cannot};
use crate::sys;

/// A port that is ours, and of which there is no record yet. Dropped, it leaves no trace.
#[derive(Debug)]
pub(super) struct Grip {
    pub(super) port: u16,
    pub(super) hold: Hold, // goes first: while the slot is locked, nobody else asks the kernel
    pub(super) slot: Slot,
}

/// What became of a candidate.
pub(super) enum Outcome {
    Taken(Grip),
    Leased { marked: bool },
    InUse { lately: bool },
    Excluded(io::Error),
    Unusable(io::Error),
}

/// How much is done for a candidate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Effort {
    /// Ask the kernel once.
    Plain,
    /// Also if connections of its last server may be in TIME_WAIT.
    OverTimeWait,
}

/// Tries ports, one after the other.
#[derive(Debug)]
pub(super) struct Taker<'a> {
    registry: &'a Registry,
    pub(super) space: Arc<Space>,
    binder: Binder,
    udp: bool,
}

impl<'a> Taker<'a> {
    pub(super) fn new(registry: &'a Registry, udp: bool) -> Result<Taker<'a>> {
        let binder = Binder::new()
            .map_err(|error| Error::io(ErrorKind::Io, "make a socket that holds a port", error))?;
        let space = registry.space_of(binder.namespace())?;
        Ok(Taker { registry, space, binder, udp })
    }

    /// Tries `port`. An error only for what would fail with every other port too.
    pub(super) fn take(&mut self, port: u16, effort: Effort) -> Result<Outcome> {
        let slot = match self.lock_slot(port) {
            Ok(Some(slot)) => slot,
            Ok(None) => {
                return Ok(Outcome::Leased { marked: self.space.is_marked_taken(port) });
            }
            Err(error) if sys::is_out_of_descriptors(&error) => {
                return Err(cannot("lock a slot in", self.space.path(), error));
            }
            Err(error) => return Ok(Outcome::Unusable(error)),
        };
        match self.hold(port, effort) {
            Ok(hold) => Ok(Outcome::Taken(Grip { port, hold, slot })),
            Err(error) => match error.kind() {
                io::ErrorKind::AddrInUse => {
                    Ok(Outcome::InUse { lately: self.space.used_lately(port) })
                }
                io::ErrorKind::PermissionDenied => Ok(Outcome::Excluded(error)),
                _ => Err(cannot_hold(port, error)),
            },
        }
    }

    fn lock_slot(&mut self, port: u16) -> io::Result<Option<Slot>> {
        match Slot::try_lock(&self.space.slot(port)) {
            // Somebody removed the directory: find it, or create it, again.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.find_space_again()?;
                Slot::try_lock(&self.space.slot(port))
            }
            other => other,
        }
    }

    pub(super) fn find_space_again(&mut self) -> Result<()> {
        self.registry.forget_spaces();
        self.space = self.registry.space()?;
        Ok(())
    }

    /// Asks the kernel for `port`, whose slot is ours.
    pub(super) fn hold(&mut self, port: u16, effort: Effort) -> io::Result<Hold> {
        let hold = match self.binder.hold(port) {
            Err(error)
                if effort == Effort::OverTimeWait && error.kind() == io::ErrorKind::AddrInUse =>
            {
                self.binder.hold_over_time_wait(port)?
            }
            other => other?,
        };
        if self.udp {
            self.binder.probe_udp(port)?;
        }
        Ok(hold)
    }
}

/// The kernel refused a hold for a reason that is not about the port.
pub(super) fn cannot_hold(port: u16, error: io::Error) -> Error {
    Error::io(ErrorKind::Io, format_args!("hold port {port}"), error).with_port(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a refusal that is not about the port, which no test can provoke.
    #[test]
    fn what_is_said_of_a_port_that_cannot_be_held() {
        let error = cannot_hold(20_001, io::Error::from(io::ErrorKind::OutOfMemory));
        let text = "Io: failed to hold port 20001\n  caused by: out of memory";
        assert_eq!((format!("{error:?}").as_str(), error.port()), (text, Some(20_001)));
    }
}
