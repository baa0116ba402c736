//! Who holds a port, as written into the table. Pure: bytes in, bytes out.
//!
//! A record is text for humans, of a fixed size, so that it is overwritten in place. Nothing decides
//! by it who owns a port: only the lock does.

use std::fmt;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The size of a record on disk.
pub(crate) const SIZE: usize = 1024;

const HEADER: &str = "portlease 1\n";

/// The longest value that is written: six of them fit into a record.
const MAX_VALUE: usize = 220;

/// Who holds a port of a [`Registry`](crate::Registry), by its own account.
///
/// What it says is advisory text, written by the holder; that the port is held is certain, since
/// the kernel's lock says so. [`Display`](fmt::Display) makes one line of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub(crate) port: u16,
    pub(crate) pid: Option<u32>,
    pub(crate) process_start: Option<u64>,
    pub(crate) since: Option<SystemTime>,
    pub(crate) program: Option<String>,
    pub(crate) test: Option<String>,
    pub(crate) label: Option<String>,
    pub(crate) dir: Option<PathBuf>,
}

impl Holder {
    /// The holder of `port` who left no readable record (the disk was full).
    pub(crate) fn unknown(port: u16) -> Holder {
        Holder {
            port,
            pid: None,
            process_start: None,
            since: None,
            program: None,
            test: None,
            label: None,
            dir: None,
        }
    }

    /// The port that is held.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process that took the lease, in the numbering of its own pid namespace.
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// When that process was started, in clock ticks since boot: with the pid, it tells a process
    /// from a later one of the same number.
    pub fn process_start(&self) -> Option<u64> {
        self.process_start
    }

    /// Since when the port is held.
    pub fn since(&self) -> Option<SystemTime> {
        self.since
    }

    /// The file name of the program that took the lease.
    pub fn program(&self) -> Option<&str> {
        self.program.as_deref()
    }

    /// The test that took the lease, as far as its thread's name or nextest tells.
    pub fn test(&self) -> Option<&str> {
        self.test.as_deref()
    }

    /// The label that was given to the lease.
    pub fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// The working directory in which the lease was taken: it tells two checkouts apart.
    pub fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    pub(crate) fn encode(&self) -> [u8; SIZE] {
        let mut text = String::with_capacity(SIZE);
        text.push_str(HEADER);
        let mut field = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                let value = clip(&printable(&value), MAX_VALUE).to_owned();
                let _ = writeln!(text, "{key} {value}"); // a String takes all
            }
        };
        field("pid", self.pid.map(|pid| pid.to_string()));
        field("start", self.process_start.map(|ticks| ticks.to_string()));
        let since = self.since.and_then(|since| since.duration_since(UNIX_EPOCH).ok());
        field("since", since.map(|since| since.as_millis().to_string()));
        field("program", self.program.clone());
        field("test", self.test.clone());
        field("label", self.label.clone());
        field("dir", self.dir.as_ref().map(|dir| dir.display().to_string()));
        padded(&text)
    }

    /// Reads the record of `port`. `None`: it is none.
    pub(crate) fn decode(port: u16, bytes: &[u8]) -> Option<Holder> {
        let text = String::from_utf8_lossy(bytes);
        let body = text.strip_prefix(HEADER)?;
        let mut holder = Holder::unknown(port);
        for line in body.lines() {
            let Some((key, value)) = line.split_once(' ') else { continue };
            let value = printable(value.trim_end());
            match key {
                "pid" => holder.pid = value.parse().ok(),
                "start" => holder.process_start = value.parse().ok(),
                "since" => {
                    let since = value.parse().ok().map(Duration::from_millis);
                    holder.since = since.and_then(|since| UNIX_EPOCH.checked_add(since));
                }
                "program" => holder.program = Some(value),
                "test" => holder.test = Some(value),
                "label" => holder.label = Some(value),
                "dir" => holder.dir = Some(PathBuf::from(value)),
                _ => {} // a field of a later version
            }
        }
        Some(holder)
    }
}

/// Who it is, without the port: "pid 71 (api-tests), test `api::starts`, in /work, for 3.1 s".
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "pid {pid}")?,
            None => f.write_str("a process that left no readable record")?,
        }
        if let Some(program) = &self.program {
            write!(f, " ({program})")?;
        }
        if let Some(test) = &self.test {
            write!(f, ", test `{test}`")?;
        }
        if let Some(label) = &self.label {
            write!(f, ", label `{label}`")?;
        }
        if let Some(dir) = &self.dir {
            write!(f, ", in {}", dir.display())?;
        }
        match self.since.and_then(|since| since.elapsed().ok()) {
            Some(age) => write!(f, ", for {:.1} s", age.as_secs_f64()),
            None => Ok(()),
        }
    }
}

fn padded(text: &str) -> [u8; SIZE] {
    let mut bytes = [b' '; SIZE];
    let text = clip(text, SIZE - 1);
    bytes[..text.len()].copy_from_slice(text.as_bytes());
    bytes[SIZE - 1] = b'\n';
    bytes
}

/// At most `max` bytes of `text`, cut between characters.
fn clip(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// `text` without control characters: a test's name must not move a terminal's cursor.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Holder {
        Holder {
            port: 20_001,
            pid: Some(71),
            process_start: Some(123),
            since: Some(UNIX_EPOCH + Duration::from_millis(1_700_000_000_123)),
            program: Some("api tests".to_owned()),
            test: Some("api::starts".to_owned()),
            label: Some("db".to_owned()),
            dir: Some(PathBuf::from("/work/a b")),
        }
    }

    #[test]
    fn what_was_written_is_read() {
        assert_eq!(Holder::decode(20_001, &example().encode()), Some(example()));
        let sparse = Holder { pid: Some(1), ..Holder::unknown(9) };
        assert_eq!(Holder::decode(9, &sparse.encode()), Some(sparse));
    }

    #[test]
    fn a_value_cannot_break_out_of_its_line() {
        let evil = "x\npid 1\r\u{1b}[2J";
        let holder = Holder { label: Some(evil.to_owned()), ..example() };
        let read = Holder::decode(20_001, &holder.encode()).expect("a record");
        assert_eq!(read.pid, Some(71));
        assert_eq!(read.label.as_deref(), Some("x\u{fffd}pid 1\u{fffd}\u{fffd}[2J"));
        assert!(!read.to_string().contains(char::is_control));
    }

    #[test]
    fn long_values_are_cut_and_later_fields_remain() {
        let long = "ä".repeat(5000);
        let holder = Holder {
            program: Some(long.clone()),
            test: Some(long.clone()),
            label: Some(long.clone()),
            ..example()
        };
        let read = Holder::decode(20_001, &holder.encode()).expect("a record");
        assert!(long.starts_with(&read.label.expect("a label")));
        assert_eq!(read.dir, example().dir);
    }

    #[test]
    fn foreign_bytes_name_nobody() {
        for bytes in [&b""[..], b"\xff\x00garbage", &[0; SIZE], b"portlease 2\npid 1\n"] {
            assert_eq!(Holder::decode(1, bytes), None, "{bytes:?}");
        }
        let garbled = Holder::decode(1, b"portlease 1\npid x\nsince 99999999999999999999\n\xff");
        assert_eq!(garbled, Some(Holder::unknown(1)));
    }

    #[test]
    fn display_says_who() {
        let text = Holder { since: None, ..example() }.to_string();
        assert_eq!(text, "pid 71 (api tests), test `api::starts`, label `db`, in /work/a b");
        assert_eq!(Holder::unknown(1).to_string(), "a process that left no readable record");
    }
}
