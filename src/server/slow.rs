//! When a start is said to be slow. Pure: no clock of its own.

use std::time::Duration;

/// After how long, and how often then.
const FIRST: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_secs(5);

/// Of one start.
#[derive(Debug)]
pub(super) struct Slow {
    next: Duration,
}

impl Default for Slow {
    fn default() -> Slow {
        Slow { next: FIRST }
    }
}

impl Slow {
    /// Whether it is to be said, after so long.
    pub(super) fn is_due(&self, elapsed: Duration) -> bool {
        elapsed >= self.next
    }

    pub(super) fn said(&mut self, elapsed: Duration) {
        self.next = elapsed + AGAIN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_after_2_s_and_then_every_5() {
        let mut slow = Slow::default();
        let said: Vec<u64> = (0..200)
            .map(|tenths| tenths * 100)
            .filter(|&millis| {
                let elapsed = Duration::from_millis(millis);
                let is_due = slow.is_due(elapsed);
                if is_due {
                    slow.said(elapsed);
                }
                is_due
            })
            .collect();
        assert_eq!(said, [2_000, 7_000, 12_000, 17_000]);
    }
}
