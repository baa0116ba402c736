//! One start of a server: its process and its output, from the spawn to the stop.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::builder::{Config, LOG_DIR_VARIABLE, Ports, Way};
use super::output::{Line, Output, Waited};
use super::process::{End, Left, Process};
use super::stopped::Stopped;
use super::{loopback, ready, stop};
use crate::error::{Error, ErrorKind, Result};
use crate::lease::Lease;
use crate::sys::{self, Signal};

/// How long the last lines of a server that has ended may be on their way.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(1);

/// The longest pause between two looks at whether a server is ready.
const MAX_PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct Running {
    pub(super) name: String,
    /// 0: not known yet.
    pub(super) port: u16,
    pub(super) process: Process,
    pub(super) output: Output,
    usual_signal: Signal,
}

impl Running {
    pub(super) fn spawn(config: &mut Config, lease: Option<&Lease>) -> Result<Running> {
        let port = lease.map_or(0, Lease::port);
        let lock = match lease {
            Some(lease) => lease.share_lock().map_err(|error| {
                Error::io(ErrorKind::Io, format_args!("share the lock of port {port}"), error)
            })?,
            None => None,
        };
        let (way, name, grace) = (&config.way, config.name.as_deref(), config.stop_grace);
        let stdin = if config.pipe_stdin { Stdio::piped() } else { Stdio::null() };
        let (name, usual_signal, process) =
            config.launch.with_command(&Ports { main: port }, |command| {
                if let Some(Way::Variable(variable)) = way {
                    command.env(variable, port.to_string());
                }
                command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
                let program = file_name(command.get_program());
                let usual_signal = stop::usual_signal(&program);
                let name = name.map_or(program, str::to_owned);
                let process = Process::spawn(command, lock, grace)
                    .map_err(|error| cannot_spawn(&name, command, error));
                (name, usual_signal, process)
            });
        let mut process = process?;
        let (stdout, stderr) = (process.child().stdout.take(), process.child().stderr.take());
        let output = match &config.log_dir {
            Some(dir) => Output::copied_to(dir, &name, process.pid()).map_err(|error| {
                let what = format!("copy the output of server `{name}` to {}", dir.display());
                let advice = format!("which {LOG_DIR_VARIABLE} names; correct it, or unset it");
                Error::io(ErrorKind::Io, format_args!("{what}, {advice}"), error)
            }),
            None => Ok(Output::new()),
        };
        let drained = output.and_then(|output| match output.drain(stdout, stderr) {
            Ok(()) => Ok(output),
            Err(error) => {
                let doing = format_args!("start a thread that reads the output of server `{name}`");
                Err(Error::io(ErrorKind::Io, doing, error))
            }
        });
        match drained {
            Ok(output) => Ok(Running { name, port, process, output, usual_signal }),
            Err(error) => {
                let _ = process.stop(Signal::Terminate, Duration::ZERO);
                Err(error)
            }
        }
    }

    /// Waits until the server accepts connections on its port, which is learned here if it is
    /// reported.
    pub(super) fn wait_until_ready(&mut self, config: &Config) -> Result<()> {
        let reports = config.way == Some(Way::Report);
        let start = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(end) = self.process.end() {
                self.output.has_ended(OUTPUT_PATIENCE);
                return Err(self.exited(end, !reports));
            }
            if reports {
                self.port = self.output.reported_port(Duration::ZERO).unwrap_or(0);
            }
            if self.port != 0 && ready::accepts(loopback(self.port)) {
                return Ok(());
            }
            if start.elapsed() >= config.start_timeout {
                return Err(self.not_ready(config.start_timeout));
            }
            // Either wait ends early when there is something to see.
            if self.port == 0 && !self.output.has_ended(Duration::ZERO) {
                self.output.reported_port(pause);
            } else {
                sys::wait_for_exit(&[self.process.pid()], pause);
            }
            pause = (pause * 2).min(MAX_PAUSE);
        }
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
        Err(about_port(Error::new(kind, message), self.port).with_output(self.output.tail()))
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

    /// Ends all of it, by `signal` or the one that is usual for its program.
    pub(super) fn stop(self, signal: Option<Signal>, grace: Duration) -> Result<Stopped> {
        let start = Instant::now();
        let Running { name, port, process, output, usual_signal } = self;
        match process.stop(signal.unwrap_or(usual_signal), grace) {
            Ok((End { status }, killed)) => {
                let duration = start.elapsed();
                output.has_ended(OUTPUT_PATIENCE);
                Ok(Stopped { status, killed, duration, output: output.tail() })
            }
            Err(Left(processes)) => {
                let message = format!(
                    "failed to stop server `{name}`{}: still there after SIGKILL: process {}; a \
                     leased port stays leased until they are gone",
                    on_port(port),
                    processes.join(", ")
                );
                let error = Error::new(ErrorKind::NotStopped, message);
                Err(about_port(error, port).with_output(output.tail()))
            }
        }
    }

    fn exited(&self, end: End, leased: bool) -> Error {
        let how = end.status.map_or("status unknown".to_owned(), |status| status.to_string());
        // The next step for the one trouble that only we can know of.
        let in_use = leased && self.output.tail().to_lowercase().contains("in use");
        let hint = if in_use {
            "; if it is the port that is in use: portlease holds it, and lets in only servers that \
             set SO_REUSEADDR before they bind; set it, or let the server bind port 0 and use \
             `report_port()`"
        } else {
            ""
        };
        let (name, port) = (&self.name, on_port(self.port));
        let message = format!("server `{name}` ended before it was ready{port} ({how}){hint}");
        about_port(Error::new(ErrorKind::Exited, message), self.port)
    }

    fn not_ready(&self, timeout: Duration) -> Error {
        let missing = if self.port == 0 {
            "it has not printed a line `PORT=<number>` on its standard output; if it should have, \
             and it is not below, it may have to flush it"
                .to_owned()
        } else {
            format!(
                "nothing accepts connections at {}; it must listen there, or on all addresses, on \
                 the port that it is told; if it only needs longer, raise `start_timeout`",
                loopback(self.port)
            )
        };
        let (name, seconds) = (&self.name, timeout.as_secs_f64());
        let message = format!("server `{name}` was not ready after {seconds:.1} s: {missing}");
        about_port(Error::new(ErrorKind::NotReady, message), self.port)
    }
}

fn about_port(error: Error, port: u16) -> Error {
    if port == 0 { error } else { error.with_port(port) }
}

fn on_port(port: u16) -> String {
    if port == 0 { String::new() } else { format!(" on port {port}") }
}

fn file_name(program: &OsStr) -> String {
    let file_name = Path::new(program).file_name().unwrap_or(program);
    file_name.to_string_lossy().into_owned()
}

fn cannot_spawn(name: &str, command: &Command, error: io::Error) -> Error {
    let program = command.get_program();
    let in_path = !program.to_string_lossy().contains('/');
    let hint = match (error.kind(), command.get_current_dir()) {
        (io::ErrorKind::NotFound, Some(dir)) => {
            format!("; there is no such program, or no directory {}", dir.display())
        }
        (io::ErrorKind::NotFound, None) if in_path => format!(
            "; there is no such program in PATH (a binary of this package is \
             `env!(\"CARGO_BIN_EXE_{}\")`)",
            program.to_string_lossy()
        ),
        (io::ErrorKind::NotFound, None) => "; there is no such program".to_owned(),
        (io::ErrorKind::PermissionDenied, _) => "; it may not be executed".to_owned(),
        _ => String::new(),
    };
    Error::io(ErrorKind::Spawn, format_args!("start server `{name}`: {program:?}{hint}"), error)
}
