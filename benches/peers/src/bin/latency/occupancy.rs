//! A share of the ports that contestants pick from, held by others.
//!
//! Each contestant has its own ports: portpicker and openport 15000 to 24999, reserve-port 8000 to 15998, the
//! kernel and all who ask it its ephemeral ports, we a range that is free of these. The same share of each is
//! held: ours by leases of other processes, the others by sockets that listen.
//!
//! Leases of one registry pass over each other's ports without a look at the kernel. What a second CI job pays, whose
//! registry knows nothing of these leases, is measured beside it.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use portlease::Lease;
use portlease_peers::crew::{self, Crew};
use portlease_peers::peers::SECOND_DIR;
use tempfile::TempDir;

/// Ours, below the kernel's and above the peers'.
pub(crate) const OURS: RangeInclusive<u16> = 25_000..=32_767;

/// From the lowest that a peer scans to the highest.
const SCANNED: RangeInclusive<u16> = 8_000..=24_999;

/// How long it may take to have all ports once, on the busiest machine.
const AT_MOST: Duration = Duration::from_secs(300);

/// A registry that goes with its directory, and that of a second job, in which nothing is held.
#[derive(Debug)]
pub(crate) struct Registry {
    dir: TempDir,
}

impl Registry {
    pub(crate) fn create() -> Registry {
        Registry { dir: crew::scratch() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("registry")
    }

    fn second(&self) -> PathBuf {
        self.dir.path().join("second")
    }

    /// Lets `command` lease from it.
    pub(crate) fn adopt<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let range = format!("{}-{}", OURS.start(), OURS.end());
        command.env("PORTLEASE_DIR", self.path()).env(SECOND_DIR, self.second());
        command.env("PORTLEASE_RANGE", range)
    }

    /// Leases each port once: its slot exists from then on, and it has been used lately. First in the second
    /// registry, since the two would be in each other's way.
    pub(crate) fn use_all_ports(&self) {
        for dir in [self.second(), self.path()] {
            let [first, last] = [OURS.start(), OURS.end()].map(ToString::to_string);
            let mut command = crew::role(&["use-all", &first, &last]);
            crew::output(self.adopt(&mut command).env("PORTLEASE_DIR", dir), AT_MOST);
        }
    }

    /// Makes all ports look as if they had never been used.
    pub(crate) fn forget_usage(&self) {
        for dir in [self.path(), self.second()] {
            for space in fs::read_dir(dir).expect("a registry") {
                let table = space.expect("an entry").path().join("table");
                fs::write(table, "").expect("a table that can be emptied");
            }
        }
    }
}

/// The role of the process that leases each port once.
pub(crate) fn use_all(first: &str, last: &str) {
    let [first, last] = [first, last].map(|port| port.parse().expect("a port"));
    crew::wait_for_go();
    for port in first..=last {
        drop(Lease::builder().exact(port).lease());
    }
}

/// A share of the ports, held until this is dropped.
#[derive(Debug)]
pub(crate) struct Occupancy {
    _holders: Crew,
}

impl Occupancy {
    /// Of so many percent; where we are not alone, of our own ports only.
    pub(crate) fn of(share: usize, alone: bool, registry: &Registry) -> Occupancy {
        let share_text = share.to_string();
        let mut holders = Crew::default();
        let mut hold = |what: &str, count: usize| {
            let members = count.div_ceil(descriptors());
            for first in 0..members {
                let (first, step) = (first.to_string(), members.to_string());
                let mut command = crew::role(&["hold", what, &share_text, &first, &step]);
                holders.add(registry.adopt(&mut command)).expect("a process");
            }
        };
        if share > 0 {
            hold("leases", OURS.len() * 2); // a lease takes two descriptors
            if alone {
                hold("sockets", SCANNED.len() + ephemeral().len());
            }
        }
        holders.go();
        holders.wait_until_said(AT_MOST);
        Occupancy { _holders: holders }
    }
}

/// The role of a process that holds every `step`th of the ports, from the one at `first`, as far as they
/// belong to the share.
pub(crate) fn hold(what: &str, share: &str, first: &str, step: &str) {
    let [share, first, step] = [share, first, step].map(|text| text.parse().expect("a number"));
    crew::wait_for_go();
    let mine = |ports: Vec<u16>| {
        let ports = ports.into_iter().filter(move |&port| is_held(port, share));
        ports.skip(first).step_by(step)
    };
    let (mut leases, mut sockets) = (Vec::new(), Vec::new());
    if what == "leases" {
        for port in mine(OURS.collect()) {
            leases.push(Lease::builder().exact(port).lease().expect("a lease"));
        }
    } else {
        for port in mine(SCANNED.chain(ephemeral()).collect()) {
            sockets.push(TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("a port"));
        }
    }
    println!("held");
    loop {
        std::thread::park(); // until the input ends
    }
}

/// Whether `port` belongs to a share of so many percent. Scattered, and the same ones in each run; those of
/// a small share belong to the larger ones too.
fn is_held(port: u16, share: usize) -> bool {
    let scattered = u32::from(port).wrapping_mul(2_654_435_761) >> 8; // Knuth's multiplier
    (scattered % 100) < share as u32
}

/// What a process can hold, with some left for its own needs.
fn descriptors() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3)?.parse::<usize>().ok());
    soft.unwrap_or(1024).clamp(256, 10_000) - 100
}

fn ephemeral() -> RangeInclusive<u16> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut bounds = text.split_whitespace().filter_map(|bound| bound.parse().ok());
    bounds.next().unwrap_or(32_768)..=bounds.next().unwrap_or(60_999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_about_that_share() {
        for share in [0, 50, 90, 99, 100] {
            let held = OURS.filter(|&port| is_held(port, share)).count();
            let percent = held as f64 * 100.0 / OURS.len() as f64;
            assert!((percent - share as f64).abs() < 1.0, "{percent} of {share}");
        }
    }
}
