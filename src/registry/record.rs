//! Who holds a port, as written into the table. Pure: bytes in, bytes out.
//!
//! A record is text for humans, in a place of a fixed size, in which it is overwritten. Nothing decides
//! by it who owns a port: only the lock does.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use crate::holder::Holder;
use crate::text::printable;

/// The size of a record on disk, at most.
pub(crate) const SIZE: usize = 1024;

const HEADER: &str = "portlease 1\n";

/// The longest value that is written: four of them, and the numbers, fit into a record.
const MAX_VALUE: usize = 220;

/// Ends in an empty line: after it may be the rest of an older one.
pub(crate) fn encode(holder: &Holder) -> String {
    let mut text = String::with_capacity(SIZE);
    text.push_str(HEADER);
    let since = holder.since.and_then(|since| since.duration_since(UNIX_EPOCH).ok());
    let since = since.and_then(|since| u64::try_from(since.as_millis()).ok());
    let pid = holder.pid.map(u64::from);
    for (key, number) in [("pid", pid), ("start", holder.process_start), ("since", since)] {
        if let Some(number) = number {
            let _ = writeln!(text, "{key} {number}"); // a String takes all
        }
    }
    let dir = holder.dir.as_ref().map(|dir| dir.to_string_lossy());
    let values = [
        ("program", holder.program.as_deref()),
        ("test", holder.test.as_deref()),
        ("label", holder.label.as_deref()),
        ("dir", dir.as_deref()),
    ];
    for (key, value) in values {
        if let Some(value) = value {
            text.extend([key, " ", clip(&printable(value), MAX_VALUE), "\n"]);
        }
    }
    text.push('\n');
    text
}

/// Reads the record of `port`. `None`: it is none.
pub(crate) fn decode(port: u16, bytes: &[u8]) -> Option<Holder> {
    let text = String::from_utf8_lossy(bytes);
    let body = text.strip_prefix(HEADER)?;
    let mut holder = Holder::unknown(port);
    for line in body.lines().take_while(|line| !line.is_empty()) {
        let Some((key, value)) = line.split_once(' ') else { continue };
        let value = printable(value.trim_end()).into_owned();
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

/// At most `max` bytes of `text`, cut between characters.
fn clip(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
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
        assert_eq!(decode(20_001, encode(&example()).as_bytes()), Some(example()));
        let sparse = Holder { pid: Some(1), ..Holder::unknown(9) };
        assert_eq!(decode(9, encode(&sparse).as_bytes()), Some(sparse));
    }

    #[test]
    fn a_value_cannot_break_out_of_its_line() {
        let evil = "x\npid 1\r\u{1b}[2J";
        let holder = Holder { label: Some(evil.to_owned()), ..example() };
        let read = decode(20_001, encode(&holder).as_bytes()).expect("a record");
        assert_eq!(read.pid, Some(71));
        assert_eq!(read.label.as_deref(), Some("x\u{fffd}pid 1\u{fffd}\u{fffd}[2J"));
        assert!(!read.to_string().contains(char::is_control));
    }

    #[test]
    fn long_values_are_cut_and_later_fields_remain() {
        let long = "€".repeat(5000); // 220 is no multiple of its 3 bytes
        let holder = Holder {
            program: Some(long.clone()),
            test: Some(long.clone()),
            label: Some(long.clone()),
            ..example()
        };
        let record = encode(&holder);
        let read = decode(20_001, record.as_bytes()).expect("a record");
        assert!(long.starts_with(&read.label.expect("a label")));
        assert_eq!(read.dir, example().dir);
    }

    #[test]
    fn the_longest_record_fits_into_its_place() {
        let long = "a".repeat(5000);
        let far = UNIX_EPOCH + Duration::from_secs(10_000 * 365 * 24 * 3600); // as far as all systems go
        let holder = Holder {
            pid: Some(u32::MAX),
            process_start: Some(u64::MAX),
            since: Some(far),
            program: Some(long.clone()),
            test: Some(long.clone()),
            label: Some(long.clone()),
            dir: Some(PathBuf::from(long)),
            ..example()
        };
        assert!(encode(&holder).len() <= SIZE);
    }

    #[test]
    fn what_is_left_of_an_older_record_is_not_read() {
        let sparse = Holder { pid: Some(1), ..Holder::unknown(9) };
        let mut bytes = encode(&example()).into_bytes();
        let record = encode(&sparse);
        bytes[..record.len()].copy_from_slice(record.as_bytes());
        assert_eq!(decode(9, &bytes), Some(sparse));
    }

    #[test]
    fn foreign_bytes_name_nobody() {
        for bytes in [&b""[..], b"\xff\x00garbage", &[0; SIZE], b"portlease 2\npid 1\n"] {
            assert_eq!(decode(1, bytes), None, "{bytes:?}");
        }
        let later = decode(1, b"portlease 1\nshoe 43\npid 7\n").and_then(|holder| holder.pid);
        assert_eq!(later, Some(7), "a field of a later version");
        let garbled = decode(1, b"portlease 1\npid x\nsince 99999999999999999999\n\xff");
        assert_eq!(garbled, Some(Holder::unknown(1)));
    }

    #[test]
    fn display_says_who() {
        let text = Holder { since: None, ..example() }.to_string();
        assert_eq!(text, "pid 71 (api tests), test `api::starts`, label `db`, in /work/a b");
        assert_eq!(Holder::unknown(1).to_string(), "a process that left no readable record");
    }
}
