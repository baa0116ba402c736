//! A command that tells whether a server is ready.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::sys::{self, Signal};

/// How long one that was killed may take to end.
const KILLED: Duration = Duration::from_secs(2);

/// Whether a command succeeds.
pub(super) fn run(command: &mut Command, at_most: Duration) -> Result<(), String> {
    let program = command.get_program().to_owned();
    let missing = |why: String| format!("the command {program:?} {why}");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    sys::lead_own_group(command); // to end what it started, too
    let mut child = command.spawn().map_err(|error| missing(format!("does not start: {error}")))?;
    match wait(&mut child, at_most) {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(missing(format!("ended with {status}"))),
        None => {
            // Not reaped yet, its number still means its group.
            let _ = sys::signal_group(child.id(), Signal::Kill);
            wait(&mut child, KILLED);
            Err(missing(format!("has not ended within {:.1} s", at_most.as_secs_f64())))
        }
    }
}

/// Waits at most so long for a command to end; it may be known to have ended a moment before it can be
/// waited for.
fn wait(child: &mut Child, at_most: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + at_most;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match child.try_wait() {
            Ok(None) if left.is_zero() => return None,
            Ok(None) => sys::wait_for_exit(&[child.id()], left),
            Ok(status) => return status,
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn shell(script: &str, at_most: Duration) -> Result<(), String> {
        let (program, argument) = if cfg!(windows) { ("cmd", "/c") } else { ("/bin/sh", "-c") };
        let mut command = Command::new(program);
        command.args([argument, script]);
        run(&mut command, at_most)
    }

    #[test]
    fn commands() {
        assert_eq!(shell("exit 0", LONG), Ok(()));
        let status = if cfg!(windows) { "exit code: 3" } else { "exit status: 3" };
        assert!(shell("exit 3", LONG).is_err_and(|why| why.contains(status)));
        assert!(
            run(&mut Command::new("/no/such"), LONG).is_err_and(|why| why.contains("not start"))
        );
    }

    #[cfg(target_os = "linux")] // where somebody looks whether it is gone
    #[test]
    fn a_command_that_hangs_is_ended_with_what_it_started() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("pid");
        let both = format!("sleep 1000 & echo $! >{}; sleep 1000", file.display());
        let at_most = Duration::from_secs(5);
        assert!(shell(&both, at_most).is_err_and(|why| why.contains("has not ended within 5.0 s")));
        let worker = std::fs::read_to_string(file).expect("a file").trim().parse().expect("a pid");
        sys::wait_for_exit(&[worker], Duration::from_secs(60));
        let state = std::fs::read_to_string(format!("/proc/{worker}/stat")).unwrap_or_default();
        assert!(
            state.is_empty() || state.contains(") Z ") || state.contains(") X "),
            "its worker lives: {state}"
        );
    }
}
