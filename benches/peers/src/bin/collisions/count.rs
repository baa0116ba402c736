//! What became of many starts.

use std::fmt;
use std::ops::AddAssign;
use std::str::FromStr;

use crate::start::{Answer, Outcome};

/// How often what happened. A start of which the server could not have its port, and the client heard a
/// stranger, is in both columns, and once among those that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) starts: u64,
    /// The contestant found none.
    pub(crate) no_port: u64,
    /// The server could not have it.
    pub(crate) not_bound: u64,
    /// The server had it, and the client heard nobody.
    pub(crate) unanswered: u64,
    /// The client heard somebody else's server; whether or not its own had the port.
    pub(crate) wrong: u64,
    /// Starts with any of these: what a test suffers.
    pub(crate) failed: u64,
}

impl Count {
    pub(crate) fn add(&mut self, outcome: Outcome) {
        self.starts += 1;
        match outcome {
            Outcome::NoPort => self.no_port += 1,
            Outcome::NotBound(_) => self.not_bound += 1,
            Outcome::Bound(Answer::Nobody) => self.unanswered += 1,
            Outcome::Bound(_) => {}
        }
        if let Outcome::NotBound(Answer::Stranger) | Outcome::Bound(Answer::Stranger) = outcome {
            self.wrong += 1;
        }
        if outcome != Outcome::Bound(Answer::Own) {
            self.failed += 1;
        }
    }

    pub(crate) fn failed_of_10_000(self) -> f64 {
        self.failed as f64 * 10_000.0 / self.starts as f64
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Count) {
        self.starts += other.starts;
        self.no_port += other.no_port;
        self.not_bound += other.not_bound;
        self.unanswered += other.unanswered;
        self.wrong += other.wrong;
        self.failed += other.failed;
    }
}

/// How it goes from process to process.
impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Count { starts, no_port, not_bound, unanswered, wrong, failed } = self;
        write!(f, "{starts} {no_port} {not_bound} {unanswered} {wrong} {failed}")
    }
}

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Count, String> {
        let numbers: Result<Vec<u64>, _> = text.split_whitespace().map(str::parse).collect();
        match numbers.as_deref() {
            Ok(&[starts, no_port, not_bound, unanswered, wrong, failed]) => {
                Ok(Count { starts, no_port, not_bound, unanswered, wrong, failed })
            }
            _ => Err(format!("not a count: {text:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_process_to_process() {
        let mut count = Count::default();
        for outcome in [
            Outcome::NoPort,
            Outcome::NotBound(Answer::Stranger),
            Outcome::NotBound(Answer::Nobody),
            Outcome::Bound(Answer::Own),
            Outcome::Bound(Answer::Nobody),
            Outcome::Bound(Answer::Stranger),
        ] {
            count.add(outcome);
        }
        let all = Count { starts: 6, no_port: 1, not_bound: 2, unanswered: 1, wrong: 2, failed: 5 };
        assert_eq!(count, all);
        assert_eq!(count.to_string().parse(), Ok(all));
        assert_eq!(Count { starts: 10_000, ..all }.failed_of_10_000(), 5.0);
        assert!("1 2".parse::<Count>().is_err());
    }
}
