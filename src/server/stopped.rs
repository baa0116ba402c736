//! How a server ended.

use std::process::ExitStatus;
use std::time::Duration;

/// How a server ended; see [`Server::stop`](crate::Server::stop).
#[derive(Clone, Debug)]
pub struct Stopped {
    pub(super) status: Option<ExitStatus>,
    pub(super) killed: Vec<String>,
    pub(super) duration: Duration,
    pub(super) output: String,
}

impl Stopped {
    /// The exit status of the server's own process; `None` where it cannot be known, because this
    /// process ignores `SIGCHLD` or somebody else reaped it.
    pub fn status(&self) -> Option<ExitStatus> {
        self.status
    }

    /// Whether it ended as a program that is content: with exit status 0, and nothing had to be killed.
    pub fn success(&self) -> bool {
        !self.forced() && self.status.is_some_and(|status| status.success())
    }

    /// Whether something of it had to be killed after the grace.
    pub fn forced(&self) -> bool {
        !self.killed.is_empty()
    }

    /// What had to be killed, each as `4242 (nginx)`.
    pub fn killed(&self) -> &[String] {
        &self.killed
    }

    /// How long it took from the first signal until the last process was gone.
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// The last that it printed, at most 64 KiB, as [`Server::output`](crate::Server::output).
    pub fn output(&self) -> &str {
        &self.output
    }
}
