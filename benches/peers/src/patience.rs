//! Waits with an end: what goes wrong shall end a program with a word, and not let it hang.

use std::os::fd::AsFd;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How long anything may take that takes a moment, on the busiest machine.
pub const AT_MOST: Duration = Duration::from_secs(60);

/// Tries until there is a result, with a pause after each time.
///
/// # Panics
///
/// If there is none [`AT_MOST`] later: no `what`.
pub fn until<T>(what: &str, pause: Duration, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(result) = attempt() {
            return result;
        }
        assert!(start.elapsed() < AT_MOST, "no {what} within {AT_MOST:?}");
        thread::sleep(pause);
    }
}

/// Waits until `pipe` has something to read, or has come to its end.
///
/// # Panics
///
/// If it has not `at_most` later.
pub fn readable(pipe: &impl AsFd, at_most: Duration) {
    let timeout = PollTimeout::try_from(at_most).expect("a time");
    let ready = poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], timeout);
    assert!(ready.expect("a pipe") > 0, "nothing to read within {at_most:?}");
}

/// Ends this process if it is still there after so long: for the waits that cannot be bounded one by one, for the
/// end of a child for instance, without measuring another wait.
pub fn limit(program: Duration) {
    thread::spawn(move || {
        thread::sleep(program);
        eprintln!("not done within {program:?}");
        process::exit(2);
    });
}

#[cfg(test)]
mod tests {
    use std::io::{Write, pipe};

    use super::*;

    #[test]
    fn tries_until_there_is_a_result() {
        let mut left = 3;
        let attempt = || {
            left -= 1;
            (left == 0).then_some("done")
        };
        assert_eq!(until("result", Duration::ZERO, attempt), "done");
    }

    #[test]
    fn what_was_written_is_readable_and_so_is_the_end() {
        let (reader, mut writer) = pipe().expect("a pipe");
        writer.write_all(b"x").expect("write");
        readable(&reader, AT_MOST);
        let (reader, _) = pipe().expect("a pipe");
        readable(&reader, AT_MOST);
    }
}
