//! Why there is no lease, in words: what was asked for, what was seen, what to do.

use std::collections::HashMap;
use std::io;
use std::process;
use std::time::Duration;

use super::candidate::Outcome;
use crate::diagnose;
use crate::diagnosis::Cause;
use crate::error::{Error, ErrorKind};
use crate::holder::Holder;
use crate::range::PortSet;
use crate::registry::{Registry, Space, cannot};
use crate::sys;

/// How many holders are named.
const NAMED_HOLDERS: usize = 3;

/// Why the candidates of a walk through a range were not taken.
#[derive(Debug, Default)]
pub(super) struct Tally {
    leased: u32,
    in_use: u32,
    lately: bool,
    fleeting: bool,
    excluded: u32,
    unusable: u32,
    first_unusable: Option<io::Error>,
}

impl Tally {
    pub(super) fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Leased { marked } => {
                self.leased += 1;
                self.fleeting |= !marked;
            }
            Outcome::InUse { lately } => {
                self.in_use += 1;
                self.lately |= lately;
            }
            Outcome::Excluded(_) => self.excluded += 1,
            Outcome::Unusable(error) => {
                self.unusable += 1;
                self.first_unusable.get_or_insert(error);
            }
            Outcome::Taken(_) => {} // cannot be: no refusal
        }
    }

    /// Whether something stands in the way that may be over in a moment: a port in use, or a slot
    /// that is locked by somebody who wrote nothing down, because he only looks, or is not done.
    /// And if so, whether that is likely: it is such a slot, or a port that was used lately.
    pub(super) fn may_pass(&self) -> Option<bool> {
        (self.in_use > 0 || self.fleeting).then_some(self.lately || self.fleeting)
    }

    /// The whole of `ports` was tried, and `wanted` ("2 ports") were not to be had.
    pub(super) fn exhausted(
        self,
        registry: &Registry,
        space: &Space,
        ports: &PortSet,
        wanted: &str,
    ) -> Error {
        let Tally { leased, in_use, excluded, unusable, first_unusable, .. } = self;
        if let (0, 0, 0, Some(error)) = (leased, in_use, excluded, &first_unusable) {
            let error = io::Error::new(error.kind(), error.to_string());
            return cannot("lock any slot in", space.path(), error);
        }
        let reasons = [
            (leased, "leased"),
            (in_use, "in use by programs that did not lease them"),
            (excluded, "excluded by the system"),
            (unusable, "with a slot that cannot be used"),
        ];
        let seen = reasons.iter().filter(|(count, _)| *count > 0);
        let seen: Vec<_> = seen.map(|(count, reason)| format!("{count} {reason}")).collect();
        let count = match ports.len() {
            1 => "1 port".to_owned(),
            count => format!("{count} ports"),
        };
        let mut message =
            format!("failed to lease {wanted} of {ports} ({count}): found {}", seen.join(", "));
        if let Some(error) = first_unusable {
            message.push_str(&format!(" ({error})"));
        }
        for (count, holder) in largest_holders(registry, ports) {
            message.push_str(&format!("\n  {count} leased by {holder}"));
        }
        message.push_str(match leased + in_use {
            0 => "\n  take another range",
            _ => "\n  release some, wait for one with `LeaseBuilder::wait`, or widen the range",
        });
        message.push_str(" (in code, or with PORTLEASE_RANGE)");
        Error::new(ErrorKind::Exhausted, message)
    }
}

fn largest_holders(registry: &Registry, ports: &PortSet) -> Vec<(usize, Holder)> {
    let mut by_process: HashMap<_, (usize, Holder)> = HashMap::new();
    for holder in registry.holders(|port| ports.contains(port)).unwrap_or_default() {
        let process = (holder.pid(), holder.process_start());
        by_process.entry(process).or_insert((0, holder)).0 += 1;
    }
    let mut holders: Vec<_> = by_process.into_values().collect();
    holders.sort_by_key(|(count, holder)| (usize::MAX - count, holder.port()));
    holders.truncate(NAMED_HOLDERS);
    holders
}

/// An exact port that is leased, or, if its slot is `ours`, whose bind the kernel refuses.
pub(super) fn taken(registry: &Registry, port: u16, waited: Duration, ours: bool) -> Error {
    let diagnosis = diagnose::look(port, Some(registry).filter(|_| !ours));
    let what = match diagnosis.cause() {
        Cause::Free => "was in use a moment ago, and is free now; ask again".to_owned(),
        Cause::TimeWait => {
            "was in use a moment ago, and is to be had within a minute (`LeaseBuilder::wait`)"
                .to_owned()
        }
        _ if ours => format!("is {}, and not leased from this registry", diagnosis.summary()),
        _ => format!("is {}", diagnosis.summary()),
    };
    let mut message = format!("failed to lease port {port}: it {what}");
    if !waited.is_zero() {
        message.push_str(&format!("; waited {:.1} s for it", waited.as_secs_f64()));
        let held = registry.list().unwrap_or_default();
        let others = held.iter().filter(|holder| is_this_process(holder) && holder.port() != port);
        let others: Vec<_> = others.map(|holder| holder.port().to_string()).collect();
        if !others.is_empty() {
            message.push_str(&format!(
                ". Meanwhile this process holds {}: two who take the same ports in different orders \
                 wait for each other; take them in ascending order, or in one call",
                others.join(", ")
            ));
        }
    }
    Error::new(ErrorKind::PortTaken, message).with_diagnosis(diagnosis)
}

fn is_this_process(holder: &Holder) -> bool {
    holder.pid() == Some(process::id())
}

/// A port that the system keeps from this process, for whatever reason but that it is in use.
pub(super) fn excluded(port: u16, error: io::Error) -> Error {
    let mut message =
        format!("failed to lease port {port}: the system does not let this process bind it");
    if let Some(why) = sys::why_excluded(port) {
        message.push_str(&format!("; {why}"));
    }
    if port >= 1024 {
        message.push_str("; let any port be chosen");
    }
    Error::new(ErrorKind::PortExcluded, message).with_port(port).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_over_in_a_moment() {
        let check = |outcomes: Vec<Outcome>, expected: Option<bool>| {
            let mut tally = Tally::default();
            outcomes.into_iter().for_each(|outcome| tally.count(outcome));
            assert_eq!(tally.may_pass(), expected);
        };
        let in_use = |lately| Outcome::InUse { lately };
        let leased = |marked| Outcome::Leased { marked };
        let excluded = || Outcome::Excluded(io::ErrorKind::PermissionDenied.into());
        check(vec![], None);
        check(vec![leased(true), excluded()], None);
        check(vec![leased(false), leased(true)], Some(true));
        check(vec![in_use(false), leased(true)], Some(false));
        check(vec![in_use(true), in_use(false)], Some(true));
    }
}
