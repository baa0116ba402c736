//! Who holds a port, by its own account. Pure.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Who holds a port of a [`Registry`](crate::Registry), by its own account.
///
/// What it says is advisory text, written by the holder; that the port is held is certain, since
/// the kernel's lock says so. [`Display`](fmt::Display) makes one line of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub(crate) port: u16,
    pub(crate) pid: Option<u32>,
    pub(crate) process_start: Option<u64>,
    pub(crate) since: Option<SystemTime>,
    pub(crate) program: Option<String>,
    pub(crate) test: Option<String>,
    pub(crate) label: Option<String>,
    pub(crate) dir: Option<PathBuf>,
}

impl Holder {
    /// The holder of `port` who left no readable record (the disk was full).
    pub(crate) fn unknown(port: u16) -> Holder {
        Holder {
            port,
            pid: None,
            process_start: None,
            since: None,
            program: None,
            test: None,
            label: None,
            dir: None,
        }
    }

    /// The port that is held.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process that took the lease, in the numbering of its own pid namespace.
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// When that process was started, in clock ticks since boot: with the pid, it tells a process
    /// from a later one of the same number.
    pub fn process_start(&self) -> Option<u64> {
        self.process_start
    }

    /// Since when the port is held.
    pub fn since(&self) -> Option<SystemTime> {
        self.since
    }

    /// The file name of the program that took the lease.
    pub fn program(&self) -> Option<&str> {
        self.program.as_deref()
    }

    /// The test that took the lease, as far as its thread's name or nextest tells.
    pub fn test(&self) -> Option<&str> {
        self.test.as_deref()
    }

    /// The label that was given to the lease.
    pub fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// The working directory in which the lease was taken: it tells two checkouts apart.
    pub fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }
}

/// Who it is, without the port: "pid 71 (api-tests), test `api::starts`, in /work, for 3.1 s".
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "pid {pid}")?,
            None => f.write_str("a process that left no readable record")?,
        }
        if let Some(program) = &self.program {
            write!(f, " ({program})")?;
        }
        if let Some(test) = &self.test {
            write!(f, ", test `{test}`")?;
        }
        if let Some(label) = &self.label {
            write!(f, ", label `{label}`")?;
        }
        if let Some(dir) = &self.dir {
            write!(f, ", in {}", dir.display())?;
        }
        match self.since.and_then(|since| since.elapsed().ok()) {
            Some(age) => write!(f, ", for {:.1} s", age.as_secs_f64()),
            None => Ok(()),
        }
    }
}
