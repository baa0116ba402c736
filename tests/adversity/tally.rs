//! What was done, counted.

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Default)]
pub(crate) struct Tally(Mutex<BTreeMap<String, u64>>);

impl Tally {
    pub(crate) fn count(&self, what: impl Into<String>) {
        self.add(what, 1);
    }

    pub(crate) fn add(&self, what: impl Into<String>, times: u64) {
        *self.lock().entry(what.into()).or_insert(0) += times;
    }

    pub(crate) fn of(&self, what: &str) -> u64 {
        self.lock().get(what).copied().unwrap_or(0)
    }

    /// Adds a line to the file that `PORTLEASE_TEST_JSON` names, if it does.
    pub(crate) fn write_down(&self, test: &str) {
        let Some(path) = env::var_os("PORTLEASE_TEST_JSON") else { return };
        let all = self.lock();
        // What is counted are words, which need no escape but that of a Rust string.
        let counts: Vec<_> = all.iter().map(|(what, times)| format!("{what:?}: {times}")).collect();
        let line = format!("{{\"test\": {test:?}, \"times\": {{{}}}}}\n", counts.join(", "));
        let file = File::options().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).unwrap();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As a table of `benches/README.md`.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.lock();
        let width = all.keys().map(String::len).max().unwrap_or(0);
        writeln!(f, "| {:width$} | {:>8} |\n|-{:-<width$}-|---------:|", "", "times", "")?;
        all.iter().try_for_each(|(what, times)| writeln!(f, "| {what:width$} | {times:>8} |"))
    }
}
