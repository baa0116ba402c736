//! What a server prints: always drained, to the end, or it would block at 64 KiB. A bounded tail is
//! kept.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::process::{ChildStderr, ChildStdout};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::report;

/// How much of the output is kept.
const MAX_TAIL: usize = 64 * 1024;

/// A line that is longer is taken for several.
const MAX_LINE: usize = 8 * 1024;

/// The output of one start of a server.
#[derive(Clone, Debug)]
pub(super) struct Output {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<String>,
    /// The bytes of all `lines`.
    size: usize,
    /// Of each stream, what has no newline yet.
    partial: [Vec<u8>; 2],
    /// How many streams have not ended.
    open: usize,
    reported: Option<u16>,
}

#[derive(Clone, Copy)]
enum Stream {
    Stdout,
    Stderr,
}

impl Output {
    /// Reads both streams until they end, each in a thread that nobody joins: a grandchild may hold
    /// a pipe for as long as it likes.
    ///
    /// An error says that a thread could not be started.
    pub(super) fn drain(
        stdout: Option<ChildStdout>,
        stderr: Option<ChildStderr>,
    ) -> (Output, io::Result<()>) {
        let output = Output::new();
        let drained = output
            .read_in_background(stdout, Stream::Stdout)
            .and_then(|()| output.read_in_background(stderr, Stream::Stderr));
        (output, drained)
    }

    fn new() -> Output {
        Output { shared: Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() }) }
    }

    fn read_in_background(
        &self,
        from: Option<impl Read + Send + 'static>,
        stream: Stream,
    ) -> io::Result<()> {
        let Some(from) = from else { return Ok(()) };
        let output = self.clone();
        self.state().open += 1;
        let reader = thread::Builder::new().name("portlease-output".to_owned());
        let spawned = reader.spawn(move || output.read_all(from, stream));
        if spawned.is_err() {
            self.state().open -= 1;
        }
        spawned.map(drop)
    }

    fn read_all(&self, mut from: impl Read, stream: Stream) {
        let mut chunk = [0; 8 * 1024];
        loop {
            match from.read(&mut chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(0) | Err(_) => break,
                Ok(count) => self.state().push(&chunk[..count], stream),
            }
            self.shared.changed.notify_all();
        }
        self.state().open -= 1;
        self.shared.changed.notify_all();
    }

    /// The last that was printed, of both streams in the order of arrival.
    pub(super) fn tail(&self) -> String {
        let state = self.state();
        let mut tail = String::with_capacity(state.size);
        tail.extend(state.lines.iter().map(String::as_str));
        for partial in state.partial.iter().filter(|partial| !partial.is_empty()) {
            tail.push_str(&String::from_utf8_lossy(partial));
            tail.push('\n');
        }
        tail
    }

    /// The port that was reported on the standard output, waiting for it for at most `at_most`.
    pub(super) fn reported_port(&self, at_most: Duration) -> Option<u16> {
        self.wait_until(at_most, |state| state.reported.is_some() || state.open == 0).reported
    }

    /// Waits at most so long for both streams to end: then the tail is all there will be. Whether
    /// they have.
    pub(super) fn has_ended(&self, at_most: Duration) -> bool {
        self.wait_until(at_most, |state| state.open == 0).open == 0
    }

    fn wait_until(
        &self,
        at_most: Duration,
        done: impl Fn(&State) -> bool,
    ) -> MutexGuard<'_, State> {
        let deadline = Instant::now() + at_most;
        let mut state = self.state();
        while !done(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let woken = self.shared.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        state
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, mut bytes: &[u8], stream: Stream) {
        while !bytes.is_empty() {
            let newline = bytes.iter().position(|&byte| byte == b'\n');
            let partial = &mut self.partial[stream as usize];
            let room = MAX_LINE - partial.len();
            let end = newline.map_or(bytes.len(), |at| at + 1).min(room);
            partial.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end..];
            if partial.ends_with(b"\n") || partial.len() >= MAX_LINE {
                let line = std::mem::take(partial);
                self.line(&line, stream);
            }
        }
    }

    fn line(&mut self, bytes: &[u8], stream: Stream) {
        let mut line = String::from_utf8_lossy(bytes).into_owned();
        if let (Stream::Stdout, None) = (stream, self.reported) {
            self.reported = report::port(&line);
        }
        if !line.ends_with('\n') {
            line.push('\n');
        }
        self.size += line.len();
        self.lines.push_back(line);
        while self.size > MAX_TAIL {
            self.size -= self.lines.pop_front().map_or(self.size, |line| line.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pushed(chunks: &[(&[u8], Stream)]) -> Output {
        let output = Output::new();
        for &(chunk, stream) in chunks {
            output.state().push(chunk, stream);
        }
        output
    }

    #[test]
    fn lines_of_two_streams_are_not_mixed() {
        let (out, err) = (Stream::Stdout, Stream::Stderr);
        let output = pushed(&[(b"on", out), (b"oops\n", err), (b"e\ntw", out), (b"er", err)]);
        assert_eq!(output.tail(), "oops\none\ntw\ner\n");
    }

    #[test]
    fn a_port_counts_on_stdout_only_and_the_first_one() {
        let (out, err) = (Stream::Stdout, Stream::Stderr);
        let check = |chunks: &[(&[u8], Stream)], expected| {
            assert_eq!(pushed(chunks).reported_port(Duration::ZERO), expected);
        };
        check(&[(b"PORT=1\n", err)], None);
        check(&[(b"PORT=12", out)], None); // not a whole line yet
        check(&[(b"PORT=12", out), (b"34\nPORT=9\n", out)], Some(1234));
    }

    #[test]
    fn memory_is_bounded_with_and_without_newlines() {
        for line in [&b"0123456789012345678901234567890123456789\n"[..], b"no newline "] {
            let output = Output::new();
            for _ in 0..100_000 {
                output.state().push(line, Stream::Stdout);
            }
            let size = output.tail().len();
            assert!((MAX_TAIL / 2..=MAX_TAIL + MAX_LINE + 1).contains(&size), "{size} bytes");
        }
    }

    #[test]
    fn what_is_not_utf8_is_kept_readable() {
        assert_eq!(pushed(&[(b"\xffa\n", Stream::Stderr)]).tail(), "\u{fffd}a\n");
    }
}
