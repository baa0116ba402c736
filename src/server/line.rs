//! A line that a server printed, and one that is waited for.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::SystemTime;

/// One of a server's two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Its standard output.
    Stdout,
    /// Its standard error.
    Stderr,
}

/// A line that a server printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub(super) stream: Stream,
    pub(super) at: SystemTime,
    /// With its newline.
    pub(super) text: String,
    /// Counted from the first one of this start.
    pub(super) number: u64,
}

impl Line {
    /// Where it was printed.
    pub fn stream(&self) -> Stream {
        self.stream
    }

    /// When it was read; printed it may have been before that.
    pub fn at(&self) -> SystemTime {
        self.at
    }

    /// Its text, without the end of the line. What was not UTF-8 is replaced by `U+FFFD`, and of a
    /// line over 8 KiB it is a part.
    pub fn text(&self) -> &str {
        self.text.trim_end_matches(['\n', '\r'])
    }
}

/// A line that a server has to print until it is ready.
pub(super) struct Awaited {
    /// Completes "a line".
    pub(super) which: String,
    pub(super) matches: Box<dyn Fn(&str) -> bool + Send + Sync>,
}

impl Awaited {
    /// A panic, which has been printed by then, would end the thread that reads the output.
    pub(super) fn is(&self, line: &Line) -> bool {
        catch_unwind(AssertUnwindSafe(|| (self.matches)(line.text()))).unwrap_or(false)
    }
}

impl fmt::Debug for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Line({})", self.which)
    }
}
