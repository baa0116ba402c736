//! What ends a server when its harness dies first.
//!
//! # What is wanted
//!
//! When the test process ends, in whatever way, its servers end too, and their ports stay leased
//! until they have. `SIGKILL` gives the test process no chance to do it; somebody else must.
//!
//! # What does it
//!
//! For each server a shell is started **first**. It is the leader of a new process group, into
//! which the server is spawned; it reads a socket whose other end only this process has; and its
//! standard output is a copy of the lock of the leased port. At end of file it ends the group.
//!
//! - There is no moment at which the harness can die and leave the server behind. Between the
//!   server's fork and its exec, the server itself has a copy of our end of the socket; after it,
//!   it is in the group. (Killed at random microseconds of the start: watchdog second, 254 of 600
//!   servers were left; watchdog first, 0 of 600.)
//! - The number of the group cannot be reused while the shell lives or is not reaped: it is our
//!   child, and it is reaped last.
//! - Nothing of the test's standard output or error is inherited, so nextest sees no leak.
//!
//! It costs 0.3 ms and 117 kB a server.
//!
//! # What was tried instead
//!
//! `PR_SET_PDEATHSIG` fires when the *thread* that spawned ends, and every libtest test is a thread.
//! A fork of this process instead of a shell copies what a forked child must not touch (threads'
//! locks), and takes 20 ms in a process of 500 MB. A watchdog in a group of its own must ask for the
//! server's pid after the spawn, and there is a moment before.
//!
//! # What this does not guarantee
//!
//! Without `/bin/sh` there is no watchdog. The server's output has no reader any more once the
//! harness is dead: one that prints while it shuts down may be ended by that, in the middle. A
//! process that leaves the group (`setsid`) is out of the watchdog's reach. So is everything while a
//! forked copy of the harness lives on, which has the socket too.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::id::ProcessEntry;
use super::unix::{parked, signal_group};
use super::{Signal, wait_for_exit};

/// What its start is, for errors.
pub(crate) const WATCHDOG: &str = "start /bin/sh, which watches over each server";

/// A lock is kept as long as somebody has a copy of its descriptor, in whatever process.
pub(crate) const COPIES_KEEP_LOCKS: bool = true;

const SCRIPT: &str = include_str!("watchdog.sh");

/// The most that an orphaned server gets to end by itself.
const MAX_GRACE: Duration = Duration::from_secs(5);

/// How long is waited for what takes a shell a millisecond, on an idle machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// A shell that ends its process group when this value is gone, unless it was dismissed before.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Child,
    socket: UnixStream,
    may_be_signalled: bool,
}

impl Watchdog {
    /// Starts one, which keeps `locks`: one as its standard output; more, and they wait in the queue of a
    /// socket for somebody to receive them, which nobody does. It removes the directory `dir`, if there is
    /// one when it is done.
    ///
    /// `Ok(None)`: there is no `/bin/sh`.
    pub(crate) fn spawn(
        mut locks: Vec<File>,
        grace: Duration,
        dir: &Path,
    ) -> io::Result<Option<Watchdog>> {
        let (socket, its_end) = UnixStream::pair()?;
        let grace = grace.min(MAX_GRACE);
        let lock = locks.pop();
        let others = if locks.is_empty() { None } else { Some(parked(&locks)?) };
        let tenths = grace.as_millis() / 100;
        let shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "portlease-watchdog", &tenths.to_string()])
            .arg(dir)
            .current_dir("/") // not to keep a temporary directory busy
            .stdin(OwnedFd::from(its_end))
            .stdout(lock.map_or_else(Stdio::null, Stdio::from))
            .stderr(others.map_or_else(Stdio::null, Stdio::from))
            .process_group(0)
            .spawn();
        match shell {
            Ok(shell) => Ok(Some(Watchdog { shell, socket, may_be_signalled: false })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Says by which signal it is to ask the server to end; before this, by SIGTERM.
    pub(crate) fn tell(&mut self, signal: Signal) -> io::Result<()> {
        let signal = match signal {
            Signal::Kill | Signal::Stop => Signal::Terminate, // the shell would be the first to go
            signal => signal,
        };
        writeln!(self.socket, "{}", signal.name())
    }

    /// The number of its process group, and its own pid.
    pub(crate) fn pid(&self) -> Option<u32> {
        Some(self.shell.id())
    }

    fn group(&self) -> u32 {
        self.shell.id()
    }

    /// The server was started into its group, and runs.
    #[allow(clippy::unnecessary_wraps, clippy::unused_self)] // as on Windows, where it may fail
    pub(crate) fn admit(&self, _server: &mut Child) -> io::Result<()> {
        Ok(())
    }

    /// Who of the group lives, as far as can be told without a look at all processes.
    #[allow(clippy::unused_self)]
    pub(crate) fn members(&self) -> Vec<ProcessEntry> {
        Vec::new()
    }

    /// Waits until a signal to the group will not end the watchdog: for its first millisecond, it
    /// would.
    pub(crate) fn brace(&mut self) {
        if !self.may_be_signalled {
            let _ = self.socket.set_read_timeout(Some(PATIENCE));
            // A byte, or the end, if it is gone.
            while self.socket.read(&mut [0]).is_err_and(|e| e.kind() == io::ErrorKind::Interrupted)
            {
            }
            self.may_be_signalled = true;
        }
    }

    /// Kills it, and with it whoever of its group was forked between two looks. By then the group's
    /// number is its own for sure: it lives, since nobody else kills it.
    pub(crate) fn kill_group(&self) {
        let _ = signal_group(self.group(), Signal::Kill);
    }

    /// Kills who is of it, and spares the watchdog. Whether that can be done at once: here not.
    #[allow(clippy::unused_self)]
    pub(crate) fn kill_members(&self) -> bool {
        false
    }

    /// Ends it, before it has a server.
    pub(crate) fn dismiss(watchdog: Option<Watchdog>) {
        if let Some(watchdog) = watchdog {
            watchdog.kill_group();
            watchdog.reap();
        }
    }

    /// Reaps it. From now on, the group's number may come to mean another.
    pub(crate) fn reap(mut self) {
        let deadline = Instant::now() + PATIENCE;
        // Its end may be told before it can be waited for: kqueue(2) does, on macOS and FreeBSD.
        while let Ok(None) = self.shell.try_wait() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            wait_for_exit(&[self.shell.id()], left);
        }
    }
}

/// Children of `command` are of the group `group`, or lead one of their own.
pub(crate) fn lead_group(command: &mut Command, group: Option<u32>) {
    command.process_group(group.map_or(0, |group| group as i32));
}

/// Children of `command` lead a group of their own.
pub(crate) fn lead_own_group(command: &mut Command) {
    lead_group(command, None);
}

#[cfg(test)]
mod tests {
    use fs2::FileExt;

    use super::*;
    use crate::patience::eventually;

    #[test]
    fn it_keeps_every_lock_until_it_ends() {
        let dir = tempfile::tempdir().expect("a directory");
        let open = |number: usize| {
            File::options().create(true).append(true).open(dir.path().join(number.to_string()))
        };
        // More than one message takes; macOS lets a process have 256 descriptors.
        let many = if cfg!(target_os = "macos") { 60 } else { 600 };
        for count in [1, 2, many] {
            let files: Result<Vec<_>, _> = (0..count).map(open).collect();
            let files = files.expect("files");
            files.iter().for_each(|file| FileExt::lock_exclusive(file).expect("lock"));
            let watchdog = Watchdog::spawn(files, Duration::ZERO, dir.path());
            let watchdog = watchdog.expect("spawn").expect("a shell");
            let others: Result<Vec<_>, _> = (0..count).map(open).collect();
            let others = others.expect("files");
            assert!(
                others.iter().all(|file| FileExt::try_lock_exclusive(file).is_err()),
                "{count}"
            );
            watchdog.kill_group();
            watchdog.reap();
            for file in others {
                eventually(|| FileExt::try_lock_exclusive(&file));
            }
        }
    }

    #[test]
    fn once_braced_it_outlives_what_ends_its_group() {
        for signal in [Signal::Terminate, Signal::Interrupt, Signal::Hangup, Signal::Quit] {
            let watchdog = Watchdog::spawn(Vec::new(), Duration::ZERO, Path::new(""));
            let mut watchdog = watchdog.expect("spawn").expect("a shell");
            watchdog.brace();
            signal_group(watchdog.group(), signal).expect("signal");
            wait_for_exit(&[watchdog.group()], Duration::from_millis(50));
            assert!(watchdog.shell.try_wait().expect("wait").is_none(), "{signal:?}");
            watchdog.kill_group();
            watchdog.reap();
        }
    }
}
