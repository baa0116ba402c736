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

/// Some processes would not go: their pids.
#[derive(Debug)]
pub(super) struct Left(pub(super) Vec<u32>);

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
        let watchdog = Watchdog::spawn(lock, grace).ok();
        let group = watchdog.as_ref().map(Watchdog::group);
        command.process_group(group.map_or(0, |group| group as i32));
        match command.spawn() {
            Ok(child) => Ok(Process {
                group: group.unwrap_or(child.id()),
                child,
                watchdog,
                end: None,
                started_by: process::id(),
            }),
            Err(error) => {
                if let Some(watchdog) = watchdog {
                    watchdog.dismiss();
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

    /// Ends the whole group, and returns when it is gone: how the child ended, and whether force
    /// was needed.
    pub(super) fn stop(mut self, grace: Duration) -> Result<(End, bool), Left> {
        let mut sent = Sent::Nothing;
        let mut sent_at = Instant::now();
        loop {
            let left = self.left();
            match stop::next(!left.is_empty(), sent, sent_at.elapsed(), grace) {
                Step::Done => break,
                Step::Terminate => {
                    self.signal(Signal::Terminate);
                    // A stopped process never handles SIGTERM.
                    self.signal(Signal::Continue);
                    (sent, sent_at) = (Sent::Terminate, Instant::now());
                }
                Step::Kill => {
                    self.signal(Signal::Kill);
                    (sent, sent_at) = (Sent::Kill, Instant::now());
                }
                Step::Wait(left_time) => sys::wait_for_exit(&left, left_time.min(LOOK_AGAIN)),
                // Dropped, the watchdog takes over, with the lock.
                Step::GiveUp => return Err(Left(left)),
            }
        }
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.dismiss();
        }
        let end = self.end().unwrap_or(End { status: None });
        Ok((end, sent == Sent::Kill))
    }

    /// Who still lives: the child, and the others of the group.
    fn left(&mut self) -> Vec<u32> {
        let watchdog = self.watchdog.as_ref().map(Watchdog::group);
        // Without /proc, only the child can be seen.
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

    fn signal(&mut self, signal: Signal) {
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.brace();
        }
        // The group's leader is not reaped yet, so the number is still its own. What may fail is
        // that everybody is gone, which the next look shows.
        let _ = sys::signal_group(self.group, signal);
    }
}
