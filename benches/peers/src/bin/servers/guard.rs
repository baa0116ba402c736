//! Ends the servers that would outlive this program if it is killed: Redis knows nothing of who started it, and of
//! its contestants only ours has a watchdog.
//!
//! The guard is a process, which is told of each of them. Once its input ends, and so this program has, it kills
//! whoever is still there; by number and start time, so that a number that was reused hurts nobody.

use std::fs;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use portlease_peers::crew;

/// Lets go of it, it ends with its input.
#[derive(Debug)]
pub(crate) struct Guard(Child);

impl Guard {
    pub(crate) fn start() -> Guard {
        // In a group of its own, so that Ctrl-C does not end it with those whom it guards.
        let mut command = crew::role(&["guard"]);
        Guard(command.stdin(Stdio::piped()).process_group(0).spawn().expect("spawn"))
    }

    /// Spawns one that is guarded.
    pub(crate) fn spawn(&self, command: &mut Command) -> Child {
        let child = command.spawn().expect("spawn");
        self.watch(child.id());
        child
    }

    /// Guards a child that was not waited for yet.
    pub(crate) fn watch(&self, pid: u32) {
        let start = start_of(pid).expect("a process");
        let mut input = self.0.stdin.as_ref().expect("a pipe");
        input.write_all(format!("{pid} {start}\n").as_bytes()).expect("a guard");
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// The role of the guard.
pub(crate) fn run() {
    let guarded: Vec<String> = io::stdin().lines().map_while(Result::ok).collect();
    for (pid, start) in guarded.iter().filter_map(|line| line.split_once(' ')) {
        let pid = pid.parse().expect("a number");
        if start_of(pid).is_some_and(|now| now == start) {
            let _ = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
        }
    }
}

/// In ticks since the machine was started; `None`: there is no such process.
fn start_of(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the program's name, which ends at the last parenthesis; see proc_pid_stat(5).
    stat.rsplit(')').next()?.split_whitespace().nth(19).map(str::to_owned)
}
