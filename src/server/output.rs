//! What a server prints: always drained, to the end, or it would block at 64 KiB. A bounded tail is
//! kept.

#[cfg(feature = "tokio")]
mod lines;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::{ChildStderr, ChildStdout};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

#[cfg(feature = "tokio")]
pub use self::lines::Lines;
use super::line::{Awaited, Line, Stream};
use super::report::{Reader, Reports};
use crate::sys::Pipe;

/// How much of the output is kept.
const MAX_TAIL: usize = 64 * 1024;

/// A line that is longer is taken for several.
const MAX_LINE: usize = 8 * 1024;

/// How long the last lines of a server that has ended may be on their way.
pub(super) const LAST_LINES: Duration = Duration::from_secs(1);

/// How soon a wait ends that is called off.
const CALLED_OFF_WITHIN: Duration = Duration::from_millis(50);

/// What a wait is cut to that the clock cannot express.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

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
    lines: VecDeque<Line>,
    /// The bytes of all `lines`.
    size: usize,
    /// How many lines there were.
    count: u64,
    /// Of each stream, what has no newline yet.
    partial: [Partial; 2],
    /// Of each stream, from what it is read, for as long as it is: if it was open for longer, who prints
    /// would not notice that nobody reads.
    pipes: [Weak<Pipe>; 2],
    /// How many streams have not ended.
    open: usize,
    /// While it is of interest.
    reader: Option<Reader>,
    /// Likewise: what has to be printed, and whether it was.
    awaited: Vec<(Arc<Awaited>, bool)>,
    copy: Option<File>,
    /// Tasks that wait for what comes next.
    followers: BTreeMap<u64, Waker>,
}

#[derive(Debug, Default)]
struct Partial {
    bytes: Vec<u8>,
    /// It is not the start of its line, which was too long.
    continues: bool,
}

/// How a wait for a line ended.
pub(super) enum Waited {
    Line(Line),
    /// The output did, without such a line.
    End,
    TooLong,
}

impl Output {
    pub(super) fn new() -> Output {
        Output { shared: Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() }) }
    }

    /// Copies what comes to a file of the directory `dir`, for the server `name` with this `pid`.
    pub(super) fn copy_to(&self, dir: &Path, name: &str, pid: u32) -> io::Result<()> {
        std::fs::create_dir_all(dir)?;
        let safe = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' };
        let name: String = name.chars().map(safe).take(100).collect();
        let copy = File::create(dir.join(format!("{name}-{pid}.log")))?;
        self.state().copy = Some(copy);
        Ok(())
    }

    /// Reads both streams until they end, each in a thread that nobody joins: a grandchild may hold
    /// a pipe for as long as it likes.
    ///
    /// # Errors
    ///
    /// A thread could not be started.
    pub(super) fn drain(
        &self,
        stdout: Option<ChildStdout>,
        stderr: Option<ChildStderr>,
    ) -> io::Result<()> {
        self.read_in_background(stdout.map(Pipe::new), Stream::Stdout)?;
        self.read_in_background(stderr.map(Pipe::new), Stream::Stderr)
    }

    fn read_in_background(&self, from: Option<Pipe>, stream: Stream) -> io::Result<()> {
        let Some(from) = from.map(Arc::new) else { return Ok(()) };
        let output = self.clone();
        let mut state = self.state();
        state.pipes[stream as usize] = Arc::downgrade(&from);
        state.open += 1;
        drop(state);
        let reader = thread::Builder::new().name("portlease-output".to_owned());
        let spawned = reader.spawn(move || output.read_all(&from, stream));
        if spawned.is_err() {
            self.state().open -= 1;
        }
        spawned.map(drop)
    }

    fn read_all(&self, from: &Pipe, stream: Stream) {
        let mut chunk = [0; 8 * 1024];
        loop {
            match from.read(&mut chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(0) | Err(_) => break,
                Ok(count) => self.change(|state| state.push(&chunk[..count], stream)),
            }
        }
        self.change(|state| state.open -= 1);
    }

    /// Does something to the state, and tells those who wait for it.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        let followers = std::mem::take(&mut state.followers);
        drop(state);
        self.shared.changed.notify_all();
        followers.into_values().for_each(Waker::wake);
    }

    /// The last that was printed, of both streams in the order of arrival.
    pub(super) fn tail(&self) -> String {
        let state = self.state();
        let mut tail = String::with_capacity(state.size);
        tail.extend(state.lines.iter().map(|line| line.text.as_str()));
        for partial in state.partial.iter().filter(|partial| !partial.bytes.is_empty()) {
            tail.push_str(&String::from_utf8_lossy(&partial.bytes));
            tail.push('\n');
        }
        let mut cut = tail.len().saturating_sub(MAX_TAIL);
        while !tail.is_char_boundary(cut) {
            cut += 1;
        }
        tail.split_off(cut)
    }

    /// The last whole lines.
    pub(super) fn lines(&self) -> Vec<Line> {
        self.state().lines.iter().cloned().collect()
    }

    /// Waits for a line about which `matches` is true, each being asked about once. If the wait is
    /// `called_off`, it is too long soon.
    pub(super) fn wait_for_line(
        &self,
        at_most: Duration,
        called_off: &AtomicBool,
        mut matches: impl FnMut(&str) -> bool,
    ) -> Waited {
        let now = Instant::now();
        let deadline = now.checked_add(at_most).unwrap_or(now + FOR_EVER);
        let mut seen = 0;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let more = |state: &State| state.count > seen || state.open == 0;
            let state = self.wait_until(left.min(CALLED_OFF_WITHIN), more);
            let new: Vec<_> = state.lines.iter().filter(|line| line.number >= seen).collect();
            if state.count == seen {
                match state.open {
                    0 => return Waited::End,
                    _ if left.is_zero() || called_off.load(Ordering::Relaxed) => {
                        return Waited::TooLong;
                    }
                    _ => continue,
                }
            }
            // Asked about without the lock: the readers must not wait for the test's closure.
            let new: Vec<Line> = new.into_iter().cloned().collect();
            seen = state.count;
            drop(state);
            if let Some(line) = new.into_iter().find(|line| matches(line.text())) {
                return Waited::Line(line);
            }
        }
    }

    /// From now on, lines are read for ports, and for those that are awaited: when they come, because they
    /// may be forgotten by the time that somebody asks.
    pub(super) fn read_for(&self, reader: Option<Reader>, awaited: Vec<Arc<Awaited>>) {
        let mut state = self.state();
        state.reader = reader;
        state.awaited = awaited.into_iter().map(|line| (line, false)).collect();
    }

    /// From now on, lines are not read for anything, since a server may print a lot.
    pub(super) fn read_for_nothing(&self) {
        self.read_for(None, Vec::new());
    }

    /// Whether something was printed that is not read, as far as the system tells: the threads that read
    /// may not have come to run.
    pub(super) fn has_unread(&self) -> bool {
        self.state().pipes.iter().filter_map(Weak::upgrade).any(|pipe| pipe.has_unread())
    }

    /// What the lines said about ports.
    pub(super) fn reports(&self) -> Reports {
        self.state().reader.as_ref().map(|it| it.reports().clone()).unwrap_or_default()
    }

    /// The ports that the lines said not to be the main one.
    pub(super) fn beside(&self) -> BTreeSet<u16> {
        self.state().reader.as_ref().map(Reader::beside).unwrap_or_default()
    }

    /// Whether this line has come, which is awaited.
    pub(super) fn has_printed(&self, line: &Arc<Awaited>) -> bool {
        self.state().awaited.iter().any(|(known, came)| *came && Arc::ptr_eq(known, line))
    }

    /// How far it has come: changes with each line, and with the end of each stream.
    pub(super) fn progress(&self) -> (u64, usize) {
        let state = self.state();
        (state.count, state.open)
    }

    /// Waits at most so long for it to come further than `seen`.
    pub(super) fn wait_for_progress(&self, seen: (u64, usize), at_most: Duration) {
        drop(self.wait_until(at_most, |state| (state.count, state.open) != seen));
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
        if let Some(copy) = &mut self.copy {
            if copy.write_all(bytes).is_err() {
                self.copy = None; // the disk is full: the copy ends, the server goes on
            }
        }
        while !bytes.is_empty() {
            let partial = &mut self.partial[stream as usize];
            let room = MAX_LINE - partial.bytes.len();
            let newline = bytes.iter().position(|&byte| byte == b'\n');
            let end = newline.map_or(bytes.len(), |at| at + 1).min(room);
            partial.bytes.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end..];
            let whole = partial.bytes.ends_with(b"\n");
            if whole || partial.bytes.len() >= MAX_LINE {
                let line = std::mem::take(&mut partial.bytes);
                let continues = std::mem::replace(&mut partial.continues, !whole);
                self.line(&line, stream, continues);
            }
        }
    }

    fn line(&mut self, bytes: &[u8], stream: Stream, continues: bool) {
        let mut text = String::from_utf8_lossy(bytes).into_owned();
        if let (Some(reader), true) = (&mut self.reader, !continues && text.ends_with('\n')) {
            reader.read(&text);
        }
        if !text.ends_with('\n') {
            text.push('\n');
        }
        let line = Line { stream, at: SystemTime::now(), text, number: self.count };
        for (awaited, came) in self.awaited.iter_mut().filter(|(_, came)| !came) {
            *came = awaited.is(&line);
        }
        self.size += line.text.len();
        self.lines.push_back(line);
        self.count += 1;
        while self.size > MAX_TAIL {
            self.size -= self.lines.pop_front().map_or(self.size, |line| line.text.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OUT: Stream = Stream::Stdout;
    const ERR: Stream = Stream::Stderr;

    /// Read for ports as well.
    fn pushed(chunks: &[(&[u8], Stream)]) -> Output {
        let output = Output::new();
        output.read_for(Some(Reader::default()), Vec::new());
        for &(chunk, stream) in chunks {
            output.state().push(chunk, stream);
        }
        output
    }

    #[test]
    fn lines_of_two_streams_are_not_mixed() {
        let output = pushed(&[(b"on", OUT), (b"oops\n", ERR), (b"e\r\ntw", OUT), (b"er", ERR)]);
        assert_eq!(output.tail(), "oops\none\r\ntw\ner\n");
        let lines = output.lines();
        let lines: Vec<_> = lines.iter().map(|line| (line.stream(), line.text())).collect();
        assert_eq!(lines, [(ERR, "oops"), (OUT, "one")]);
    }

    #[cfg(target_os = "linux")] // by its `/dev/full`
    #[test]
    fn a_full_disk_ends_the_copy_and_nothing_else() {
        let output = pushed(&[]);
        output.state().copy = File::options().write(true).open("/dev/full").ok();
        assert!(output.state().copy.is_some());
        output.state().push(b"one\n", OUT);
        assert!(output.state().copy.is_none());
        assert_eq!(output.tail(), "one\n");
    }

    #[test]
    fn a_port_counts_on_either_stream_in_a_whole_line() {
        let check = |chunks: &[(&[u8], Stream)], expected: Option<u16>| {
            let output = pushed(chunks);
            assert_eq!(output.reports().all_main().first().copied(), expected);
        };
        check(&[(b"PORT=1\n", ERR)], Some(1));
        check(&[(b"PORT=12", OUT)], None); // not a whole line yet
        check(&[(b"PORT=12", OUT), (b"34\n", OUT)], Some(1234));
        let long = [b'x'; MAX_LINE];
        check(&[(&long, OUT), (b"PORT=1\n", OUT)], None); // not the start of its line
        check(&[(&long, OUT), (b"PORT=1\nPORT=2\n", OUT)], Some(2));
    }

    #[test]
    fn memory_is_bounded_with_and_without_newlines() {
        for line in [&b"0123456789012345678901234567890123456789\n"[..], b"no newline ", b"\xff"] {
            let output = pushed(&[]);
            for _ in 0..100_000 {
                output.state().push(line, OUT);
            }
            let size = output.tail().len();
            assert!((MAX_TAIL / 2..=MAX_TAIL).contains(&size), "{size} bytes");
            assert!(output.state().size <= MAX_TAIL);
        }
    }

    #[test]
    fn what_is_not_utf8_is_kept_readable() {
        assert_eq!(pushed(&[(b"\xffa\n", ERR)]).tail(), "\u{fffd}a\n");
    }

    #[test]
    fn a_line_is_waited_for() {
        let output = pushed(&[(b"one\ntwo\n", OUT)]);
        output.state().open = 1;
        let wait = |text: &str, at_most| match output.wait_for_line(
            at_most,
            &AtomicBool::new(false),
            |line| line == text,
        ) {
            Waited::Line(line) => line.text().to_owned(),
            Waited::End => "(end)".to_owned(),
            Waited::TooLong => "(too long)".to_owned(),
        };
        assert_eq!(wait("two", Duration::ZERO), "two", "it was printed before");
        assert_eq!(wait("three", Duration::from_millis(20)), "(too long)");
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(20));
                output.state().push(b"thr", ERR);
                output.shared.changed.notify_all();
                output.state().push(b"ee\n", ERR);
                output.shared.changed.notify_all();
                output.state().open = 0;
                output.shared.changed.notify_all();
            });
            assert_eq!(wait("three", Duration::MAX), "three");
        });
        assert_eq!(wait("four", Duration::MAX), "(end)");
    }

    #[cfg(unix)] // elsewhere, nobody tells
    #[test]
    fn what_is_not_read_is_known_while_somebody_reads() {
        let output = Output::new();
        assert!(!output.has_unread());
        let (reading, mut writing) = std::os::unix::net::UnixStream::pair().unwrap();
        let pipe = Arc::new(Pipe::new(reading));
        output.state().pipes[ERR as usize] = Arc::downgrade(&pipe);
        assert!(!output.has_unread());
        writing.write_all(b"two").unwrap();
        assert!(output.has_unread());
        assert_eq!(pipe.read(&mut [0; 2]).unwrap(), 2);
        assert!(output.has_unread());
        assert_eq!(pipe.read(&mut [0; 2]).unwrap(), 1);
        assert!(!output.has_unread());
        writing.write_all(b"more").unwrap();
        drop(pipe);
        assert!(!output.has_unread());
        assert!(writing.write_all(b"more").is_err(), "it was kept open");
    }

    #[cfg(unix)] // by its `cat`
    #[test]
    fn what_is_read_may_be_asked_until_its_end() {
        let piped = std::process::Stdio::piped;
        let mut cat = std::process::Command::new("cat");
        let cat = cat.stdin(piped()).stdout(piped()).stderr(piped()).spawn();
        let mut cat = cat.expect("a child");
        let output = Output::new();
        output.drain(cat.stdout.take(), cat.stderr.take()).expect("threads");
        let asked = || output.state().pipes.iter().filter_map(Weak::upgrade).count();
        assert_eq!(asked(), 2);
        drop(cat.stdin.take());
        cat.wait().expect("its end");
        crate::patience::eventually(|| if asked() == 0 { Ok(()) } else { Err("it is open") });
    }

    #[test]
    fn it_has_ended_when_both_streams_have() {
        let output = Output::new();
        for (open, expected) in [(2, false), (1, false), (0, true)] {
            output.state().open = open;
            assert_eq!(output.has_ended(Duration::ZERO), expected, "{open}");
        }
    }

    /// It is noticed when it comes: by the time that somebody asks, it may be forgotten.
    #[test]
    fn an_awaited_line_is_not_lost() {
        let awaited = |text: &'static str| {
            let matches = move |line: &str| match line {
                "panics" => panic!("on purpose"),
                line => line == text,
            };
            Arc::new(Awaited { which: text.to_owned(), matches: Box::new(matches) })
        };
        let (one, two) = (awaited("one"), awaited("two"));
        let output = Output::new();
        output.read_for(None, vec![Arc::clone(&one), Arc::clone(&two)]);
        output.state().push(b"panics\none\ntw", OUT);
        for _ in 0..MAX_TAIL {
            output.state().push(b"o\n", ERR);
        }
        assert!(output.lines().iter().all(|line| line.text() == "o"));
        assert!(output.has_printed(&one) && !output.has_printed(&two));
        output.state().push(b"o\r\n", OUT);
        assert!(output.has_printed(&two));
        assert!(!output.has_printed(&awaited("one")), "another's");
    }

    /// Bytes with short lines, lines over the bound, and reports that a read may cut in two.
    fn printed() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => prop::sample::select(vec!["PORT=", "12345", "\n", "\r\n", "http://a:80", "é"])
                .prop_map(|text| text.as_bytes().to_vec()),
            2 => any::<u16>().prop_map(|port| format!("PORT={port}\n").into_bytes()),
            2 => prop::collection::vec(any::<u8>(), 0..20),
            1 => (MAX_LINE - 20..MAX_LINE + 20).prop_map(|length| vec![b'x'; length]),
        ];
        prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// It does not matter how the bytes are cut into reads.
        #[test]
        fn reads_may_be_cut_anywhere(
            bytes in printed(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let whole = pushed(&[(&bytes, OUT)]);
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let reads: Vec<_> =
                cuts.windows(2).map(|cut| (&bytes[cut[0]..cut[1]], OUT)).collect();
            let cut = pushed(&reads);

            let texts = |output: &Output| -> Vec<_> {
                output.lines().into_iter().map(|line| line.text).collect()
            };
            prop_assert_eq!(texts(&whole), texts(&cut));
            prop_assert_eq!(whole.tail(), cut.tail());
            let mut reader = Reader::default();
            let lines = bytes.split_inclusive(|&byte| byte == b'\n');
            lines
                .filter(|line| line.ends_with(b"\n") && line.len() <= MAX_LINE)
                .for_each(|line| reader.read(&String::from_utf8_lossy(line)));
            prop_assert_eq!(&whole.reports(), reader.reports());
            prop_assert_eq!(&cut.reports(), reader.reports());
            let state = cut.state();
            prop_assert!(state.size <= MAX_TAIL);
            prop_assert!(state.partial[0].bytes.len() < MAX_LINE);
        }
    }
}
