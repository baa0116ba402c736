//! The processes of a measurement: this very program in other roles.
//!
//! Each hears "go" on its standard input, does its work, and prints what came of it. When that input ends,
//! so does the process: whoever kills the program that started it, by `SIGKILL` too, leaves nobody.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{self, Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::patience;

/// Processes that work at the same time. Dropped, all are ended.
#[derive(Debug, Default)]
pub struct Crew {
    members: Vec<Child>,
}

/// This program in a role.
pub fn role(arguments: &[&str]) -> Command {
    // Not by its path, which another user may not be able to follow.
    let mut command = Command::new("/proc/self/exe");
    command.args(arguments);
    command
}

/// In which role this process was started, and with which arguments; empty for the one that starts others.
pub fn own_role() -> Vec<String> {
    let is_option = |argument: &String| argument.starts_with("--");
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.first().is_none_or(is_option) { Vec::new() } else { arguments }
}

/// Waits for "go"; from then on, the end of the input is the end of the process.
pub fn wait_for_go() {
    let mut line = String::new();
    if !matches!(io::stdin().lock().read_line(&mut line), Ok(1..)) {
        process::exit(3);
    }
    thread::spawn(|| {
        let _ = io::stdin().lock().read_to_end(&mut Vec::new());
        process::exit(3);
    });
}

/// Waits until nobody needs this process any more.
pub fn wait_for_end() {
    let _ = io::stdin().lock().read_to_end(&mut Vec::new());
}

/// A directory that goes when the value does, and has a name of its own if this process is killed before.
pub fn scratch() -> TempDir {
    tempfile::Builder::new().prefix("portlease-peers-").tempdir().expect("a directory")
}

/// All that one process alone prints.
///
/// # Panics
///
/// As [`Crew::results`].
pub fn output(command: &mut Command, at_most: Duration) -> String {
    let mut crew = Crew::default();
    crew.add(command).expect("a process");
    crew.go();
    crew.results(at_most).concat()
}

impl Crew {
    /// One more. It waits for "go".
    pub fn add(&mut self, command: &mut Command) -> io::Result<()> {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        self.members.push(child);
        Ok(())
    }

    /// Lets all of them begin.
    pub fn go(&mut self) {
        for member in &mut self.members {
            let stdin = member.stdin.as_mut().expect("a pipe");
            stdin.write_all(b"go\n").expect("a member that listens");
        }
    }

    /// Waits until each has printed a line, its only one, and goes on with what it does.
    ///
    /// # Panics
    ///
    /// If one has not after this time, or fails.
    pub fn wait_until_said(&mut self, at_most: Duration) {
        for member in &mut self.members {
            let stdout = member.stdout.as_mut().expect("a pipe");
            patience::readable(stdout, at_most);
            let length = BufReader::new(stdout).read_line(&mut String::new()).expect("a line");
            assert!(length > 0, "a process of the measurement failed");
        }
    }

    /// All that each of them prints until it ends.
    ///
    /// # Panics
    ///
    /// If one has not closed its output after this time, does not end then, or says that it failed.
    pub fn results(mut self, at_most: Duration) -> Vec<String> {
        let deadline = Instant::now() + at_most;
        let read = |member: &mut Child| {
            let (sender, receiver) = mpsc::channel();
            let stdout = member.stdout.take().expect("a pipe");
            thread::spawn(move || sender.send(io::read_to_string(stdout)));
            receiver
        };
        let outputs: Vec<_> = self.members.iter_mut().map(read).collect();
        let left = || deadline.saturating_duration_since(Instant::now());
        let text = |output: mpsc::Receiver<io::Result<String>>| {
            output.recv_timeout(left()).expect("a member that ends in time").expect("text")
        };
        let texts = outputs.into_iter().map(text).collect();
        for member in &mut self.members {
            let end = || member.try_wait().expect("a child");
            let status = patience::until("end of a member", Duration::from_millis(1), end);
            assert!(status.success(), "a process of the measurement failed: {status}");
        }
        texts
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for member in &mut self.members {
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}
