//! Waiting in line for a slot, with a deadline.
//!
//! `registry::queue` keeps the line, blocked in `flock`. (Polling starves: of 16 processes that each
//! wanted one port for 20 ms, the unluckiest waited 3.1 s with polls, 3.8 s with backoff, and 0.45 s
//! in `flock`; fair would be 0.32.)
//!
//! But a blocked `flock` has no deadline and cannot be called off. So a helper thread blocks on a
//! descriptor of its own, and its callers wait on channels. There is one thread for each port that
//! this process waits for, however many callers come and give up; granted too late, it unlocks at
//! once, or serves the next caller.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Instant;

use crate::registry::queue;
use crate::registry::slot::Slot;

type Granted = io::Result<Slot>;

/// One who waits. Its channel cannot tell whether he still does; the other half of `present` can.
struct Caller {
    grant: Sender<Granted>,
    present: Weak<()>,
}

impl Caller {
    fn is_present(&self) -> bool {
        self.present.strong_count() > 0
    }
}

/// By process as well: a forked child has a copy of the map, and none of the threads.
type Lines = HashMap<(u32, PathBuf), VecDeque<Caller>>;

/// The callers that wait for the slot at a path. An entry exists while its thread does.
static LINES: LazyLock<Mutex<Lines>> = LazyLock::new(Mutex::default);

/// Waits for the slot at `path` until `deadline`. `None`: it was not free in time.
pub(super) fn wait(path: &Path, deadline: Instant) -> io::Result<Option<Slot>> {
    if let Some(slot) = queue::try_lock(path)? {
        return Ok(Some(slot)); // nobody has it, and nobody waits
    }
    let (grant, granted) = mpsc::channel();
    let present = Arc::new(());
    let caller = Caller { grant, present: Arc::downgrade(&present) };
    let mut lines = lines();
    let key = (process::id(), path.to_owned());
    match lines.get_mut(&key) {
        Some(line) => {
            line.retain(Caller::is_present);
            line.push_back(caller);
        }
        None => {
            let served = key.clone();
            thread::Builder::new()
                .name("portlease-line".to_owned())
                .spawn(move || while serve(&served) {})?;
            lines.insert(key, VecDeque::from([caller]));
        }
    }
    drop(lines);
    let left = deadline.saturating_duration_since(Instant::now());
    // Dropping the receiver leaves the line: a slot that nobody receives is unlocked.
    granted.recv_timeout(left).ok().transpose()
}

/// Gets the slot for the first caller who is still there. Whether more are waiting.
fn serve(key: &(u32, PathBuf)) -> bool {
    let is_awaited = || lines().get(key).is_some_and(|line| line.iter().any(Caller::is_present));
    let granted = queue::wait_lock(&key.1, is_awaited);
    let mut lines = lines();
    let Some(line) = lines.get_mut(key) else { return false };
    line.retain(Caller::is_present);
    if let Some(mut granted) = granted.transpose() {
        while let Some(caller) = line.pop_front() {
            match caller.grant.send(granted) {
                Ok(()) => break,
                Err(unsent) => granted = unsent.0, // gave up just now
            }
        }
    } // else it was called off, and who is there now came since: he is served by another wait
    let more = !line.is_empty();
    if !more {
        lines.remove(key);
    }
    more
}

fn lines() -> MutexGuard<'static, Lines> {
    // A panic elsewhere cannot have left the map half-changed.
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[cfg(unix)] // on Windows, a file that is open cannot be removed
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;
    use crate::patience::eventually;

    /// Who gave up removes the directory of his registry, and the thread is still in line.
    #[test]
    fn what_everybody_gave_up_is_not_made_anew() {
        // Who looks whether anybody waits just before that is over makes it all the same: then once more.
        eventually(|| {
            let dir = tempfile::tempdir().expect("a directory");
            let path = dir.path().join("20000");
            let slot = queue::try_lock(&path).expect("try").expect("nobody has it");
            let soon = Instant::now() + Duration::from_millis(20);
            assert!(wait(&path, soon).expect("wait").is_none());
            fs::remove_file(&path).expect("remove");
            drop(slot);
            eventually(|| match lines().contains_key(&(process::id(), path.clone())) {
                true => Err("the thread is there"),
                false => Ok(()),
            });
            if path.exists() { Err("it was made anew") } else { Ok(()) }
        });
    }
}
