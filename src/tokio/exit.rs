//! The end of a process, waited for on a thread that somebody awaits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::sys;

/// How soon it is noticed that nobody waits any more.
const SLICE: Duration = Duration::from_millis(50);

/// Waits until a process may have ended, or nobody waits any more.
pub(super) fn wait_for_exit(pid: u32, at_most: Duration, called_off: &AtomicBool) {
    let start = Instant::now();
    while !called_off.load(Ordering::Relaxed) {
        let slice_start = Instant::now();
        let left = at_most.saturating_sub(start.elapsed());
        sys::wait_for_exit(&[pid], left.min(SLICE));
        // If it was shorter, there is something to be seen.
        if slice_start.elapsed() < SLICE || left <= SLICE {
            break;
        }
    }
}

#[cfg(test)]
#[cfg(unix)] // `true` and `sleep`
mod tests {
    use std::process::Command;
    use std::sync::{Arc, mpsc};
    use std::thread;

    use super::*;

    /// Not when the time is up, which is longer than any test may take.
    #[test]
    fn a_wait_is_over_with_the_process_or_when_nobody_waits() {
        for (program, called_off) in [("true", false), ("sleep", true)] {
            let mut child = Command::new(program).arg("1000").spawn().expect("coreutils");
            let (over, is_over) = mpsc::channel();
            let (pid, flag) = (child.id(), Arc::new(AtomicBool::new(false)));
            let shared = Arc::clone(&flag);
            thread::spawn(move || {
                wait_for_exit(pid, Duration::from_secs(10_000), &shared);
                over.send(())
            });
            flag.store(called_off, Ordering::Relaxed);
            let waited = is_over.recv_timeout(Duration::from_secs(60));
            let _ = child.kill(); // before a failure, which leaves no process either
            child.wait().expect("its end");
            waited.expect("the wait's end");
        }
    }
}
