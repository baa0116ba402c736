//! Starts and stops of a server, and what becomes of its leases.

use std::time::Duration;

use super::config::{Config, Handoff, Way};
use super::running::{NotStopped, Running};
use super::stopped::Stopped;
use super::{Server, failure, say};
use crate::error::{Error, ErrorKind, Result};
use crate::lease::Lease;
use crate::sys::{self, Protocol};

impl Server {
    pub(super) fn start(config: Config, leases: Vec<Lease>) -> Result<Server> {
        let mut server = Server { config, leases, running: None };
        server.launch()?;
        Ok(server)
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
        let is_held = self.config.handoff == Handoff::Hold && !self.leases.is_empty();
        let says_so = error.kind() == ErrorKind::Exited && failure::says_in_use(error.output());
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
        let mut running = Running::spawn(&mut self.config, &self.leases)?;
        let ready = running.wait_until_ready(&self.config);
        self.running = Some(running);
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

pub(super) fn not_running() -> Error {
    Error::new(
        ErrorKind::Exited,
        "the server is not running, since its last stop or restart failed",
    )
}
