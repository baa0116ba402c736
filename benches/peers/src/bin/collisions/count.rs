//! What became of many starts.

use std::fmt;
use std::ops::AddAssign;
use std::str::FromStr;

use crate::start::{Answer, Outcome};

/// How often what happened.
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
    }

    /// Starts after which a test could not go on.
    pub(crate) fn failed(self) -> u64 {
        self.no_port + self.not_bound + self.unanswered
    }

    pub(crate) fn failed_of_10_000(self) -> f64 {
        self.failed() as f64 * 10_000.0 / self.starts as f64
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Count) {
        self.starts += other.starts;
        self.no_port += other.no_port;
        self.not_bound += other.not_bound;
        self.unanswered += other.unanswered;
        self.wrong += other.wrong;
    }
}

/// How it goes from process to process.
impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Count { starts, no_port, not_bound, unanswered, wrong } = self;
        write!(f, "{starts} {no_port} {not_bound} {unanswered} {wrong}")
    }
}

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Count, String> {
        let numbers: Result<Vec<u64>, _> = text.split_whitespace().map(str::parse).collect();
        match numbers.as_deref() {
            Ok(&[starts, no_port, not_bound, unanswered, wrong]) => {
                Ok(Count { starts, no_port, not_bound, unanswered, wrong })
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
        ] {
            count.add(outcome);
        }
        let all = Count { starts: 5, no_port: 1, not_bound: 2, unanswered: 1, wrong: 1 };
        assert_eq!(count, all);
        assert_eq!(count.to_string().parse(), Ok(all));
        assert_eq!(count.failed_of_10_000(), 8_000.0);
        assert!("1 2".parse::<Count>().is_err());
    }
}
