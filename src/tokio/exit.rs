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
