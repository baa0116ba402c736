//! One lock file = one port.
//!
//! Whoever has the file's lock has the port. The file is empty, and means nothing without a lock. It
//! is never unlinked: a process that had the old file open and one that creates the new file would
//! both get "the" lock (reproduced: two live holders).

use std::fs::{self, File};
use std::io;
use std::mem;
use std::path::Path;
use std::process;

use super::lock;
use crate::sys;

/// How often a slot is opened again because the path no longer names the file that was locked.
const MAX_REOPENS: usize = 16;

/// A slot whose lock is ours. Dropping it unlocks, without a trace.
#[derive(Debug)]
pub(crate) struct Slot {
    file: File,
    /// An unlock frees the lock for every copy of the descriptor: a forked child that drops its
    /// copy must not free its parent's port.
    locked_by: u32,
}

impl Slot {
    /// Takes the slot at `path`, creating it if it is not there. `None`: somebody has it.
    pub(crate) fn try_lock(path: &Path) -> io::Result<Option<Slot>> {
        for _ in 0..MAX_REOPENS {
            let file = sys::open_private(path)?;
            if !lock::try_exclusive(&file)? {
                return Ok(None);
            }
            let slot = Slot { file, locked_by: process::id() };
            sys::keep_from_cleaners(&slot.file);
            // Cheaper than to look at the path again (1.6 us), which a moment ago named it.
            if !sys::is_unlinked(&slot.regular()?) {
                return Ok(Some(slot));
            }
        }
        Err(replaced_again())
    }

    /// Waits for the slot at `path`, for as long as it takes: blocked in `flock`. `None`: it `is_awaited` no
    /// more, and was not made anew, since who gave up may be removing the directory.
    pub(super) fn wait_lock(
        path: &Path,
        is_awaited: impl Fn() -> bool,
    ) -> io::Result<Option<Slot>> {
        for _ in 0..MAX_REOPENS {
            if !is_awaited() {
                return Ok(None);
            }
            let file = sys::open_private(path)?;
            lock::wait_exclusive(&file)?;
            let slot = Slot { file, locked_by: process::id() };
            // By now, the whole directory may be another one.
            let locked = slot.regular()?;
            if fs::symlink_metadata(path).is_ok_and(|named| sys::same_file(&locked, &named)) {
                sys::keep_from_cleaners(&slot.file);
                return Ok(Some(slot));
            }
        }
        Err(replaced_again())
    }

    /// What is locked, if it is a regular file.
    fn regular(&self) -> io::Result<fs::Metadata> {
        let metadata = self.file.metadata()?;
        if metadata.is_file() {
            Ok(metadata)
        } else {
            let message = "something that is not a regular file is in the slot's place";
            Err(io::Error::other(message))
        }
    }

    /// Unlocks, **explicitly**, and closes.
    ///
    /// Closing alone would not do: a sibling thread in the middle of a spawn has copies of all our
    /// descriptors until its child execs, and the lock lives on in the copy (measured with four
    /// spawning threads: 61 of 21 378 re-locks failed after a plain close, 0 after an unlock).
    pub(crate) fn unlock(mut self) -> io::Result<()> {
        self.unlock_once()
    }

    fn unlock_once(&mut self) -> io::Result<()> {
        match mem::take(&mut self.locked_by) == process::id() {
            true => lock::unlock(&self.file),
            false => Ok(()),
        }
    }

    /// Whether this process took the lock: not so in a child that was forked since.
    pub(crate) fn is_ours(&self) -> bool {
        self.locked_by == process::id()
    }

    /// A copy of the descriptor, and with it of the lock, for the watchdog of a server.
    pub(crate) fn share(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Closes without unlocking: whoever else has a copy keeps the port.
    pub(crate) fn leave(mut self) {
        self.locked_by = 0; // nobody's pid: `drop` will only close
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let _ = self.unlock_once();
    }
}

/// Not to be had on purpose: each time somebody has to be between two calls of this process.
fn replaced_again() -> io::Error {
    io::Error::other("the slot is replaced again and again while it is being locked")
}

/// Whether somebody has the slot at `path`.
///
/// Looks through a shared lock, for a microsecond: who wants the port just then sees it taken, and
/// tries again (see `lease::acquire`).
pub(crate) fn is_locked(path: &Path) -> io::Result<bool> {
    let file = sys::open_private(path)?;
    let free = lock::try_shared(&file)?;
    if free {
        lock::unlock(&file)?;
    }
    Ok(!free)
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::patience::eventually;

    /// A path for a slot in a directory of its own.
    pub(in crate::registry) fn temp_slot() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("no temporary directory");
        let path = dir.path().join("20000");
        (dir, path)
    }

    fn lock(path: &Path) -> Option<Slot> {
        Slot::try_lock(path).expect("the slot cannot be used")
    }

    #[test]
    fn one_holder_at_a_time() {
        let (_dir, path) = temp_slot();
        let slot = lock(&path);
        assert!(slot.is_some() && lock(&path).is_none());
        drop(slot);
        assert!(lock(&path).is_some());
    }

    #[cfg(windows)]
    #[test]
    fn a_file_that_is_open_stays_where_it_is() {
        let (dir, path) = temp_slot();
        let _slot = lock(&path).expect("the slot is free");
        fs::remove_file(&path).expect_err("removed");
        fs::rename(&path, dir.path().join("moved")).expect_err("moved");
        assert!(lock(&path).is_none());
    }

    #[cfg(unix)] // on Windows, it cannot be replaced
    #[test]
    fn a_replaced_file_is_locked_anew() {
        let (_dir, path) = temp_slot();
        let old = lock(&path).expect("the slot is free");
        fs::remove_file(&path).expect("remove");
        let new = lock(&path).expect("a new slot is free");
        assert!(sys::is_unlinked(&old.regular().expect("look")));
        assert!(!sys::is_unlinked(&new.regular().expect("look")));
        assert!(lock(&path).is_none());
    }

    /// The file is replaced while somebody waits for it: he gets the new one.
    #[cfg(unix)]
    #[test]
    fn who_waits_gets_the_file_that_is_there_then() {
        let (dir, path) = temp_slot();
        let old = lock(&path).expect("the slot is free");
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| Slot::wait_lock(&path, || true).expect("wait"));
            std::thread::sleep(std::time::Duration::from_millis(20)); // not needed, but then he waits indeed
            fs::rename(&path, dir.path().join("moved")).expect("rename");
            drop(old);
            let new = waiter.join().expect("no panic");
            assert!(new.is_some());
            assert!(lock(&path).is_none());
        });
    }

    /// Who gave up removes the directory: what is gone is not made anew for nobody.
    #[test]
    fn what_nobody_waits_for_is_not_made() {
        let (_dir, path) = temp_slot();
        assert!(Slot::wait_lock(&path, || false).expect("wait").is_none());
        assert!(!path.exists());
    }

    #[cfg(unix)] // on Windows, it cannot be removed
    #[test]
    fn what_nobody_waits_for_any_more_is_not_made_anew() {
        use std::sync::atomic::{AtomicBool, Ordering};

        // Who comes to the file just when it is removed makes it: then once more.
        eventually(|| {
            let (_dir, path) = temp_slot();
            let old = lock(&path).expect("the slot is free");
            let is_awaited = AtomicBool::new(true);
            let waited = std::thread::scope(|scope| {
                let waiter = scope.spawn(|| {
                    Slot::wait_lock(&path, || is_awaited.load(Ordering::Relaxed)).expect("wait")
                });
                std::thread::sleep(std::time::Duration::from_millis(20)); // so that he waits
                is_awaited.store(false, Ordering::Relaxed);
                fs::remove_file(&path).expect("remove");
                drop(old);
                waiter.join().expect("no panic")
            });
            if waited.is_none() && !path.exists() { Ok(()) } else { Err("it was made anew") }
        });
    }

    #[test]
    fn a_lock_that_is_shared_outlives_leave_but_not_unlock() {
        let (_dir, path) = temp_slot();
        let slot = lock(&path).expect("the slot is free");
        let copy = slot.share().expect("dup");
        slot.leave();
        assert!(lock(&path).is_none(), "the copy keeps the lock");
        drop(copy);
        let slot = eventually(|| lock(&path).ok_or("it is locked"));
        let _copy = slot.share().expect("dup");
        slot.unlock().expect("unlock");
        let slot = lock(&path).expect("an unlock is for every copy");
        let _copy = slot.share().expect("dup");
        drop(slot);
        assert!(lock(&path).is_some(), "and so is a drop");
    }

    /// As in a child that was forked while its parent had the slot.
    #[test]
    fn only_who_locked_it_unlocks_it() {
        let (_dir, path) = temp_slot();
        let parents = lock(&path).expect("the slot is free");
        let forked = Slot { file: parents.share().expect("dup"), locked_by: process::id() + 1 };
        assert!(!forked.is_ours());
        drop(forked);
        assert!(lock(&path).is_none());
        let forked = Slot { file: parents.share().expect("dup"), locked_by: process::id() + 1 };
        forked.unlock().expect("nothing to do");
        assert!(lock(&path).is_none());
    }

    #[test]
    fn a_look_sees_the_lock_and_keeps_none() {
        let (_dir, path) = temp_slot();
        let slot = lock(&path).expect("the slot is free");
        assert!(is_locked(&path).expect("look"));
        drop(slot);
        assert!(!is_locked(&path).expect("look"));
        assert!(lock(&path).is_some());
    }

    #[cfg(unix)] // by what Unix has of these
    #[test]
    fn what_is_no_regular_file_is_refused() {
        let (dir, path) = temp_slot();
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &path).expect("symlink");
        assert!(Slot::try_lock(&path).is_err());
        assert!(!dir.path().join("elsewhere").exists(), "the link was followed");
        fs::remove_file(&path).expect("remove");
        let made = process::Command::new("mkfifo").arg(&path).status().expect("mkfifo");
        assert!(made.success());
        assert!(Slot::try_lock(&path).is_err(), "a FIFO");
        fs::remove_file(&path).expect("remove");
        fs::create_dir(&path).expect("mkdir");
        assert!(Slot::try_lock(&path).is_err(), "a directory");
    }
}
