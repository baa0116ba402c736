//! A server's processes: one group, led by its watchdog, and whoever left it.

use std::collections::BTreeSet;
use std::io;
use std::process::{self, Child, Command, ExitStatus};

use super::escape::{self, Trail};
use super::look::Look;
use super::tree;
use crate::cookie::{self, Cookie};
use crate::sys::{self, ProcessEntry, ProcessId, Signal, Watchdog};

/// How many processes are named in an error.
const MAX_DESCRIBED: usize = 8;

/// A child in a group of its own, with all that it started.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    /// Tells the child from a later process of its number, where somebody else may reap it.
    start: Option<u64>,
    group: u32,
    watchdog: Option<Watchdog>,
    trail: Trail,
    /// Whoever was found to be of it, living or not.
    known: BTreeSet<ProcessId>,
    end: Option<End>,
    /// A child that was forked from this process must not stop its parent's servers.
    started_by: u32,
}

/// Who of a server's processes a look shows.
#[derive(Debug, Default)]
pub(super) struct Family {
    pub(super) living: Vec<ProcessEntry>,
    /// Somebody may have been missed.
    pub(super) is_unsure: bool,
}

/// That the child has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// Unknown if somebody else reaped it, or this process ignores SIGCHLD.
    pub(super) status: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` in the watchdog's group, which is told by which signal that is to be ended. After
    /// an error, the watchdog is still there.
    ///
    /// Only with `process_group` and pipes, std uses `posix_spawn` (0.2 ms); with `pre_exec` it
    /// would fork (20 ms in a process of 500 MB).
    pub(super) fn spawn(
        command: &mut Command,
        watchdog: &mut Option<Watchdog>,
        stop_signal: Signal,
        mut trail: Trail,
    ) -> io::Result<Process> {
        let group = watchdog.as_ref().and_then(Watchdog::pid);
        sys::lead_group(command, group);
        trail.cookie = Cookie::new();
        // In any case, because it also says that portlease has started it, and nobody else.
        let value = trail.cookie.as_ref().map_or_else(|| cookie::NO_MARK.to_owned(), Cookie::value);
        command.env(cookie::VARIABLE, value);
        let told = watchdog.as_mut().map_or(Ok(()), |watchdog| watchdog.tell(stop_signal));
        let spawned = told.and_then(|()| command.spawn()).and_then(|mut child| {
            let admitted = watchdog.as_ref().map(|watchdog| watchdog.admit(&mut child));
            admitted.unwrap_or(Ok(())).map(|()| child)
        });
        spawned.map(|child| {
            let pipes =
                [child.stdout.as_ref().map(sys::inode), child.stderr.as_ref().map(sys::inode)];
            trail.pipes = pipes.into_iter().flatten().flatten().collect();
            Process {
                start: sys::process_start(child.id()),
                group: group.unwrap_or(child.id()),
                child,
                watchdog: watchdog.take(),
                trail,
                known: BTreeSet::new(),
                end: None,
                started_by: process::id(),
            }
        })
    }

    pub(super) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The mark in its environment.
    pub(super) fn cookie(&self) -> Option<&Cookie> {
        self.trail.cookie.as_ref()
    }

    /// The file name of its program.
    pub(super) fn program(&self) -> &str {
        &self.trail.program
    }

    /// The number of its group, for as long as it means no other: the leader is not reaped.
    pub(super) fn group(&self) -> Option<u32> {
        let leader_stays = self.watchdog.is_some() || self.end.is_none();
        leader_stays.then_some(self.group)
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

    /// Who of it lives, according to a look that was made **after** [`end`] was asked: else the child
    /// could have forked after the look, and have ended before the question. Without a look, only
    /// the child can be seen.
    ///
    /// Who left the group is found through his parents, for as long as each look finds one of them.
    /// Others are looked for when nobody else is left, or if `search` says so; `output_is_open` is one
    /// of their signs.
    ///
    /// [`end`]: Process::end
    pub(super) fn left(
        &mut self,
        look: Option<&Look>,
        output_is_open: bool,
        search: bool,
    ) -> Family {
        let mut family = match look {
            Some(look) => self.family(look),
            None => Family { living: self.members(), is_unsure: false },
        };
        if let (true, Some(look)) = (search || family.living.is_empty(), look) {
            family = self.family_with_escaped(look, output_is_open);
        }
        let id = ProcessId { pid: self.pid(), start: self.start.unwrap_or(0) };
        if self.end.is_none() && family.living.iter().all(|entry| entry.id != id) {
            let parent = process::id();
            family.living.push(ProcessEntry { id, parent, group: self.group, session: 0 });
        }
        family
    }

    /// Who of it can be told without a look.
    fn members(&self) -> Vec<ProcessEntry> {
        self.watchdog.as_ref().map(Watchdog::members).unwrap_or_default()
    }

    /// The living ones of its group, with their descendants.
    pub(super) fn family(&mut self, look: &Look) -> Family {
        let start = self.start;
        self.known.extend(start.map(|start| ProcessId { pid: self.child.id(), start }));
        let (group, watchdog) = (self.group(), self.watchdog());
        tree::extend(&mut self.known, &look.all, group, watchdog);
        Family { living: tree::living(&self.known, &look.all), is_unsure: false }
    }

    /// The same, with others who left the group and lost their parents.
    pub(super) fn family_with_escaped(&mut self, look: &Look, output_is_open: bool) -> Family {
        let Some(start) = self.start else { return self.family(look) };
        let since = ProcessId { pid: self.pid(), start };
        let found = escape::find(look, since, &self.trail, output_is_open, &self.known);
        self.known.extend(found.processes);
        Family { is_unsure: found.is_unsure, ..self.family(look) }
    }

    /// Whether this is, or was, one of those whom a look has found to be of it.
    pub(super) fn has(&self, pid: u32) -> bool {
        self.known.iter().any(|id| id.pid == pid)
    }

    /// Whether somebody of its group lives beside the watchdog.
    pub(super) fn group_lives(&self) -> bool {
        let members = self.group().map(sys::group_members);
        let members = members.and_then(Result::ok).unwrap_or_else(|| self.members());
        members.iter().any(|entry| Some(entry.id.pid) != self.watchdog())
    }

    /// Sends a signal to the child alone.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        // Not reaped by us, its number is still its own; unless somebody else reaped it.
        if self.end.is_some() || sys::process_start(self.pid()) != self.start {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        sys::signal_process(self.pid(), signal)
    }

    /// Sends a signal to the group, whose watchdog survives it. Whether a group can be sent one here.
    pub(super) fn signal_group(&mut self, signal: Signal) -> bool {
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.brace();
        }
        // What else may fail is that everybody is gone, which the next look shows.
        let sent = self.group().map_or(Ok(()), |group| sys::signal_group(group, signal));
        !sent.is_err_and(|error| error.kind() == io::ErrorKind::Unsupported)
    }

    /// Kills who is left, one by one, because a signal to the group would end the watchdog too, which
    /// has to take over if somebody will not go.
    pub(super) fn kill(&self, left: &[ProcessEntry]) {
        if self.watchdog.as_ref().is_some_and(Watchdog::kill_members) {
            return;
        }
        for entry in left {
            // What may fail is seen at the next look: it is still there.
            if entry.id.pid == self.pid() {
                let _ = self.signal(Signal::Kill);
            } else {
                let _ = sys::signal_exactly(entry.id, Signal::Kill);
            }
        }
    }

    /// Kills the group as a whole, watchdog and all. From now on, nobody takes over.
    pub(super) fn sweep(&mut self) {
        if let Some(watchdog) = &self.watchdog {
            watchdog.kill_group();
        }
    }

    pub(super) fn watchdog(&self) -> Option<u32> {
        self.watchdog.as_ref().and_then(Watchdog::pid)
    }

    /// After the sweep: lets the group's number go, and says how the child ended.
    pub(super) fn close(&mut self) -> End {
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.reap();
        }
        let end = self.end().unwrap_or(End { status: None });
        sys::wait_for_group(self.group);
        end
    }
}

/// Each as `4242 (nginx)`, and of many, some.
pub(super) fn described(entries: &[ProcessEntry]) -> Vec<String> {
    let mut described: Vec<_> =
        entries.iter().take(MAX_DESCRIBED).map(|entry| describe(entry.id)).collect();
    let more = entries.len().saturating_sub(MAX_DESCRIBED);
    if more > 0 {
        described.push(format!("{more} more"));
    }
    described
}

pub(super) fn describe(id: ProcessId) -> String {
    match sys::process_name(id.pid) {
        Some(name) => format!("{} ({name})", id.pid),
        None => id.pid.to_string(),
    }
}

#[cfg(test)]
#[cfg(unix)] // `sleep`
impl Process {
    /// One that is there for as long as nobody asks for its end.
    pub(super) fn sleeping(mut watchdog: Option<Watchdog>) -> Process {
        let mut sleep = Command::new("sleep");
        let trail = Trail::default();
        let spawned = Process::spawn(sleep.arg("1000"), &mut watchdog, Signal::Terminate, trail);
        spawned.expect("sleep")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(unix)]
    use crate::server::{Ready, Server};

    #[test]
    fn of_many_some_are_named() {
        let gone = |pid| ProcessId { pid, start: 0 };
        let entry = |id| ProcessEntry { id, parent: 1, group: 1, session: 1 };
        let described = |count| {
            let nobody = u32::MAX >> 1;
            let entries: Vec<_> = (nobody - count..nobody).map(gone).map(entry).collect();
            described(&entries)
        };
        assert_eq!(described(1), ["2147483646"]);
        assert_eq!(described(8).len(), MAX_DESCRIBED);
        assert_eq!(described(10).len(), MAX_DESCRIBED + 1);
        assert_eq!(described(10).last().map(String::as_str), Some("2 more"));
    }

    #[cfg(unix)] // `sleep`
    #[test]
    fn a_forked_child_has_nothing_to_stop() {
        let mut sleep = Command::new("sleep");
        sleep.arg("1000");
        let builder = Server::builder(sleep).env_port("PORT").ready(Ready::at_once());
        let mut server = builder.start().expect("sleep");
        server.running.as_mut().expect("it runs").process.started_by += 1;
        assert!(!server.retire());
        server.running.as_mut().expect("it runs").process.started_by -= 1;
        assert!(server.retire());
    }

    #[cfg(target_os = "linux")] // elsewhere, no start is told
    #[test]
    fn a_namesake_gets_no_signal() {
        let mut process = Process::sleeping(None);
        let start = process.start;
        process.start = start.map(|start| start + 1);
        let refused = process.signal(Signal::Kill).expect_err("another process by now");
        assert_eq!(refused.kind(), io::ErrorKind::NotFound);
        process.start = start;
        process.signal(Signal::Kill).expect("its own");
        assert!(process.child.wait().is_ok_and(|status| !status.success()));
    }

    #[cfg(target_os = "linux")] // elsewhere, a group has no members to be seen
    #[test]
    fn a_group_lives_for_as_long_as_anybody_but_the_watchdog() {
        let nowhere = std::path::Path::new("");
        let watchdog = Watchdog::spawn(Vec::new(), std::time::Duration::ZERO, nowhere);
        let mut process = Process::sleeping(watchdog.expect("a shell"));
        assert!(process.group_lives());
        process.signal(Signal::Kill).expect("its own");
        process.child.wait().expect("its end");
        assert!(!process.group_lives());
        process.sweep();
        process.close();
    }
}
