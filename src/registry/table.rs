//! What is known of each port: when it was last used, and who has it. One file for all.
//!
//! Advice, no more: it decides in which order ports are tried, and what an error says. Whatever is
//! in the file, or if there is none, who has a port is decided by its lock.
//!
//! The times serve two ends. A released port is left alone for a while, so that a late client of its
//! last server does not reach the next one. And the ports that others hold are passed over without
//! touching their slots: so a lease costs the same whether 0 or 9 000 of 10 000 ports are held.
//!
//! One file, and not a part of each slot, because a write to a file that was not written for some
//! milliseconds makes a journalling file system note its new time: 10 us, where a write to this
//! file, which always was, takes 1 (measured on ext4). And because on Windows nobody else can read
//! a file that is locked.

use std::fs::File;
use std::io;
use std::path::Path;

use super::record;
use crate::holder::Holder;
use crate::sys;

/// How long a released port is left alone, if any other is free: in milliseconds.
const COOL_DOWN: u32 = 10_000;

/// The size of a mark: the lower 32 bits of the milliseconds of the monotonic clock (the wall clock is
/// set back now and then, by some milliseconds too), of which the lowest says whether the port was
/// taken or released then. 0: never used.
const MARK: usize = 4;

/// Where the records begin: after the marks of all ports.
const RECORDS: u64 = 65_536 * MARK as u64;

/// The table's file. `None`: it cannot be used, and nothing is known.
#[derive(Debug)]
pub(super) struct Table {
    file: Option<File>,
    max_size: u64,
}

/// What the table says of a port's use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Not used, or long ago.
    Rested,
    /// Released so many milliseconds ago.
    Resting(u32),
    /// Taken, and not released: somebody holds it, or died.
    Taken,
}

/// The marks of some ports, as they were a moment ago.
#[derive(Debug)]
pub(crate) struct Marks {
    first: u16,
    now: u32,
    bytes: Vec<u8>,
}

impl Table {
    /// # Errors
    ///
    /// No descriptor is left. Any other reason is none to fail.
    pub(super) fn open(path: &Path) -> io::Result<Table> {
        let file = match sys::open_private(path) {
            Err(error) if sys::is_out_of_descriptors(&error) => return Err(error),
            file => file.ok().filter(|file| file.metadata().is_ok_and(|meta| meta.is_file())),
        };
        file.iter().for_each(sys::make_sparse);
        Ok(Table { file, max_size: sys::max_file_size() })
    }

    /// Whether the file was removed, with the whole directory most likely.
    pub(super) fn is_stale(&self) -> bool {
        self.file.as_ref().is_some_and(sys::is_nameless)
    }

    /// Notes who took `port`. Called by who has its slot.
    pub(super) fn took(&self, port: u16, holder: &Holder) {
        self.write(record::encode(holder).as_bytes(), record_offset(port));
        self.write(&taken_mark(now()).to_le_bytes(), mark_offset(port));
    }

    /// Notes that `port` was released. Called by who has its slot.
    pub(super) fn released(&self, port: u16) {
        self.write(&released_mark(now()).to_le_bytes(), mark_offset(port));
    }

    /// Who took `port`, if it was not released since, and if he left a readable record.
    pub(super) fn holder(&self, port: u16) -> Option<Holder> {
        let mut bytes = [0; record::SIZE];
        let read = self.read(&mut bytes, record_offset(port));
        record::decode(port, &bytes[..read])
            .filter(|_| self.marks((port, port)).of(port) == Use::Taken)
    }

    /// Whether `port` was taken or released within the cool-down.
    pub(super) fn used_lately(&self, port: u16) -> bool {
        let mut mark = [0; MARK];
        self.read(&mut mark, mark_offset(port));
        is_recent(u32::from_le_bytes(mark), now())
    }

    /// The marks of the ports from `first` to `last`. One read: 0.5 us, or 0.6 for a thousand.
    pub(super) fn marks(&self, (first, last): (u16, u16)) -> Marks {
        let mut bytes = vec![0; (usize::from(last.saturating_sub(first)) + 1) * MARK];
        let read = self.read(&mut bytes, mark_offset(first));
        bytes.truncate(read);
        Marks { first, now: now(), bytes }
    }

    /// A full disk is no reason to fail a lease.
    fn write(&self, bytes: &[u8], offset: u64) {
        let fits = offset + bytes.len() as u64 <= self.max_size;
        if let (Some(file), true) = (&self.file, fits) {
            let _ = sys::write_at(file, bytes, offset);
        }
    }

    fn read(&self, bytes: &mut [u8], offset: u64) -> usize {
        let read = self.file.as_ref().map(|file| sys::read_at(file, bytes, offset));
        read.and_then(Result::ok).unwrap_or(0)
    }
}

impl Marks {
    pub(crate) fn of(&self, port: u16) -> Use {
        let at = usize::from(port.saturating_sub(self.first)) * MARK;
        let mark = self.bytes.get(at..at + MARK).and_then(|mark| mark.try_into().ok());
        judge(mark.map_or(0, u32::from_le_bytes), self.now)
    }
}

/// Odd, and not in the future.
fn taken_mark(now: u32) -> u32 {
    now.wrapping_sub(1) | 1
}

/// Even, and not in the future.
fn released_mark(now: u32) -> u32 {
    now & !1
}

/// What a mark says. Modulo 2^32, a time in the future (before the machine was started anew) is long
/// ago.
fn judge(mark: u32, now: u32) -> Use {
    let age = now.wrapping_sub(mark);
    match mark {
        0 => Use::Rested,
        _ if mark & 1 == 1 => Use::Taken,
        _ if is_recent(mark, now) => Use::Resting(age),
        _ => Use::Rested,
    }
}

/// Whether the port was taken or released within the cool-down.
fn is_recent(mark: u32, now: u32) -> bool {
    mark != 0 && now.wrapping_sub(mark) < COOL_DOWN
}

fn mark_offset(port: u16) -> u64 {
    u64::from(port) * MARK as u64
}

fn record_offset(port: u16) -> u64 {
    RECORDS + u64::from(port) * record::SIZE as u64
}

fn now() -> u32 {
    sys::monotonic_millis() as u32 // the lower bits are meant
}

#[cfg(test)]
mod tests {
    use std::mem;

    use super::*;

    fn temp_table() -> (tempfile::TempDir, Table) {
        let dir = tempfile::tempdir().expect("no temporary directory");
        let table = Table::open(&dir.path().join("table")).expect("open");
        (dir, table)
    }

    fn of(table: &Table, port: u16) -> Use {
        let alone = table.marks((port, port)).of(port);
        let with_others = table.marks((port.saturating_sub(9), u16::MAX)).of(port);
        let is_same = mem::discriminant(&alone) == mem::discriminant(&with_others);
        assert!(is_same, "{alone:?}, {with_others:?}"); // which may rest a millisecond longer
        alone
    }

    fn somebody(port: u16) -> Holder {
        Holder { pid: Some(u32::from(port) + 1), ..Holder::unknown(port) }
    }

    #[test]
    fn a_port_is_taken_then_rests() {
        let (_dir, table) = temp_table();
        assert_eq!((of(&table, 20_000), table.holder(20_000)), (Use::Rested, None));
        table.took(20_000, &somebody(20_000));
        assert_eq!(of(&table, 20_000), Use::Taken);
        assert_eq!(table.holder(20_000), Some(somebody(20_000)));
        assert!(table.used_lately(20_000) && !table.used_lately(20_001));
        let before = now();
        table.released(20_000);
        assert!(table.used_lately(20_000));
        let Use::Resting(age) = of(&table, 20_000) else { panic!("it does not rest") };
        assert!(age <= now().wrapping_sub(released_mark(before)), "{age}");
        assert_eq!(table.holder(20_000), None);
        assert_eq!((of(&table, 19_999), of(&table, 20_001)), (Use::Rested, Use::Rested));
        for port in [0, 1, u16::MAX] {
            table.took(port, &somebody(port));
        }
        for port in [0, 1, u16::MAX] {
            assert_eq!((of(&table, port), table.holder(port)), (Use::Taken, Some(somebody(port))));
        }
    }

    #[test]
    fn no_two_parts_of_the_file_overlap() {
        assert_eq!(mark_offset(8) + MARK as u64, mark_offset(9));
        assert!(mark_offset(u16::MAX) + MARK as u64 <= record_offset(0));
        assert_eq!(record_offset(8) + record::SIZE as u64, record_offset(9));
    }

    #[test]
    fn ages() {
        let check = |mark, now, expected| assert_eq!(judge(mark, now), expected, "{mark} at {now}");
        check(0, 5, Use::Rested);
        check(100_000, 100_000, Use::Resting(0));
        check(100_000, 109_999, Use::Resting(9_999));
        check(100_000, 110_000, Use::Rested);
        check(100_001, 900_000, Use::Taken);
        check(100_000, 99_000, Use::Rested); // in the future
        check(u32::MAX - 1, 8, Use::Resting(10)); // the clock went around
        for (mark, expected) in [(0, false), (100_000, false), (100_001, true), (110_001, false)] {
            assert_eq!(is_recent(mark, 110_000), expected, "{mark}");
        }
        for now in [100_000, 100_001] {
            check(taken_mark(now), now, Use::Taken);
            check(released_mark(now), now, Use::Resting(now & 1));
            assert!(now - taken_mark(now) < 2);
        }
    }

    #[test]
    fn no_table_and_garbage_are_no_reason_to_fail() {
        let (dir, _) = temp_table();
        let no_file = Table::open(dir.path()).expect("open");
        no_file.took(20_000, &somebody(20_000));
        assert_eq!((of(&no_file, 20_000), no_file.holder(20_000)), (Use::Rested, None));
        let path = dir.path().join("garbage");
        std::fs::write(&path, [0xff; 38]).expect("write");
        let short = Table::open(&path).expect("open");
        assert_eq!(of(&short, 8), Use::Taken);
        assert_eq!(of(&short, 9), Use::Rested, "the file ends in its mark");
        std::fs::write(&path, vec![0xff; 1 << 20]).expect("write");
        let garbage = Table::open(&path).expect("open");
        assert_eq!((of(&garbage, 9), garbage.holder(9)), (Use::Taken, None));
    }
}
