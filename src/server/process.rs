//! A server's processes: one group, led by its watchdog.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{self, Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use super::stop::{self, Sent, Step};
use super::watchdog::Watchdog;
use crate::sys::{self, Signal};

/// How long at most nobody looks: processes may appear that were not waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A child in a group of its own.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    /// Tells the child from a later process of its number, where somebody else may reap it.
    start: Option<u64>,
    group: u32,
    watchdog: Option<Watchdog>,
    end: Option<End>,
    /// A child that was forked from this process must not stop its parent's servers.
    started_by: u32,
}

/// That the child has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// Unknown if somebody else reaped it, or this process ignores SIGCHLD.
    pub(super) status: Option<ExitStatus>,
}

/// Some processes would not go; each as `4242 (nginx)`.
#[derive(Debug)]
pub(super) struct Left(pub(super) Vec<String>);

impl Process {
    /// Starts the watchdog, and then `command` in its group.
    ///
    /// Only with `process_group` and pipes, std uses `posix_spawn` (0.2 ms); with `pre_exec` it
    /// would fork (20 ms in a process of 500 MB).
    pub(super) fn spawn(
        command: &mut Command,
        lock: Option<File>,
        grace: Duration,
    ) -> io::Result<Process> {
        let watchdog = match Watchdog::spawn(lock, grace) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None, // no /bin/sh
            watchdog => Some(watchdog?),
        };
        let group = watchdog.as_ref().map(Watchdog::group);
        command.process_group(group.map_or(0, |group| group as i32));
        match command.spawn() {
            Ok(child) => Ok(Process {
                start: sys::process_start(child.id()),
                group: group.unwrap_or(child.id()),
                child,
                watchdog,
                end: None,
                started_by: process::id(),
            }),
            Err(error) => {
                if let Some(watchdog) = watchdog {
                    watchdog.kill_group();
                    watchdog.reap();
                }
                Err(error)
            }
        }
    }

    pub(super) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether this process started it, and not the one it was forked from.
    pub(super) fn is_ours(&self) -> bool {
        self.started_by == process::id()
    }

    /// Whether the child has ended. Others of its group may live.
    pub(super) fn end(&mut self) -> Option<End> {
        if self.end.is_none() {
            self.end = match self.child.try_wait() {
                Ok(None) => None,
                Ok(status) => Some(End { status }),
                Err(_) => Some(End { status: None }), // ECHILD
            };
        }
        self.end
    }

    /// Sends a signal to the child alone.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        // Not reaped by us, its number is still its own; unless somebody else reaped it.
        if self.end.is_some() || sys::process_start(self.pid()) != self.start {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        sys::signal_process(self.pid(), signal)
    }

    /// Ends the whole group, by `signal` first, and returns when it is gone: how the child ended,
    /// and what had to be killed.
    pub(super) fn stop(
        mut self,
        signal: Signal,
        grace: Duration,
    ) -> Result<(End, Vec<String>), Left> {
        let mut sent = Sent::Nothing;
        let mut sent_at = Instant::now();
        let mut killed = Vec::new();
        loop {
            let left = self.left();
            match stop::next(!left.is_empty(), sent, sent_at.elapsed(), grace) {
                Step::Done => break,
                Step::Terminate => {
                    self.signal_group(signal);
                    // A stopped process never handles the signal.
                    self.signal_group(Signal::Continue);
                    (sent, sent_at) = (Sent::Terminate, Instant::now());
                }
                Step::Kill => {
                    killed = described(&left);
                    (sent, sent_at) = (Sent::Kill, Instant::now());
                    self.kill(&left);
                }
                Step::Wait(time) => {
                    if sent == Sent::Kill {
                        self.kill(&left); // some may have been forked since the last look
                    }
                    sys::wait_for_exit(&left, time.min(LOOK_AGAIN));
                }
                // Dropped, the watchdog takes over, with the lock.
                Step::GiveUp => return Err(Left(described(&left))),
            }
        }
        self.sweep()?;
        let end = self.end().unwrap_or(End { status: None });
        Ok((end, killed))
    }

    /// Nobody is to be seen; but a look takes time, in which one can fork and end. A signal to the
    /// group leaves nobody out.
    fn sweep(&mut self) -> Result<(), Left> {
        let Some(watchdog) = self.watchdog.take() else { return Ok(()) };
        watchdog.kill_group();
        let start = Instant::now();
        let left = loop {
            let mut left = sys::group_members(self.group).unwrap_or_default();
            left.retain(|&pid| pid != watchdog.group());
            if left.is_empty() || start.elapsed() >= stop::KILL_BOUND {
                break left;
            }
            sys::wait_for_exit(&left, LOOK_AGAIN);
        };
        watchdog.reap();
        if left.is_empty() { Ok(()) } else { Err(Left(described(&left))) }
    }

    /// Who still lives: the child, and the others of the group.
    fn left(&mut self) -> Vec<u32> {
        let watchdog = self.watchdog.as_ref().map(Watchdog::group);
        // Without a /proc of this pid namespace, only the child can be seen.
        let mut left = sys::group_members(self.group).unwrap_or_default();
        left.retain(|&pid| Some(pid) != watchdog);
        let child = self.pid();
        if self.end().is_some() {
            left.retain(|&pid| pid != child);
        } else if !left.contains(&child) {
            left.push(child);
        }
        left
    }

    /// One by one, because a signal to the group would end the watchdog too, which has to take over
    /// if somebody will not go.
    fn kill(&mut self, left: &[u32]) {
        for &pid in left {
            // What may fail is seen at the next look: it is still there.
            if pid == self.pid() {
                let _ = self.signal(Signal::Kill);
            } else {
                let _ = sys::kill_member(pid, self.group);
            }
        }
    }

    fn signal_group(&mut self, signal: Signal) {
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.brace();
        }
        // The group's leader is not reaped yet, so the number is still its own. What may fail is
        // that everybody is gone, which the next look shows.
        let _ = sys::signal_group(self.group, signal);
    }
}

fn described(pids: &[u32]) -> Vec<String> {
    let describe = |&pid| match sys::process_name(pid) {
        Some(name) => format!("{pid} ({name})"),
        None => pid.to_string(),
    };
    pids.iter().map(describe).collect()
}
