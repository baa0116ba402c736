//! How a server is ended: gracefully, then by force. Pure: a table, and no clock of its own.

use std::time::Duration;

use crate::sys::Signal;

/// How long the kernel gets to end what was killed: a process in an uninterruptible wait, of a disk
/// for instance, takes its time.
pub(super) const KILL_BOUND: Duration = Duration::from_secs(5);

/// How long those are killed one by one who are forked anew all the time.
pub(super) const RENEWED_BOUND: Duration = Duration::from_millis(500);

/// How long at most nobody looks: processes may appear that were not waited for.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What was done last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Nothing,
    Terminate,
    Kill,
    /// To the whole group at once, when nobody was to be seen.
    Sweep,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Everything is gone.
    Done,
    /// Ask it to end.
    Terminate,
    /// End it.
    Kill,
    /// Wait at most so long for somebody to go.
    Wait(Duration),
    /// Nobody is to be seen, or others at each look; and a look takes time, in which one can fork and
    /// end. Kill the group as a whole, which leaves nobody out.
    Sweep,
    /// It will not go.
    GiveUp,
}

/// The signal that asks a program to end, by its file name.
///
/// PostgreSQL waits at SIGTERM for its clients to go (it was still there after 6 s), and ends in
/// 0.1 s at SIGINT. nginx closes all connections at SIGTERM, and finishes them at SIGQUIT.
pub(super) fn usual_signal(program: &str) -> Signal {
    match program {
        "postgres" => Signal::Interrupt,
        "nginx" => Signal::Quit,
        _ => Signal::Terminate,
    }
}

/// Who is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    Nobody,
    /// Nobody who was there when the killing began: they are forked faster than one can look.
    Renewed,
    Some,
}

/// What to do, `since` the last was done, with who is left.
pub(super) fn next(left: Rest, sent: Sent, since: Duration, grace: Duration) -> Step {
    match sent {
        Sent::Sweep if left == Rest::Nobody => Step::Done,
        _ if left == Rest::Nobody => Step::Sweep,
        Sent::Kill if left == Rest::Renewed && since >= RENEWED_BOUND => Step::Sweep,
        Sent::Nothing if grace.is_zero() => Step::Kill,
        Sent::Nothing => Step::Terminate,
        Sent::Terminate if since < grace => Step::Wait(grace - since),
        Sent::Terminate => Step::Kill,
        Sent::Kill | Sent::Sweep if since < KILL_BOUND => Step::Wait(KILL_BOUND - since),
        Sent::Kill | Sent::Sweep => Step::GiveUp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(3);

    fn check(left: bool, sent: Sent, since: u64, expected: Step) {
        let left = if left { Rest::Some } else { Rest::Nobody };
        check_rest(left, sent, since, expected);
    }

    fn check_rest(left: Rest, sent: Sent, since: u64, expected: Step) {
        let step = next(left, sent, Duration::from_secs(since), GRACE);
        assert_eq!(step, expected, "left: {left:?}, {sent:?} {since} s ago");
    }

    #[test]
    fn how_programs_are_asked() {
        let asked = ["postgres", "nginx", "redis-server", ""].map(usual_signal);
        assert_eq!(asked, [Signal::Interrupt, Signal::Quit, Signal::Terminate, Signal::Terminate]);
    }

    #[test]
    fn table() {
        let wait = |seconds| Step::Wait(Duration::from_secs(seconds));
        check(false, Sent::Nothing, 0, Step::Sweep);
        check(false, Sent::Terminate, 9, Step::Sweep);
        check(false, Sent::Kill, 9, Step::Sweep);
        check(false, Sent::Sweep, 0, Step::Done);
        check(true, Sent::Sweep, 0, wait(5));
        check(true, Sent::Sweep, 5, Step::GiveUp);
        check(true, Sent::Nothing, 0, Step::Terminate);
        check(true, Sent::Terminate, 0, wait(3));
        check(true, Sent::Terminate, 2, wait(1));
        check(true, Sent::Terminate, 3, Step::Kill);
        check(true, Sent::Kill, 0, wait(5));
        check(true, Sent::Kill, 4, wait(1));
        check(true, Sent::Kill, 5, Step::GiveUp);
        check_rest(Rest::Renewed, Sent::Terminate, 1, wait(2));
        check_rest(Rest::Renewed, Sent::Kill, 0, wait(5));
        check_rest(Rest::Renewed, Sent::Kill, 1, Step::Sweep);
        check_rest(Rest::Renewed, Sent::Sweep, 5, Step::GiveUp);
        let at_once = next(Rest::Some, Sent::Nothing, Duration::ZERO, Duration::ZERO);
        assert_eq!(at_once, Step::Kill, "without a grace");
    }
}
