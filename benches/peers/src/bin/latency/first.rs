//! The first port of a fresh process, by each contestant in turn.
//!
//! Ours as it comes, without any variable: it finds its directory, and reads from `/proc/sys` which ports it may
//! take. That directory is in `/tmp`, so the process has a `/tmp` of its own. Once all ports have been used before,
//! and once nobody has ever leased one: then it also makes the directory, and the port's file.

use std::hint::black_box;
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::time::{Duration, Instant};

use portlease_peers::crew;
use portlease_peers::peers::{FLOOR, Peer};
use portlease_peers::percentiles::{Percentiles, micros};
use portlease_peers::table::Table;

use crate::occupancy::Registry;
use crate::turns::numbers;
use crate::{percentile_row, percentile_table};

const AT_MOST: Duration = Duration::from_secs(120);

/// The role of a process that leases each port once that we lease by default.
const USE_ALL: [&str; 3] = ["use-all", "20000", "29999"];

/// What runs this program in a `/tmp` of its own. It is opened before, because it may be in the old one; and not by
/// its path, which another user may not be able to follow.
const SCRIPT: &str =
    "exec 3<\"$0\" && mount --bind \"$1\" /tmp && shift && exec /proc/self/fd/3 \"$@\"";

/// Where a process looks for its registry.
#[derive(Clone, Copy, Debug)]
enum Place<'a> {
    /// Variables say where, and which ports.
    Said(&'a Registry),
    /// In this `/tmp`.
    Tmp(&'a Path),
    /// In a `/tmp` in which there is nothing.
    EmptyTmp,
}

impl Place<'_> {
    /// What this program prints in a role.
    fn output(self, role: &[&str]) -> String {
        match self {
            Place::Said(registry) => crew::output(registry.adopt(&mut crew::role(role)), AT_MOST),
            Place::Tmp(tmp) => crew::output(&mut in_tmp(tmp, role), AT_MOST),
            Place::EmptyTmp => crew::output(&mut in_tmp(crew::scratch().path(), role), AT_MOST),
        }
    }
}

/// This program in a role, in a mount namespace in which `tmp` is `/tmp`.
fn in_tmp(tmp: &Path, role: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    let this = format!("/proc/{}/exe", process::id());
    command.args(["--mount", "sh", "-c", SCRIPT, &this]).arg(tmp).args(role);
    command.env_remove("PORTLEASE_DIR").env_remove("PORTLEASE_RANGE");
    command
}

/// Whether mounts are allowed here, as to root, and in a user namespace of one's own.
fn may_have_own_tmp() -> bool {
    let mut command = Command::new("unshare");
    command.args(["--mount", "mount", "--bind", "/tmp", "/tmp"]).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The role of a process that takes its first port, and says how long that took.
pub(crate) fn take(name: &str) {
    let peer = Peer::named(name);
    crew::wait_for_go();
    let start = Instant::now();
    let picked = black_box(peer.pick());
    let time = start.elapsed();
    drop(picked);
    println!("{}", micros(time));
}

pub(crate) fn table(registry: &Registry, peers: &[Peer], rounds: usize) -> Table {
    let tmp = crew::scratch();
    let mut contestants = Vec::new();
    for peer in peers {
        if peer.is_ours() && may_have_own_tmp() {
            let used = Place::Tmp(tmp.path());
            used.output(&USE_ALL);
            contestants.push((peer.name, peer, used));
            contestants.push(("portlease, the first ever", peer, Place::EmptyTmp));
            contestants.push(("portlease, told all by variables", peer, Place::Said(registry)));
        } else {
            contestants.push((peer.name, peer, Place::Said(registry)));
        }
    }
    let mut times = vec![Vec::new(); contestants.len()];
    for _ in 0..rounds {
        for ((_, peer, place), times) in contestants.iter().zip(&mut times) {
            times.extend(numbers(&place.output(&["first", peer.name])));
        }
    }
    let costs: Vec<_> = times.into_iter().map(Percentiles::of).collect();
    let named = || contestants.iter().map(|(name, ..)| *name).zip(&costs);
    let floor = named().find(|(name, _)| *name == FLOOR).map_or(f64::NAN, |(_, floor)| floor.p50);
    let mut table = percentile_table("The first port of a fresh process");
    named().for_each(|(name, cost)| table.row(percentile_row(name, *cost, floor)));
    table
}

/// What a reader has to know if ours cannot be measured as it comes.
pub(crate) fn note() -> Option<&'static str> {
    let note = "The first port of a fresh process: ours told all by variables only, since no process may \
                have a /tmp of its own here.";
    (!may_have_own_tmp()).then_some(note)
}
