//! How servers are ended: what `stop` decides, done, for one or for many at once.
//!
//! One look at all processes serves all servers. A server is gone when nobody of its group lives,
//! nobody who descends from it, and nobody who shows another sign of it.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::dir::Dir;
use super::look::Look;
use super::output::Output;
use super::process::{End, Process, describe, described};
use super::stop::{self, LOOK_AGAIN, Rest, Sent, Step};
use super::tree;
use crate::sys::{self, ProcessEntry, ProcessId, Signal};

/// How many looks are repeated because they missed something.
const MAX_LOOKS_AGAIN: u32 = 100;

/// A server that is being ended.
#[derive(Debug)]
pub(super) struct Stopping {
    process: Process,
    output: Output,
    dir: Arc<Dir>,
    signal: Signal,
    grace: Duration,
    start: Instant,
    sent: Sent,
    sent_at: Instant,
    /// Who of the last look lived.
    left: Vec<ProcessEntry>,
    /// Who was asked to end outside of the group.
    asked: BTreeSet<ProcessId>,
    /// Who was there when the killing began.
    first_killed: BTreeSet<ProcessId>,
    looks_again: u32,
    killed: BTreeMap<ProcessId, String>,
}

/// How it went.
#[derive(Debug)]
pub(super) struct Gone {
    pub(super) end: End,
    /// Each as `4242 (nginx)`.
    pub(super) killed: Vec<String>,
    pub(super) duration: Duration,
}

/// Some processes would not go.
#[derive(Debug)]
pub(super) struct Left {
    /// Each as `4242 (nginx)`.
    pub(super) processes: Vec<String>,
    /// The watchdog lives, and keeps the lock.
    pub(super) watched: bool,
}

/// How far a step came.
enum Progress {
    /// There is nothing more to do for so long, unless one of those ends that are
    /// [waited for](Stopping::waits_for).
    Wait(Duration),
    Done(Result<Gone, Left>),
}

impl Stopping {
    pub(super) fn new(
        process: Process,
        output: Output,
        dir: Arc<Dir>,
        signal: Signal,
        grace: Duration,
    ) -> Stopping {
        let now = Instant::now();
        Stopping {
            process,
            output,
            dir,
            signal,
            grace,
            start: now,
            sent: Sent::Nothing,
            sent_at: now,
            left: Vec::new(),
            asked: BTreeSet::new(),
            first_killed: BTreeSet::new(),
            looks_again: 0,
            killed: BTreeMap::new(),
        }
    }

    /// Looks who is left, and does what is due.
    ///
    /// After the sweep, a look at the group will do, which takes 0.1 ms instead of 1 ms: nobody was
    /// left before, and nobody has the output open.
    fn step(&mut self, looks: &Looks) -> Progress {
        let output_is_open = !self.output.has_ended(Duration::ZERO);
        let just_swept = self.sent == Sent::Sweep && self.left.is_empty() && !output_is_open;
        if !just_swept || self.process.group_lives() {
            let look = match looks.get() {
                Ok(look) => Some(look),
                // Others may close some descriptors soon. If not, the watchdog takes over.
                Err(error) if sys::is_out_of_descriptors(error) => {
                    if self.may_look_again(true) {
                        return Progress::Wait(LOOK_AGAIN);
                    }
                    let who = "(unknown: no file descriptor is left to look)".to_owned();
                    let left = Left { processes: vec![who], watched: self.is_watched() };
                    return Progress::Done(Err(left));
                }
                Err(_) => None, // no `/proc` of ours
            };
            let family = self.process.left(look, output_is_open, self.sent == Sent::Nothing);
            if family.living.is_empty() && self.may_look_again(family.is_unsure) {
                return Progress::Wait(Duration::from_millis(1));
            }
            self.left = family.living;
        }
        let since = looks.begun.saturating_duration_since(self.sent_at);
        match stop::next(self.rest(), self.sent, since, self.grace) {
            Step::Terminate => {
                self.sent(Sent::Terminate);
                if !self.process.signal_group(self.signal) {
                    self.grace = Duration::ZERO; // nobody was asked: there is nothing to wait for
                }
                // A stopped process never handles the signal.
                self.process.signal_group(Signal::Continue);
                self.ask_outside();
                Progress::Wait(LOOK_AGAIN)
            }
            Step::Kill => {
                self.sent(Sent::Kill);
                self.first_killed = self.left.iter().map(|entry| entry.id).collect();
                self.kill();
                Progress::Wait(LOOK_AGAIN)
            }
            Step::Wait(time) => {
                // Some may have been forked since the last look, or lost their parent.
                match self.sent {
                    Sent::Nothing => {}
                    Sent::Terminate => self.ask_outside(),
                    Sent::Kill => self.kill(),
                    Sent::Sweep => {
                        self.process.sweep(); // who escaped it may have forked since
                        self.kill();
                    }
                }
                Progress::Wait(time.min(LOOK_AGAIN))
            }
            Step::Sweep => {
                self.sent(Sent::Sweep);
                // While the watchdog is there, which does it if this process is killed now.
                self.dir.remove();
                self.process.sweep();
                Progress::Wait(LOOK_AGAIN)
            }
            Step::Done => {
                let end = self.process.close();
                let killed = std::mem::take(&mut self.killed).into_values().collect();
                Progress::Done(Ok(Gone { end, killed, duration: self.start.elapsed() }))
            }
            // Dropped, the watchdog takes over, with the lock.
            Step::GiveUp => {
                let watched = self.is_watched();
                if !watched {
                    self.process.close();
                }
                Progress::Done(Err(Left { processes: described(&self.left), watched }))
            }
        }
    }

    fn rest(&self) -> Rest {
        let is_new = |entry: &ProcessEntry| !self.first_killed.contains(&entry.id);
        match self.left.is_empty() {
            true => Rest::Nobody,
            false if self.sent == Sent::Kill && self.left.iter().all(is_new) => Rest::Renewed,
            false => Rest::Some,
        }
    }

    /// Whether the watchdog lives, and will take over if this is dropped.
    fn is_watched(&self) -> bool {
        self.sent != Sent::Sweep && self.process.watchdog().is_some()
    }

    /// Whether a look that missed something is to be repeated: so many times, not for ever.
    fn may_look_again(&mut self, missed: bool) -> bool {
        self.looks_again += u32::from(missed);
        missed && self.looks_again <= MAX_LOOKS_AGAIN
    }

    fn sent(&mut self, what: Sent) {
        (self.sent, self.sent_at) = (what, Instant::now());
    }

    fn ask_outside(&mut self) {
        for id in tree::roots_outside(&self.left, self.process.group()) {
            if self.asked.insert(id) {
                let _ = sys::signal_exactly(id, self.signal);
                let _ = sys::signal_exactly(id, Signal::Continue);
            }
        }
    }

    fn kill(&mut self) {
        for entry in &self.left {
            self.killed.entry(entry.id).or_insert_with(|| describe(entry.id));
        }
        self.process.kill(&self.left);
    }

    /// The pids whose end is waited for.
    fn waits_for(&self) -> impl Iterator<Item = u32> {
        let watchdog = self.process.watchdog().filter(|_| self.sent == Sent::Sweep);
        self.left.iter().map(|entry| entry.id.pid).chain(watchdog)
    }
}

/// One look for all servers, if any needs it.
#[derive(Debug)]
struct Looks {
    /// Before the look, which may take seconds on a busy machine: who is seen may be gone since, and is
    /// not given up for the time that the look took.
    begun: Instant,
    look: OnceCell<io::Result<Look>>,
}

impl Looks {
    fn new() -> Looks {
        Looks { begun: Instant::now(), look: OnceCell::new() }
    }

    fn get(&self) -> Result<&Look, &io::Error> {
        self.look.get_or_init(Look::now).as_ref()
    }
}

/// Ends all of them at the same time, and says of each, in their order, how it went.
pub(super) fn end_all(servers: Vec<Stopping>) -> Vec<Result<Gone, Left>> {
    let mut servers: Vec<_> = servers.into_iter().map(|server| (server, None)).collect();
    loop {
        // Before the look, which is made when the first one needs it.
        for (server, _) in &mut servers {
            server.process.end();
        }
        let looks = Looks::new();
        let mut pause = None;
        let mut waits_for = Vec::new();
        for (server, outcome) in servers.iter_mut().filter(|(_, outcome)| outcome.is_none()) {
            match server.step(&looks) {
                Progress::Done(done) => *outcome = Some(done),
                Progress::Wait(time) => {
                    pause = Some(pause.map_or(time, |pause: Duration| pause.min(time)));
                    waits_for.extend(server.waits_for());
                }
            }
        }
        match pause {
            Some(pause) if waits_for.is_empty() => thread::sleep(pause),
            Some(pause) => sys::wait_for_exit(&waits_for, pause),
            None => return servers.into_iter().filter_map(|(_, outcome)| outcome).collect(),
        }
    }
}

#[cfg(test)]
#[cfg(unix)] // `sleep`
mod tests {
    use std::path::Path;

    use super::*;
    use crate::sys::Watchdog;

    fn stopping(watchdog: Option<Watchdog>) -> Stopping {
        let (process, dir) = (Process::sleeping(watchdog), Arc::new(Dir::new()));
        Stopping::new(process, Output::new(), dir, Signal::Terminate, Duration::ZERO)
    }

    fn long_ago() -> Instant {
        Instant::now().checked_sub(stop::KILL_BOUND * 2).expect("a machine that runs for longer")
    }

    #[test]
    fn nobody_is_given_up_for_the_time_that_a_look_took() {
        let mut stopping = stopping(None);
        let killed = stopping.step(&Looks::new());
        assert!(matches!(killed, Progress::Wait(_)));
        assert_eq!(stopping.sent, Sent::Kill);
        stopping.sent_at = long_ago();
        let long = Looks { begun: stopping.sent_at, ..Looks::new() };
        assert!(matches!(stopping.step(&long), Progress::Wait(_)));
        let left = stopping.step(&Looks::new());
        assert!(matches!(left, Progress::Done(Err(_))));
    }

    #[test]
    fn who_is_left_and_waited_for() {
        let watchdog = Watchdog::spawn(Vec::new(), Duration::ZERO, Path::new(""));
        let mut stopping = stopping(watchdog.expect("spawn"));
        let (child, watchdog) = (stopping.process.pid(), stopping.process.watchdog());
        let waited_for = |stopping: &Stopping| stopping.waits_for().collect::<Vec<_>>();
        assert_eq!((stopping.rest(), waited_for(&stopping)), (Rest::Nobody, vec![]));
        let _ = stopping.step(&Looks::new());
        assert_eq!((stopping.sent, stopping.rest()), (Sent::Kill, Rest::Some));
        assert_eq!(waited_for(&stopping), [child]);
        stopping.first_killed.clear();
        assert_eq!(stopping.rest(), Rest::Renewed, "forked since the killing began");
        stopping.sent = Sent::Terminate;
        assert_eq!(stopping.rest(), Rest::Some, "nobody was killed yet");
        stopping.sent = Sent::Sweep;
        let both: Vec<_> = [child].into_iter().chain(watchdog).collect();
        assert_eq!(waited_for(&stopping), both);
    }

    /// Who is left is left to the watchdog, and the lock with it, unless it was swept away too.
    #[test]
    fn who_is_given_up_is_watched_by_a_watchdog_that_lives() {
        let watchdog =
            || Watchdog::spawn(Vec::new(), Duration::ZERO, Path::new("")).expect("spawn");
        let given_up = |watchdog, sent| {
            let mut stopping = stopping(watchdog);
            let _ = stopping.step(&Looks::new());
            if sent == Sent::Sweep {
                stopping.process.sweep();
            }
            (stopping.sent, stopping.sent_at) = (sent, long_ago());
            let Progress::Done(Err(left)) = stopping.step(&Looks::new()) else {
                panic!("it was not given up")
            };
            left.watched
        };
        assert!(given_up(watchdog(), Sent::Kill));
        assert!(!given_up(None, Sent::Kill));
        assert!(!given_up(watchdog(), Sent::Sweep));
    }
}
