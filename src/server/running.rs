//! One start of a server: its process and its output, from the spawn to the stop. What is between
//! the spawn and being ready: `starting`.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::{Config, LOG_DIR_VARIABLE, Source, Way};
use super::escape::Trail;
use super::line::Line;
use super::output::{LAST_LINES, Output, Waited};
use super::ports::Ports;
use super::process::{End, Process};
use super::report::{Reader, Reports};
use super::stopped::Stopped;
use super::stopping::{self, Gone, Left, Stopping};
use super::watchdog::Watchdog;
use super::{failure, stop};
use crate::error::{Error, ErrorKind, Result};
use crate::lease::Lease;
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
    stop_signal: Signal,
}

impl Running {
    pub(super) fn spawn(config: &mut Config, leases: &[Lease]) -> Result<Running> {
        let ports = ports(config, leases);
        let locks = leases.iter().filter_map(|lease| lease.share_lock().transpose());
        let locks: io::Result<Vec<File>> = locks.collect();
        let locks = locks.map_err(|error| {
            Error::io(ErrorKind::Io, "share the locks of the server's ports", error)
        })?;
        let only_one = Some(ports.main).filter(|&port| port != 0 && ports.named.is_empty());
        let before = config.protocols().iter().map(|&protocol| sys::servers(protocol, only_one));
        let before = before.flat_map(io::Result::unwrap_or_default).map(|socket| socket.inode);
        let before = before.collect();
        if let Some(Way::Report(Source::File(path))) = &config.way {
            config.dir.forget(path); // that of the last start
        }
        let Config { launch, way, name, variables, named, stop_signal, dir, .. } = config;
        let grace = match stop_signal {
            Some(Signal::Kill | Signal::Stop) => Duration::ZERO,
            _ => config.stop_grace,
        };
        // Before the closure is called, which may ask for the directory.
        let watchdog = Watchdog::spawn(locks, grace, dir.name()).map_err(|error| {
            Error::io(ErrorKind::Spawn, "start /bin/sh, which watches over each server", error)
        })?;
        let stdin = if config.pipe_stdin { Stdio::piped() } else { Stdio::null() };
        let running = launch.with_command(&ports, |command| {
            if let Err(error) = dir.problem() {
                Watchdog::dismiss(watchdog);
                return Err(error);
            }
            for variable in variables {
                command.env(variable, ports.main.to_string());
            }
            for ((_, variable), (_, port)) in named.iter().zip(&ports.named) {
                if let Some(variable) = variable {
                    command.env(variable, port.to_string());
                }
            }
            command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
            let program = failure::file_name(command.get_program());
            let name = name.as_ref().unwrap_or(&program).clone();
            let stop_signal = stop_signal.unwrap_or(stop::usual_signal(&program));
            let trail = Trail { port: ports.main, program, ..Trail::default() };
            let process = Process::spawn(command, watchdog, stop_signal, trail)
                .map_err(|error| failure::cannot_spawn(&name, command, error))?;
            Ok(Running {
                name,
                ports: ports.clone(),
                process,
                output: Output::new(),
                before,
                reports: Reports::default(),
                stop_signal,
            })
        });
        let mut running = running?;
        if let Some(Way::Report(Source::Output(own))) = way {
            running.output.read_reports(Some(Reader::new(own.clone())));
        }
        match running.drain(config.log_dir.as_deref()) {
            Ok(()) => Ok(running),
            Err(error) => {
                let _ = running.stop(Duration::ZERO);
                Err(error)
            }
        }
    }

    /// Starts to read its output, and to copy it to a file of `log_dir`.
    fn drain(&mut self, log_dir: Option<&Path>) -> Result<()> {
        let Running { name, process, output, .. } = self;
        if let Some(dir) = log_dir {
            output.copy_to(dir, name, process.pid()).map_err(|error| {
                let doing = format_args!(
                    "copy the output of server `{name}` to {}, which {LOG_DIR_VARIABLE} names; \
                     correct it, or unset it",
                    dir.display()
                );
                Error::io(ErrorKind::Io, doing, error)
            })?;
        }
        let (stdout, stderr) = (process.child().stdout.take(), process.child().stderr.take());
        output.drain(stdout, stderr).map_err(|error| {
            let doing = format_args!("start a thread that reads the output of server `{name}`");
            Error::io(ErrorKind::Io, doing, error)
        })
    }

    pub(super) fn wait_for_line(
        &self,
        which: &str,
        at_most: Duration,
        matches: impl FnMut(&str) -> bool,
    ) -> Result<Line> {
        let (kind, what) = match self.output.wait_for_line(at_most, matches) {
            Waited::Line(line) => return Ok(line),
            Waited::End => (ErrorKind::Exited, "its output ended without one".to_owned()),
            Waited::TooLong => {
                (ErrorKind::NotReady, format!("none came within {:.1} s", at_most.as_secs_f64()))
            }
        };
        let message = format!("server `{}`: no line {which}: {what}", self.name);
        Err(failure::of_port(kind, message, self.ports.main).with_output(self.output.tail()))
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal).map_err(|error| {
            let (kind, why) = match error.kind() {
                io::ErrorKind::NotFound => (ErrorKind::Exited, ": it has ended"),
                _ => (ErrorKind::Io, ""),
            };
            let doing = format_args!("send {signal:?} to server `{}`{why}", self.name);
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

/// The ports of one start: those that are leased, and the others 0.
fn ports(config: &Config, leases: &[Lease]) -> Ports {
    let mut leased = leases.iter().map(Lease::port);
    let main = match config.way {
        Some(Way::Lease) => leased.next().unwrap_or(0),
        _ => 0,
    };
    let names = config.named.iter().map(|(name, _)| name.clone());
    let dir = Arc::clone(&config.dir);
    Ports { host: config.host, main, named: names.zip(leased).collect(), dir }
}

/// Some of a server would not go.
#[derive(Debug)]
pub(super) struct NotStopped {
    pub(super) error: Error,
    /// Its watchdog keeps the lock of its port.
    pub(super) watched: bool,
}
