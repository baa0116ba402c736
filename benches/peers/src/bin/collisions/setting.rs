//! What else goes on while ports are picked.

use std::fmt;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

/// Other programs' connections; a second CI job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) traffic: bool,
    pub(crate) second_job: bool,
}

/// `nobody`, by the number that it has nearly everywhere.
const ANOTHER_USER: u32 = 65_534;

/// Whether processes of another user can be started: by root, and not in a user namespace of one user.
static MAY_BE_ANOTHER: LazyLock<bool> = LazyLock::new(|| {
    let mut command = Command::new("true");
    command.uid(ANOTHER_USER).gid(ANOTHER_USER).current_dir("/");
    command.status().is_ok_and(|status| status.success())
});

impl Setting {
    pub(crate) fn all() -> [Setting; 4] {
        [(false, false), (true, false), (false, true), (true, true)]
            .map(|(traffic, second_job)| Setting { traffic, second_job })
    }

    /// What this machine does not allow of it.
    pub(crate) fn note(self) -> Option<&'static str> {
        let note = "The second job is of the same user: this process may not start others'.";
        (self.second_job && !*MAY_BE_ANOTHER).then_some(note)
    }
}

/// A CI job: a registry of its own, and for the second one another user.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Job {
    First,
    Second,
}

impl Job {
    /// Lets `command` be one of its processes; its registry is below `dir`.
    pub(crate) fn adopt<'c>(self, command: &'c mut Command, dir: &Path) -> &'c mut Command {
        let registry = dir.join(format!("{self:?}"));
        // Of 0700 below a directory that the other user may look into.
        let _ = std::fs::create_dir(&registry); // by another process of this job
        std::fs::set_permissions(&registry, PermissionsExt::from_mode(0o700)).expect("a mode");
        std::fs::set_permissions(dir, PermissionsExt::from_mode(0o711)).expect("a mode");
        command.env("PORTLEASE_DIR", &registry).current_dir("/");
        if let (Job::Second, true) = (self, *MAY_BE_ANOTHER) {
            chown(&registry, Some(ANOTHER_USER), Some(ANOTHER_USER)).expect("an owner");
            command.uid(ANOTHER_USER).gid(ANOTHER_USER);
        }
        command
    }
}

/// As the end of a sentence.
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.traffic, self.second_job) {
            (false, false) => "nothing beside",
            (true, false) => "connections of other programs beside",
            (false, true) => "half of them in a second CI job",
            (true, true) => "half of them in a second CI job, connections beside",
        })
    }
}
