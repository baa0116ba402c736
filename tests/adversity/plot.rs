//! What is done to a process while it does its own: it is stopped for a while, and killed.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::DEADLINE;
use crate::support::dice::Dice;
use crate::tally::Tally;

/// How long a process may say nothing: some of what it does has deadlines of its own.
const FOR_EVER: Duration = DEADLINE.saturating_mul(5);

/// A process that may be sent signals.
pub(crate) struct Victim {
    pub(crate) pid: u32,
    doomed: AtomicBool,
    /// Its number is still its own.
    lives: Mutex<bool>,
}

impl Victim {
    pub(crate) fn new(pid: u32) -> Victim {
        Victim { pid, doomed: AtomicBool::new(false), lives: Mutex::new(true) }
    }

    /// Whether it was killed, or will be the next moment. To be asked after what it may explain.
    pub(crate) fn is_doomed(&self) -> bool {
        self.doomed.load(Ordering::SeqCst)
    }

    pub(crate) fn kill(&self) {
        self.doomed.store(true, Ordering::SeqCst);
        self.signal("KILL");
    }

    /// It may be gone before it is reaped here: `strace` reaps it.
    fn signal(&self, name: &str) {
        let lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        if *lives {
            self.send(name);
        }
    }

    fn send(&self, name: &str) {
        let mut kill = Command::new("kill");
        kill.args(["-s", name, &self.pid.to_string()]).stderr(Stdio::null());
        kill.status().unwrap();
    }

    /// Does `f` while it is stopped; though two who stop it do not know of each other.
    pub(crate) fn while_stopped<T>(&self, f: impl FnOnce() -> T) -> T {
        self.signal("STOP");
        let result = f();
        // In any case: it may have been stopped after its last word. This signal hurts nobody else.
        self.send("CONT");
        result
    }

    /// Before it is reaped.
    pub(crate) fn is_gone(&self) {
        *self.lives.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }
}

/// When what is done, from the begin of the process on.
pub(crate) struct Plot {
    /// Until when, and for how long.
    stops: Vec<(Duration, Duration)>,
    kill: Option<Duration>,
}

impl Plot {
    /// `may_kill`: at any moment.
    pub(crate) fn drawn(dice: &mut Dice, may_kill: bool) -> Plot {
        let count = if dice.one_in(4) { 1 + dice.below(3) } else { 0 };
        let mut stop = || (dice.millis(300), Duration::from_millis(10) + dice.millis(490));
        let mut stops: Vec<_> = (0..count).map(|_| stop()).collect();
        stops.sort_unstable();
        let kill = (may_kill && dice.one_in(3)).then(|| dice.millis(300));
        Plot { stops, kill }
    }

    /// Does it until the other end of `heard` is gone. `heard`: the process has said something.
    pub(crate) fn carry_out(self, victim: &Victim, heard: &Receiver<()>, tally: &Tally) {
        let start = Instant::now();
        let mut stops = self.stops.into_iter().peekable();
        let mut last = start;
        loop {
            let kill = self.kill.filter(|_| !victim.is_doomed());
            let stop = stops.peek().map(|&(at, _)| at);
            let next = [stop, kill].into_iter().flatten().min().map(|at| start + at);
            let next = next.unwrap_or(last + FOR_EVER);
            match heard.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(()) => last = Instant::now(),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) if last.elapsed() >= FOR_EVER => {
                    victim.signal("KILL"); // not doomed: this is a failure
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {
                    match stops.next_if(|&(at, _)| start + at <= next) {
                        Some((_, pause)) => {
                            victim.while_stopped(|| thread::sleep(pause));
                            tally.count("SIGSTOP, and SIGCONT after 10 to 500 ms");
                        }
                        None => {
                            victim.kill();
                            tally.count("SIGKILL at any moment");
                        }
                    }
                }
            }
        }
    }
}
