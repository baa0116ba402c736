//! What one start of a server prints, for those who keep no hold of the server itself.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::failure;
use super::line::Line;
use super::output::{Output, Waited};
use crate::error::{ErrorKind, Result};

/// The output, with what errors call the server.
#[derive(Clone, Debug)]
pub(crate) struct Printed {
    pub(super) name: String,
    pub(super) port: u16,
    pub(super) output: Output,
}

impl Printed {
    /// `called_off` by who does not wait any more, and does not care for the error.
    pub(crate) fn wait_for_line(
        &self,
        which: &str,
        at_most: Duration,
        called_off: &AtomicBool,
        matches: impl FnMut(&str) -> bool,
    ) -> Result<Line> {
        let (kind, what) = match self.output.wait_for_line(at_most, called_off, matches) {
            Waited::Line(line) => return Ok(line),
            Waited::End => (ErrorKind::Exited, "its output ended without one".to_owned()),
            Waited::TooLong => {
                (ErrorKind::NotReady, format!("none came within {:.1} s", at_most.as_secs_f64()))
            }
        };
        let message = format!("server `{}`: no line {which}: {what}", self.name);
        Err(failure::of_port(kind, message, self.port).with_output(self.output.tail()))
    }
}
