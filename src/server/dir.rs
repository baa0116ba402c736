//! A directory that lives as long as its server: for its configuration, its data, its sockets.

use std::env;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{self, Component, Path, PathBuf};
use std::process;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::sys::{self, Watchdog};

/// Made when it is first asked for. Its name is known before, to the watchdog too, which removes it
/// if this process is killed.
#[derive(Debug)]
pub(super) struct Dir {
    path: PathBuf,
    state: Mutex<State>,
    /// A child that was forked from this process must not remove it.
    made_by: u32,
}

#[derive(Debug, Default)]
struct State {
    is_made: bool,
    /// The server is not started again.
    is_over: bool,
    /// What failed first. Who asks for the path is a closure that returns a command, so the start
    /// says it.
    problem: Option<Error>,
    /// Removes it if this process is killed between two starts.
    keeper: Option<Watchdog>,
}

impl Dir {
    pub(super) fn new() -> Dir {
        Dir::within(&env::temp_dir())
    }

    fn within(temp: &Path) -> Dir {
        let made_by = process::id();
        let random = RandomState::new().hash_one(made_by);
        // The watchdog works in another directory. None is absolute if it is empty: `TMPDIR=`.
        let temp = path::absolute(temp).unwrap_or_else(|_| PathBuf::from("/tmp"));
        // Short, since a socket's path has room for a hundred bytes.
        let path = temp.join(format!("portlease.{random:016x}"));
        Dir { path, state: Mutex::default(), made_by }
    }

    /// Where it is, or will be.
    pub(super) fn name(&self) -> &Path {
        &self.path
    }

    /// Whether it was made, and is this process's to remove.
    #[cfg(feature = "tokio")]
    pub(super) fn is_there(&self) -> bool {
        self.made_by == process::id() && self.state().is_made
    }

    /// Makes it, if it is not there yet.
    pub(super) fn path(&self) -> &Path {
        let mut state = self.state();
        if !state.is_made && !state.is_over {
            let made = sys::create_private_dir(&self.path);
            state.is_made = made.is_ok();
            state.note("create the server's directory", &self.path, made);
        }
        &self.path
    }

    /// Writes a file in it.
    pub(super) fn write(&self, name: &Path, contents: &[u8]) -> PathBuf {
        let file = self.path().join(name);
        let written = match file.parent() {
            _ if self.state().is_over => Err(io::Error::other("its server is gone")),
            // What is made here all the same, nobody would remove.
            _ if !self.state().is_made => return file,
            Some(parent) if self.has_inside(name) => {
                fs::create_dir_all(parent).and_then(|()| fs::write(&file, contents))
            }
            _ => Err(io::Error::other("its name must lead to a file in the server's directory")),
        };
        self.state().note("write the server's file", &file, written);
        file
    }

    /// Removes a file of it, which need not be there.
    pub(super) fn forget(&self, name: &Path) {
        if self.has_inside(name) {
            let _ = fs::remove_file(self.path.join(name));
        }
    }

    /// Whether a name leads to something in it.
    fn has_inside(&self, name: &Path) -> bool {
        let name = name.strip_prefix(&self.path).unwrap_or(name);
        name.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
    }

    /// # Errors
    ///
    /// What failed first since this was asked last.
    pub(super) fn problem(&self) -> Result<()> {
        self.state().problem.take().map_or(Ok(()), Err)
    }

    /// The server is not started again: from now on it is not made any more.
    pub(super) fn end(&self) {
        self.state().is_over = true;
    }

    /// The server's watchdog is there: it removes the directory from now on, if this process is killed.
    pub(super) fn is_watched(&self) {
        Watchdog::dismiss(self.state().keeper.take());
    }

    /// The server's watchdog goes. Removes the directory with all that is in it; if the server may be
    /// started again, another watchdog keeps it until then.
    pub(super) fn remove(&self) {
        let mut state = self.state();
        if self.made_by != process::id() {
            return;
        }
        if !state.is_over {
            if state.is_made && state.keeper.is_none() {
                let keeper = Watchdog::spawn(Vec::new(), Duration::ZERO, &self.path);
                state.keeper = keeper.ok().flatten(); // else it stays, as that of a crash
            }
            return;
        }
        if state.is_made {
            // What may fail: files of another user, which stay, as they would without us; and one that is made just
            // now, by somebody whom nobody could see. The `Server` tries again when he has been killed.
            let fails = || fs::remove_dir_all(&self.path).is_err();
            state.is_made = fails() && {
                open_all(&self.path);
                fails()
            };
        }
        Watchdog::dismiss(state.keeper.take());
    }

    /// Leaves it to the watchdog.
    pub(super) fn leave(&self) {
        self.state().is_made = false;
        self.end();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn note(&mut self, doing: &str, path: &Path, done: io::Result<()>) {
        if let Err(error) = done {
            let doing = format!("{doing} {}", path.display());
            self.problem.get_or_insert_with(|| Error::io(ErrorKind::Io, doing, error));
        }
    }
}

/// Makes directories writable, whose files could not be removed: Go keeps its modules in such ones. No
/// link is followed.
fn open_all(dir: &Path) {
    sys::make_removable(dir);
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_all(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For root, it always was.
    #[cfg(unix)] // where a directory can be read-only, and a watchdog removes it
    #[test]
    fn what_is_read_only_is_removed() {
        use std::fs::Permissions;
        use std::os::unix::fs::PermissionsExt;

        let remove = |dir: &Dir| dir.remove();
        let watched = |dir: &Dir| {
            let watchdog = Watchdog::spawn(Vec::new(), Duration::ZERO, dir.name());
            let watchdog = watchdog.expect("spawn").expect("a shell");
            let pid = watchdog.pid().expect("a pid");
            drop(watchdog);
            sys::wait_for_exit(&[pid], Duration::from_secs(60));
        };
        for removed in [remove, watched] {
            let dir = Dir::new();
            let file = dir.write(Path::new("mod/cache/a.go"), b"a");
            for inner in file.ancestors().skip(1).take(2) {
                fs::set_permissions(inner, Permissions::from_mode(0o500)).expect("chmod");
            }
            dir.end();
            removed(&dir);
            assert!(!dir.path().exists());
        }
    }

    #[test]
    fn it_is_there_from_the_first_question_to_its_removal() {
        let dir = Dir::new();
        assert!(!dir.name().exists());
        let file = dir.write(Path::new("./etc/a.conf"), b"");
        assert_eq!(dir.write(&file, b"a"), file, "by its whole name, too");
        assert_eq!(file, dir.path().join("etc/a.conf"));
        assert_eq!(fs::read(&file).expect("a file"), b"a");
        dir.problem().expect("no problem");
        dir.remove();
        assert!(file.exists(), "the server may be started again");
        dir.end();
        dir.remove();
        assert!(!dir.path().exists(), "it is over");
        dir.write(Path::new("etc/a.conf"), b"a");
        assert!(!dir.path().exists(), "nobody would remove it");
    }

    #[cfg(unix)] // by the names of directories
    #[test]
    fn its_name_is_absolute() {
        for (temp, expected) in [("/a", "/a"), ("", "/tmp")] {
            let dir = Dir::within(Path::new(temp));
            assert_eq!(dir.name().parent(), Some(Path::new(expected)), "{temp:?}");
        }
        assert!(Dir::within(Path::new("a")).name().is_absolute());
    }

    /// With its parents, which are nobody's to make, and for all to read.
    #[test]
    fn where_it_cannot_be_made_no_file_makes_it() {
        let temp = tempfile::tempdir().expect("a directory");
        let missing = temp.path().join("missing");
        let dir = Dir::within(&missing);
        dir.write(Path::new("etc/a.conf"), b"a");
        assert!(!missing.exists());
        let error = dir.problem().expect_err("a problem");
        assert!(error.to_string().starts_with("failed to create the server's"), "{error}");
    }

    #[test]
    fn a_file_elsewhere_is_refused() {
        for name in ["/portlease-elsewhere/x", "../portlease-elsewhere", "a/../../b"] {
            let dir = Dir::new();
            let path = dir.write(Path::new(name), b"a");
            assert!(!path.is_file());
            let error = dir.problem().expect_err("a problem");
            assert!(format!("{error:?}").contains("must lead to a file in the"), "{error:?}");
            dir.problem().expect("said once");
            dir.end();
            dir.remove();
        }
    }

    #[test]
    fn what_is_left_to_the_watchdog_stays() {
        let dir = Dir::new();
        let path = dir.path().to_owned();
        dir.leave();
        dir.end();
        dir.remove();
        assert!(path.exists());
        fs::remove_dir(path).expect("remove");
    }
}
