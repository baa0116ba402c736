//! What dead harnesses left behind: found by the cookie that each server carries.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use super::process::described;
use super::stop::{self, LOOK_AGAIN, Rest, Sent, Step};
use super::tree;
use crate::cookie::{Cookie, World};
use crate::error::{Error, ErrorKind, Result};
use crate::sys::{self, ProcessEntry, ProcessId, Signal};
use crate::text;

/// How long an orphan may take to end by itself.
const GRACE: Duration = Duration::from_secs(5);

/// How often a look is repeated because somebody was in the middle of an exec, and how soon.
const MAX_LOOKS_AGAIN: u32 = 10;
const AGAIN: Duration = Duration::from_millis(1);

/// How much of a command line is shown.
const MAX_COMMAND: usize = 200;

/// A process that was started by a server of a test process which is gone; see [`orphans`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    id: ProcessId,
    harness: ProcessId,
    command: String,
}

impl Orphan {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.id.pid
    }

    /// Its command line, the program first; at most 200 characters, without control characters.
    pub fn command(&self) -> &str {
        &self.command
    }

    /// The process id that the test process had. It may mean another by now.
    pub fn harness_pid(&self) -> u32 {
        self.harness.pid
    }
}

impl fmt::Display for Orphan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pid, harness) = (self.pid(), self.harness_pid());
        write!(f, "{pid} ({}), left by process {harness}, which is gone", self.command)
    }
}

/// The processes that servers of earlier test processes left behind.
///
/// When a test process is killed, watchdogs end its servers, but for processes that left their
/// server's process group. Each server, and what it starts, carries the environment variable
/// `PORTLEASE_COOKIE`, which names the test process; who carries it while that one is gone is an
/// orphan. For a few seconds after a test process was killed, what the watchdogs are about to end is
/// listed too.
///
/// # What this does not guarantee
///
/// - That nothing else is left: some programs write over their environment (nginx, PostgreSQL), and
///   those of other users may not be looked into.
/// - Test processes of other pid namespaces cannot be seen, so their servers are no orphans.
/// - What a server starts for others to use (a build daemon, a terminal multiplexer) carries its
///   cookie, and hands it on to all that it starts later. A test process that carries a cookie itself
///   finds nobody who carries the same one.
///
/// # Errors
///
/// - [`ErrorKind::Io`]: there is no `/proc` of this process's pid namespace; so it is on all systems but
///   Linux.
/// - [`ErrorKind::OutOfDescriptors`].
///
/// # Examples
///
/// ```
/// # if cfg!(target_os = "linux") { // elsewhere, nobody looks
/// for orphan in portlease::orphans()? {
///     eprintln!("from an earlier run: {orphan}");
/// }
/// # }
/// # Ok::<(), portlease::Error>(())
/// ```
pub fn orphans() -> Result<Vec<Orphan>> {
    for _ in 0..MAX_LOOKS_AGAIN {
        let (orphans, is_unsure) = look()?;
        if !is_unsure {
            return Ok(orphans);
        }
        thread::sleep(AGAIN);
    }
    look().map(|(orphans, _)| orphans)
}

/// Those who are to be seen now, and whether somebody may be missing, since he is in the middle of an exec.
fn look() -> Result<(Vec<Orphan>, bool)> {
    let world = World::own().ok_or_else(|| cannot_look(io::ErrorKind::Unsupported.into()))?;
    let all = sys::processes().map_err(cannot_look)?;
    let ancestors = ancestors(&all, process::id());
    // What we carry ourselves, our own children and watchdogs do too.
    let own: Vec<Cookie> = ancestors.iter().filter_map(|&pid| Cookie::of(pid)).collect();
    let (mut orphans, mut is_unsure) = (Vec::new(), false);
    for entry in all.iter().filter(|entry| !ancestors.contains(&entry.id.pid)) {
        let Some(cookie) = Cookie::of(entry.id.pid) else {
            is_unsure |= sys::is_in_exec(entry.id.pid);
            continue;
        };
        let harness = cookie.harness;
        // Looked at now: `all` may hide it, or have missed it.
        if !cookie.is_of(&world) || own.contains(&cookie) || sys::may_live(harness) {
            continue;
        }
        orphans.extend(command(entry.id.pid).map(|command| Orphan {
            id: entry.id,
            harness,
            command,
        }));
    }
    Ok((orphans, is_unsure))
}

/// Ends all [`orphans`], by `SIGTERM`, and after 5 s by `SIGKILL`; returns them when they are gone.
///
/// To be called before a test suite starts, for instance. Of two that are called at the same time,
/// both do it.
///
/// # Errors
///
/// - [`ErrorKind::NotStopped`]: some are still there 5 s after `SIGKILL`. The message names them.
/// - As [`orphans`].
///
/// # Examples
///
/// ```no_run
/// let ended = portlease::reap()?;
/// # Ok::<(), portlease::Error>(())
/// ```
pub fn reap() -> Result<Vec<Orphan>> {
    let mut ended = Vec::new();
    let mut known = BTreeSet::new();
    let mut asked = BTreeSet::new();
    let (mut sent, mut sent_at) = (Sent::Nothing, Instant::now());
    loop {
        let since = sent_at.elapsed(); // who is seen may be gone by the end of a look
        // Some may have started others since.
        for orphan in orphans()? {
            if known.insert(orphan.id) {
                ended.push(orphan);
            }
        }
        let all = sys::processes().map_err(cannot_look)?;
        let left = tree::living(&known, &all);
        let rest = if left.is_empty() { Rest::Nobody } else { Rest::Some };
        match stop::next(rest, sent, since, GRACE) {
            Step::Sweep | Step::Done => return Ok(ended),
            Step::Terminate => (sent, sent_at) = (Sent::Terminate, Instant::now()),
            Step::Kill => (sent, sent_at) = (Sent::Kill, Instant::now()),
            Step::Wait(time) => {
                if sent == Sent::Kill {
                    signal(&left, Signal::Kill);
                } else {
                    let new: Vec<_> =
                        left.iter().filter(|entry| asked.insert(entry.id)).copied().collect();
                    signal(&new, Signal::Terminate);
                    signal(&new, Signal::Continue);
                }
                let pids: Vec<_> = left.iter().map(|entry| entry.id.pid).collect();
                sys::wait_for_exit(&pids, time.min(LOOK_AGAIN));
            }
            Step::GiveUp => {
                let message = format!(
                    "failed to end what an earlier run left: still there after SIGKILL: process {}",
                    described(&left).join(", ")
                );
                return Err(Error::new(ErrorKind::NotStopped, message));
            }
        }
    }
}

/// What may fail is seen at the next look: it is still there.
fn signal(left: &[ProcessEntry], signal: Signal) {
    for entry in left {
        let _ = sys::signal_exactly(entry.id, signal);
    }
}

/// `pid` and its parents, up to the first: whatever they carry, who looks is no orphan.
fn ancestors(all: &[ProcessEntry], pid: u32) -> BTreeSet<u32> {
    let mut ancestors = BTreeSet::new();
    let mut next = Some(pid);
    while let Some(pid) = next.filter(|&pid| ancestors.insert(pid)) {
        next = all.iter().find(|entry| entry.id.pid == pid).map(|entry| entry.parent);
    }
    ancestors
}

fn command(pid: u32) -> Option<String> {
    let arguments = sys::process_arguments(pid).filter(|arguments| !arguments.is_empty());
    let command = arguments.map_or_else(|| sys::process_name(pid), |it| Some(it.join(" ")))?;
    Some(text::printable(&command).chars().take(MAX_COMMAND).collect())
}

fn cannot_look(error: io::Error) -> Error {
    let doing = "look for orphans, which takes a /proc of this process's pid namespace";
    Error::io(ErrorKind::Io, doing, error)
}
