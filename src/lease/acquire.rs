//! How leases are taken: which ports are tried, in which order, and what is waited for.
//!
//! Only when all ports that were asked for are ours, records are written: what is let go before
//! that leaves no trace. And nobody ever waits for one port while holding another.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::candidate::{Effort, Grip, Outcome, Taker, cannot_hold};
use super::refusal::{self, Tally};
use super::{Lease, line, owner};
use crate::error::{Error, ErrorKind, Result};
use crate::range::PortSet;
use crate::registry::slot::Slot;
use crate::registry::table::Use;
use crate::registry::{Registry, Space, cannot};

/// How many ports that were released lately are passed over before the one of them that has rested
/// longest is taken after all.
///
/// Without a bound, each lease from a range whose ports were all used lately would look at all of
/// them. Of 64, the longest rested has rested for 98 % of the possible time, on average; and with
/// half of the ports resting, 64 of them are met before a rested one in one of 2^64 leases.
const MAX_RESTING: usize = 64;

/// How many ports may refuse the hold before those that were released lately are as good as any.
///
/// The marks do not tell of ports that another registry holds: each of them costs a third of a lease to find
/// out. Where it holds 99 of 100, and the free ones are all resting, nearly all ports would be asked for.
const MAX_PATIENCE: usize = 16;

/// Of how many ports the marks are read at once: of 10 000, that takes three times as long.
const AT_ONCE: u32 = 1024;

/// How many ports that refused the hold are tried once more, for TIME_WAIT.
const MAX_REFUSED: usize = 64;

/// How long a refusal is doubted: a socket that was closed while a sibling thread was spawning lives
/// on in the child until its exec.
const DOUBT: Duration = Duration::from_millis(200);

/// How long it is doubted if the port was used lately, or somebody locks its slot without having it
/// on record. On a busy machine, a child waits long for its exec, and who only looks for its next
/// turn (more than 200 ms with 40 runnable processes on two cores).
const LONG_DOUBT: Duration = Duration::from_secs(5);

/// What a wait is cut to that the clock cannot express.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// What is asked for.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) registry: Registry,
    pub(super) range: Option<PortSet>,
    pub(super) udp: bool,
    pub(super) label: Option<String>,
    pub(super) wait: Duration,
}

/// All that was asked for, or what stands against it: for any ports, the tally of the walk; for
/// exact ports, the first one that is busy.
type AllOr<T> = std::result::Result<Vec<Grip>, T>;

impl Request {
    pub(super) fn many(&self, count: usize) -> Result<Vec<Lease>> {
        let wanted = format!("{count} port{}", if count == 1 { "" } else { "s" });
        let possible = |ports: &PortSet| ports.len() as usize >= count;
        self.while_exhausted(&wanted, possible, |taker, ports| any(taker, ports, count))
    }

    pub(super) fn block(&self, count: u16) -> Result<Vec<Lease>> {
        let wanted = format!("{count} consecutive ports");
        let possible = |ports: &PortSet| ports.blocks(count, 0).next().is_some();
        self.while_exhausted(&wanted, possible, |taker, ports| consecutive(taker, ports, count))
    }

    pub(super) fn exact(&self, ports: &[u16]) -> Result<Vec<Lease>> {
        let start = Instant::now();
        let mut taker = Taker::new(&self.registry, self.udp)?;
        let mut waited_for = None;
        if let (false, Some(&first)) = (self.wait.is_zero(), ports.first()) {
            // Who is ready to wait does not get in before those who wait already.
            waited_for = Some(self.wait_for(&mut taker, first, start)?);
        }
        loop {
            match all_of(&mut taker, ports, waited_for.take())? {
                Ok(grips) => return Ok(self.leases(grips, &taker.space)),
                // By now, all others are let go.
                Err(busy) => waited_for = Some(self.wait_for(&mut taker, busy, start)?),
            }
        }
    }

    /// Tries, and while the range is exhausted, tries again until the wait is over.
    fn while_exhausted(
        &self,
        wanted: &str,
        possible: impl Fn(&PortSet) -> bool,
        attempt: impl Fn(&mut Taker<'_>, &PortSet) -> Result<AllOr<Tally>>,
    ) -> Result<Vec<Lease>> {
        let start = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            let mut taker = Taker::new(&self.registry, self.udp)?;
            let space = Arc::clone(&taker.space);
            let ports = self.range.as_ref().unwrap_or(&space.ports);
            if !possible(ports) {
                let message = format!(
                    "{wanted} cannot be leased from {ports}: it has {} ports, or no such run of \
                     them; widen the range",
                    ports.len()
                );
                return Err(Error::new(ErrorKind::InvalidInput, message));
            }
            let tally = match attempt(&mut taker, ports)? {
                Ok(grips) => return Ok(self.leases(grips, &taker.space)),
                Err(tally) => tally,
            };
            let patience = self.wait.max(tally.may_pass().map_or(Duration::ZERO, doubt));
            let left = patience.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Err(tally.exhausted(&self.registry, &taker.space, ports, wanted));
            }
            // Not in step with others who found the same.
            thread::sleep(pause.mul_f64(0.5 + f64::from(seed() as u16) / 65_536.0).min(left));
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    }

    /// Waits for one port, holding none: first for its slot, then for whoever else has it, another
    /// registry or a server that is shutting down.
    fn wait_for(&self, taker: &mut Taker<'_>, port: u16, start: Instant) -> Result<Grip> {
        let mut slot = self.slot_in_time(taker, port, start);
        if slot.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            taker.find_space_again()?; // the directory was removed meanwhile
            slot = self.slot_in_time(taker, port, start);
        }
        let path = taker.space.slot(port);
        let Some(slot) = slot.map_err(|error| cannot("lock", &path, error))? else {
            return Err(refusal::taken(&self.registry, port, self.wait, false));
        };
        let deadline = end_of(start, self.wait.max(doubt(taker.space.used_lately(port))));
        let mut pause = Duration::from_millis(1);
        loop {
            let error = match taker.hold(port, Effort::OverTimeWait) {
                Ok(hold) => return Ok(Grip { port, hold, slot }),
                Err(error) => error,
            };
            match error.kind() {
                io::ErrorKind::AddrInUse if Instant::now() < deadline => thread::sleep(pause),
                io::ErrorKind::AddrInUse => {
                    return Err(refusal::taken(&self.registry, port, self.wait, true));
                }
                io::ErrorKind::PermissionDenied => return Err(refusal::excluded(port, error)),
                _ => return Err(cannot_hold(port, error)),
            }
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    fn slot_in_time(
        &self,
        taker: &Taker<'_>,
        port: u16,
        start: Instant,
    ) -> io::Result<Option<Slot>> {
        let path = taker.space.slot(port);
        if !self.wait.is_zero() {
            line::wait(&path, end_of(start, self.wait))
        } else if owner::lives(&taker.space.holder(port)) {
            Ok(None)
        } else {
            // Who died with it has a watchdog that may keep it for long; who wrote nothing, has not.
            let fleeting = !taker.space.is_marked_taken(port);
            try_again(&path, end_of(start, doubt(fleeting)))
        }
    }

    fn leases(&self, grips: Vec<Grip>, space: &Arc<Space>) -> Vec<Lease> {
        let mut record = owner::record(self.label.as_deref());
        let lease = |grip: Grip| {
            record.port = grip.port;
            space.took(grip.port, &record);
            Lease::new(grip, Arc::clone(space))
        };
        grips.into_iter().map(lease).collect()
    }
}

/// Takes any `count` ports: rested ones; else those that have rested longest; else those whose last
/// holder may have died; at last those in TIME_WAIT.
fn any(taker: &mut Taker<'_>, ports: &PortSet, count: usize) -> Result<AllOr<Tally>> {
    let space = Arc::clone(&taker.space);
    let mut walk = Walk { wanted: count, ..Walk::default() };
    let mut resting = Vec::new();
    let mut taken = Vec::new();
    let seed = seed();
    'parts: for part in ports.parts(AT_ONCE, seed) {
        let marks = space.marks(&part);
        for port in part.shuffled(seed) {
            if walk.is_done() {
                break 'parts;
            }
            match marks.of(port) {
                Use::Rested => walk.take(taker, port, Effort::Plain)?,
                Use::Resting(age) => resting.push((age, port)),
                Use::Taken => taken.push(port),
            }
            if resting.len() >= MAX_RESTING || walk.refused.len() >= MAX_PATIENCE {
                walk.take_longest_rested(taker, &mut resting)?;
            }
        }
    }
    walk.take_longest_rested(taker, &mut resting)?;
    walk.take_all(taker, taken, Effort::Plain)?;
    let refused = std::mem::take(&mut walk.refused);
    walk.take_all(taker, refused, Effort::OverTimeWait)?;
    Ok(if walk.is_done() { Ok(walk.grips) } else { Err(walk.tally) })
}

/// Takes `count` ports in a row: rested ones, else any, else over TIME_WAIT.
fn consecutive(taker: &mut Taker<'_>, ports: &PortSet, count: u16) -> Result<AllOr<Tally>> {
    let space = Arc::clone(&taker.space);
    let marks = space.marks(ports);
    let seed = seed();
    let mut tally = Tally::default();
    let passes = [(true, Effort::Plain), (false, Effort::Plain), (false, Effort::OverTimeWait)];
    for (only_rested, effort) in passes {
        tally = Tally::default();
        let mut obstacle = None;
        for first in ports.blocks(count, seed) {
            let block = first..=first + count.saturating_sub(1);
            // Every block that contains the port which refused would fail likewise.
            if obstacle.is_some_and(|port| block.contains(&port)) {
                continue;
            }
            // The last of them, which is in the most of the blocks to come.
            let tired = block.clone().rfind(|&port| only_rested && marks.of(port) != Use::Rested);
            if tired.is_some() {
                obstacle = tired;
                continue;
            }
            let mut grips = Vec::new();
            for port in block.take(usize::from(count)) {
                obstacle = Some(port);
                match taker.take(port, effort)? {
                    Outcome::Taken(grip) => grips.push(grip),
                    refused => {
                        tally.count(refused);
                        break;
                    }
                }
            }
            if grips.len() == usize::from(count) {
                return Ok(Ok(grips));
            }
        }
    }
    Ok(Err(tally))
}

/// A walk through a range, for any ports of it.
#[derive(Default)]
struct Walk {
    wanted: usize,
    grips: Vec<Grip>,
    refused: Vec<u16>,
    tally: Tally,
}

impl Walk {
    fn is_done(&self) -> bool {
        self.grips.len() >= self.wanted
    }

    fn take(&mut self, taker: &mut Taker<'_>, port: u16, effort: Effort) -> Result<()> {
        let may_be_time_wait = effort == Effort::Plain && self.refused.len() < MAX_REFUSED;
        match taker.take(port, effort)? {
            Outcome::Taken(grip) => self.grips.push(grip),
            Outcome::InUse { .. } if may_be_time_wait => self.refused.push(port),
            refused => self.tally.count(refused),
        }
        Ok(())
    }

    fn take_all(&mut self, taker: &mut Taker<'_>, ports: Vec<u16>, effort: Effort) -> Result<()> {
        for port in ports {
            if self.is_done() {
                break;
            }
            self.take(taker, port, effort)?;
        }
        Ok(())
    }

    fn take_longest_rested(
        &mut self,
        taker: &mut Taker<'_>,
        resting: &mut Vec<(u32, u16)>,
    ) -> Result<()> {
        resting.sort_unstable_by_key(|&(age, _)| std::cmp::Reverse(age));
        let ports = std::mem::take(resting).into_iter().map(|(_, port)| port).collect();
        self.take_all(taker, ports, Effort::Plain)
    }
}

/// Takes all of `ports`, of which `ours` is taken already, or says which one is busy.
fn all_of(taker: &mut Taker<'_>, ports: &[u16], mut ours: Option<Grip>) -> Result<AllOr<u16>> {
    let mut grips = Vec::new();
    for &port in ports {
        if let Some(grip) = ours.take_if(|grip| grip.port == port) {
            grips.push(grip);
            continue;
        }
        match taker.take(port, Effort::OverTimeWait)? {
            Outcome::Taken(grip) => grips.push(grip),
            Outcome::Excluded(error) => return Err(refusal::excluded(port, error)),
            Outcome::Unusable(error) => {
                return Err(cannot("lock", &taker.space.slot(port), error).with_port(port));
            }
            Outcome::Leased { .. } | Outcome::InUse { .. } => return Ok(Err(port)),
        }
    }
    Ok(Ok(grips))
}

fn try_again(path: &Path, deadline: Instant) -> io::Result<Option<Slot>> {
    loop {
        match Slot::try_lock(path)? {
            None if Instant::now() < deadline => thread::sleep(Duration::from_millis(1)),
            other => return Ok(other),
        }
    }
}

fn end_of(start: Instant, wait: Duration) -> Instant {
    start.checked_add(wait).unwrap_or(start + FOR_EVER)
}

/// How long to doubt that a port is not to be had, if it is likely or not that this passes.
fn doubt(likely_passes: bool) -> Duration {
    if likely_passes { LONG_DOUBT } else { DOUBT }
}

fn seed() -> u64 {
    RandomState::new().hash_one(0)
}
