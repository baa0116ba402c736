//! Starts and stops of a server, and what becomes of its leases.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

#[cfg(feature = "tokio")]
use super::config::CalledOff;
use super::config::Config;
use super::panic_log::PanicLog;
use super::running::{NotStopped, Running};
use super::stopped::Stopped;
use super::way::{Handoff, Way};
use super::{Server, failure, say};
use crate::complaint::{What, complaint};
use crate::error::{Error, ErrorKind, Result};
use crate::lease::Lease;
use crate::sys::{self, Protocol};

/// The grace for a server that is dropped by a failed test: somebody waits for the test's result.
const PANIC_GRACE: Duration = Duration::from_secs(1);

/// How often a server is given another port than one that a stranger has.
const MAX_MOVES: u32 = 3;

impl Server {
    /// Stops many at the same time: it takes as long as the one that takes longest.
    ///
    /// Of each, in their order, how it ended.
    ///
    /// # Errors
    ///
    /// Each as [`stop`](Server::stop).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use std::process::Command;
    /// # use portlease::Server;
    /// # let start = || Server::builder(Command::new("x")).report_port().start();
    /// let servers = [start()?, start()?];
    /// for stopped in Server::stop_all(servers) {
    ///     assert!(!stopped?.forced());
    /// }
    /// # Ok::<(), portlease::Error>(())
    /// ```
    pub fn stop_all(servers: impl IntoIterator<Item = Server>) -> Vec<Result<Stopped>> {
        let mut servers: Vec<Server> = servers.into_iter().collect();
        servers.iter().for_each(|server| server.config.dir.end());
        let take = |server: &mut Server| Some((server.running.take()?, server.config.stop_grace));
        let running: Vec<_> = servers.iter_mut().map(take).collect();
        let are_running: Vec<bool> = running.iter().map(Option::is_some).collect();
        let mut outcomes = Running::stop_all(running.into_iter().flatten().collect()).into_iter();
        let outcome = |(server, is_running): (&mut Server, bool)| {
            let outcome = if is_running { outcomes.next() } else { None };
            outcome.ok_or_else(not_running)?.map_err(|left| server.not_stopped(left))
        };
        servers.iter_mut().zip(are_running).map(outcome).collect()
    }

    /// Drops many at the same time, each as it would be dropped.
    pub(crate) fn drop_all(servers: impl IntoIterator<Item = Server>) {
        let mut servers: Vec<Server> = servers.into_iter().collect();
        servers.retain_mut(Server::retire);
        drop(Server::stop_all(servers));
    }

    /// From now on, its starts are called off by this flag.
    #[cfg(feature = "tokio")]
    pub(crate) fn called_off_by(&mut self, flag: &CalledOff) {
        self.config.called_off = CalledOff::clone(flag);
    }

    /// Stops it, if it is running; it can be started again.
    #[cfg(feature = "tokio")]
    pub(crate) fn halt(&mut self) {
        let _ = self.stop_running(self.config.stop_grace);
    }

    /// Ends it for good.
    pub(crate) fn end(&mut self) -> Result<Stopped> {
        self.config.dir.end();
        self.stop_running(self.config.stop_grace)
    }

    /// What dropping it does.
    pub(crate) fn end_as_dropped(&mut self) {
        if self.retire() {
            let _ = self.end();
        }
    }

    /// Whether what its readiness asks for holds now, but for lines in its output.
    ///
    /// # Errors
    ///
    /// What is missing, in words.
    pub(crate) fn is_still_ready(&mut self) -> Result<(), String> {
        let running = self.running.as_mut().ok_or("it is not running")?;
        running.is_still_ready(&self.config)
    }

    /// Prepares for being dropped. Whether there is anything to stop.
    pub(crate) fn retire(&mut self) -> bool {
        match &self.running {
            // A forked child has copies of all this: it only closes them.
            Some(running) if running.process.is_ours() => {
                drop(PanicLog::of(Some(self))); // prints, if this is a panic
                if thread::panicking() {
                    self.config.stop_grace = self.config.stop_grace.min(PANIC_GRACE);
                }
                true
            }
            _ => false,
        }
    }

    /// Whether its drop has files to remove.
    #[cfg(feature = "tokio")]
    pub(crate) fn has_files(&self) -> bool {
        self.config.dir.is_there()
    }

    /// A leased port that a stranger has is given up for another one, unless it was `given`: then its
    /// number matters to somebody.
    pub(super) fn start(config: Config, given: Option<Lease>) -> Result<Server> {
        let first_own = usize::from(given.is_some());
        let leases = config.leases(given)?;
        let mut server = Server { config, leases, running: None };
        for _ in 0..MAX_MOVES {
            match server.launch() {
                Ok(()) => return Ok(server),
                Err(error) => match server.taken(&error).filter(|&place| place >= first_own) {
                    Some(place) => {
                        say(&format!("{error}\nit is started once more, on another port"));
                        server.leases[place] = server.config.request().lease()?;
                    }
                    None => return Err(error),
                },
            }
        }
        server.launch()?;
        Ok(server)
    }

    /// Which of its leases is about a port that somebody else has.
    fn taken(&self, error: &Error) -> Option<usize> {
        let port = error.port().filter(|_| error.kind() == ErrorKind::PortTaken)?;
        self.leases.iter().position(|lease| lease.port() == port)
    }

    /// Starts the command, and waits until it is ready. After an error, nothing of it is left, or
    /// the message says what.
    pub(super) fn launch(&mut self) -> Result<()> {
        if self.config.handoff == Handoff::Release {
            self.leases.iter_mut().for_each(Lease::let_hold_go);
        }
        match self.launch_once() {
            Err(error) if self.may_be_kept_out(&error) => {
                say(&format!(
                    "{error}\nnobody listens on it: it may be the lease that keeps the server out, if \
                     it does not set SO_REUSEADDR; it is started once more without the kernel's hold \
                     (`Handoff::Release` does so at once)"
                ));
                self.config.handoff = Handoff::Release;
                self.leases.iter_mut().for_each(Lease::let_hold_go);
                self.launch_once()
            }
            result => result,
        }
    }

    /// Whether a server may have ended because of the hold on its port.
    fn may_be_kept_out(&self, error: &Error) -> bool {
        // The socket that a server inherits is in its way, and nobody's any more when it has ended.
        let is_held = self.config.handoff == Handoff::Hold
            && !self.leases.is_empty()
            && !self.config.inherits();
        let is_ours = |port| self.leases.iter().any(|lease| lease.port() == port);
        let says_so = error.kind() == ErrorKind::Exited
            && error
                .output()
                .and_then(complaint)
                .is_some_and(|found| found.what == What::InUse && found.port.is_none_or(is_ours));
        let is_free = |port| {
            let mut protocols = [Protocol::Tcp, Protocol::Udp].into_iter();
            protocols.all(|it| sys::servers(it, Some(port)).is_ok_and(|found| found.is_empty()))
        };
        is_held && says_so && self.leases.iter().map(Lease::port).all(is_free)
    }

    fn launch_once(&mut self) -> Result<()> {
        let main = usize::from(self.config.way.as_ref().is_some_and(Way::is_leased));
        if self.leases.len() != main + self.config.named.len() {
            return Err(not_running()); // they were given up with what could not be stopped
        }
        if self.config.called_off.load(Ordering::Relaxed) {
            let port = self.leases.first().map_or(0, Lease::port);
            return Err(failure::called_off(self.name(), port));
        }
        // In its place before it is waited for: a check of the test's own may panic.
        let running = self.running.insert(Running::spawn(&mut self.config, &self.leases)?);
        let ready = running.wait_until_ready(&self.config);
        ready.map_err(|error| match self.stop_running(self.config.stop_grace) {
            Ok(stopped) => error.with_output(stopped.output),
            Err(left) => error.and_then(left),
        })
    }

    pub(super) fn stop_running(&mut self, grace: Duration) -> Result<Stopped> {
        let Some(running) = self.running.take() else { return Err(not_running()) };
        running.stop(grace).map_err(|left| self.not_stopped(left))
    }

    /// The port stays leased, and the directory stays.
    pub(super) fn not_stopped(&mut self, left: NotStopped) -> Error {
        self.config.dir.leave();
        for lease in std::mem::take(&mut self.leases) {
            if left.watched {
                lease.leave(); // the watchdog has a copy of the lock
            } else {
                std::mem::forget(lease); // nobody has: this process keeps it, with its descriptors
            }
        }
        left.error
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end_as_dropped();
        if self.running.is_none() {
            self.config.dir.end();
            self.config.dir.remove();
        }
    }
}

pub(super) fn not_running() -> Error {
    Error::new(
        ErrorKind::Exited,
        "the server is not running, since its last stop or restart failed",
    )
}
