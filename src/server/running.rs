//! One start of a server: its process and its output, while it runs. How it begins: `spawn`, `starting`;
//! how it ends: `stopping`.

use std::io;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use super::config::LOG_DIR_VARIABLE;
use super::failure;
use super::output::{LAST_LINES, Output};
use super::ports::Ports;
use super::printed::Printed;
use super::process::{End, Process};
use super::report::Reports;
use super::stopped::Stopped;
use super::stopping::{self, Gone, Left, Stopping};
use crate::error::{Error, ErrorKind, Result};
use crate::sys::{self, Signal};

#[derive(Debug)]
pub(super) struct Running {
    pub(super) name: String,
    /// The main one is 0 if it is not known yet, or there is none.
    pub(super) ports: Ports,
    pub(super) process: Process,
    pub(super) output: Output,
    /// The inodes of the sockets that listened on its ports before.
    pub(super) before: Vec<u32>,
    /// What it had said of ports when it was ready.
    pub(super) reports: Reports,
    pub(super) stop_signal: Signal,
}

impl Running {
    /// Starts to read its output, and to copy it to a file of `log_dir`.
    pub(super) fn drain(&mut self, log_dir: Option<&Path>) -> Result<()> {
        let Running { name, process, output, .. } = self;
        if let Some(dir) = log_dir {
            output.copy_to(dir, name, process.pid()).map_err(|error| {
                let doing = format!(
                    "copy the output of server `{name}` to {}, which {LOG_DIR_VARIABLE} names; \
                     correct it, or unset it",
                    dir.display()
                );
                Error::io(ErrorKind::Io, doing, error)
            })?;
        }
        let (stdout, stderr) = (process.child().stdout.take(), process.child().stderr.take());
        output.drain(stdout, stderr).map_err(|error| {
            let doing = format!("start a thread that reads the output of server `{name}`");
            Error::io(ErrorKind::Io, doing, error)
        })
    }

    pub(super) fn printed(&self) -> Printed {
        Printed { name: self.name.clone(), port: self.ports.main, output: self.output.clone() }
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal).map_err(|error| {
            let (kind, why) = match error.kind() {
                io::ErrorKind::NotFound => (ErrorKind::Exited, ": it has ended"),
                _ => (ErrorKind::Io, ""),
            };
            let doing = format!("send {signal:?} to server `{}`{why}", self.name);
            Error::io(kind, doing, error)
        })
    }

    pub(super) fn wait(&mut self, at_most: Duration) -> Result<Option<ExitStatus>> {
        let start = Instant::now();
        loop {
            if let Some(End { status }) = self.process.end() {
                let unknown = || {
                    let message = format!("server `{}` ended, and nobody knows how", self.name);
                    Error::new(ErrorKind::Io, message)
                };
                return status.map(Some).ok_or_else(unknown);
            }
            let left = at_most.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            sys::wait_for_exit(&[self.process.pid()], left.min(Duration::from_secs(3600)));
        }
    }

    /// Ends all of it.
    pub(super) fn stop(self, grace: Duration) -> Result<Stopped, NotStopped> {
        let mut outcomes = Running::stop_all(vec![(self, grace)]);
        outcomes.remove(0)
    }

    /// Ends many at the same time, each with its own grace; the outcomes are in their order.
    pub(super) fn stop_all(servers: Vec<(Running, Duration)>) -> Vec<Result<Stopped, NotStopped>> {
        let mut rest = Vec::with_capacity(servers.len());
        let mut stopping = Vec::with_capacity(servers.len());
        for (Running { name, ports, process, output, stop_signal, .. }, grace) in servers {
            stopping.push(Stopping::new(process, output.clone(), ports.dir, stop_signal, grace));
            rest.push((name, ports.main, output));
        }
        let outcomes = stopping::end_all(stopping).into_iter().zip(rest);
        let deadline = Instant::now() + LAST_LINES;
        let report = |(outcome, (name, port, output)): (_, (String, u16, Output))| match outcome {
            Ok(Gone { end: End { status }, killed, duration }) => {
                output.has_ended(deadline.saturating_duration_since(Instant::now()));
                Ok(Stopped { status, killed, duration, output: output.tail() })
            }
            Err(Left { processes, watched }) => {
                let error = failure::not_stopped(&name, port, &processes);
                Err(NotStopped { error: error.with_output(output.tail()), watched })
            }
        };
        outcomes.map(report).collect()
    }
}

/// Some of a server would not go.
#[derive(Debug)]
pub(super) struct NotStopped {
    pub(super) error: Error,
    /// Its watchdog keeps the lock of its port.
    pub(super) watched: bool,
}
