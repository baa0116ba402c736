//! What was done, counted.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

#[derive(Default)]
pub(crate) struct Tally(Mutex<BTreeMap<String, u64>>);

impl Tally {
    pub(crate) fn count(&self, what: impl Into<String>) {
        self.add(what, 1);
    }

    pub(crate) fn add(&self, what: impl Into<String>, times: u64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *all.entry(what.into()).or_insert(0) += times;
    }
}

/// As a table of `benches/README.md`.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let width = all.keys().map(String::len).max().unwrap_or(0);
        writeln!(f, "| {:width$} | {:>8} |\n|-{:-<width$}-|---------:|", "", "times", "")?;
        all.iter().try_for_each(|(what, times)| writeln!(f, "| {what:width$} | {times:>8} |"))
    }
}
