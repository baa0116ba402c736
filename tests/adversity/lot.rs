//! What a process of the campaign has to live with.

use std::path::Path;
use std::process::Command;

use crate::kinds::Amiss;
use crate::support::child_command;
use crate::support::dice::Dice;
use crate::world::{Tools, World};

/// What a process has to live with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lot {
    Usual,
    /// So many descriptors.
    Few(u64),
    /// A clock that is so many seconds ahead of the others, from its first moment on: it never jumps while the
    /// process lives, for which one would have to set the clock of the whole machine.
    Elsewhen(u64),
    /// A system call that fails, the so-and-so-manieth time.
    Failing(&'static str, &'static str, u64),
}

/// What may be made to fail in a process that has begun.
const FAILURES: [(&str, &str); 22] = [
    ("openat", "EMFILE"),
    ("openat", "ENOENT"),
    ("openat", "EACCES"),
    ("socket", "EMFILE"),
    ("bind", "ENOMEM"),
    ("bind", "EACCES"),
    ("setsockopt", "ENOMEM"),
    ("flock", "ENOLCK"),
    ("flock", "EAGAIN"),
    ("flock", "EINTR"),
    ("statx", "EACCES"),
    ("fstat", "EIO"),
    ("pread64", "EIO"),
    ("pwrite64", "ENOSPC"),
    ("read", "EIO"),
    ("write", "EIO"),
    ("clone3", "EAGAIN"),
    ("wait4", "ECHILD"),
    ("kill", "EPERM"),
    ("pidfd_open", "EMFILE"),
    ("ppoll", "EINTR"),
    ("unlinkat", "EBUSY"),
];

impl Lot {
    /// The more is amiss already, the less is added.
    pub(crate) fn drawn(dice: &mut Dice, world: &World, tools: &Tools) -> Lot {
        match dice.below(10) {
            0 | 1 if tools.clocks => Lot::Elsewhen(dice.below(2_000_000)),
            2 if world.is_harsh() => Lot::Few(6 + dice.below(40)),
            3 | 4 if world.is_harsh() && tools.strace => {
                let &(call, error) = dice.one_of(&FAILURES);
                // Most calls are made some times, some very often.
                let times = 2 << dice.below(7);
                Lot::Failing(call, error, 1 + dice.below(times))
            }
            _ => Lot::Usual,
        }
    }

    pub(crate) fn command(self, role: &[&str], log: &Path) -> Command {
        let before: Vec<String> = match self {
            Lot::Usual => return child_command(role),
            Lot::Few(count) => vec!["prlimit".into(), format!("--nofile={count}:{count}")],
            Lot::Elsewhen(seconds) => vec![
                "unshare".into(),
                "--time".into(),
                "--fork".into(),
                "--kill-child".into(),
                format!("--monotonic={seconds}"),
                format!("--boottime={seconds}"),
            ],
            Lot::Failing(call, error, nth) => vec![
                "strace".into(),
                "-qq".into(),
                format!("-o{}", log.display()),
                format!("-etrace=?{call}"),
                format!("-einject=?{call}:error={error}:when={nth}"),
            ],
        };
        let child = child_command(role);
        let mut command = Command::new(&before[0]);
        command.args(&before[1..]).arg(child.get_program()).args(child.get_args());
        command
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Lot::Usual => "processes",
            Lot::Few(_) => "processes with few descriptors",
            Lot::Elsewhen(_) => "processes with another clock",
            Lot::Failing(..) => "processes with a failing system call",
        }
    }

    /// Whether any of its calls may fail.
    pub(crate) fn lacks_something(self) -> bool {
        matches!(self, Lot::Few(_) | Lot::Failing(..))
    }

    pub(crate) fn amiss(self, world: &World) -> Amiss {
        match world.amiss() {
            Amiss::Nothing | Amiss::Directory if self.lacks_something() => Amiss::Anything,
            amiss => amiss,
        }
    }
}
