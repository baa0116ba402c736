//! Take a port, let it go; by each contestant in turn, in one process.

use std::hint::black_box;
use std::time::{Duration, Instant};

use portlease_peers::crew;
use portlease_peers::peers::Peer;
use portlease_peers::percentiles::{Percentiles, micros};
use portlease_peers::table::Table;

use crate::occupancy::Registry;
use crate::{Costs, floor, percentile_row, percentile_table};

/// Ports in a turn: so few that all of them meet the same machine, so many that what the contestant before left in
/// the caches does not count. Each is timed alone, at some 0.03 us for the clock.
const PER_TURN: usize = 10;

/// How long all of them may take on the busiest machine.
const AT_MOST: Duration = Duration::from_secs(1800);

/// The role of the process that does it. Prints a line of microseconds for each contestant.
pub(crate) fn take(rounds: &str, names: &[&str]) {
    let peers: Vec<Peer> = names.iter().map(|name| Peer::named(name)).collect();
    crew::wait_for_go();
    let mut times = vec![Vec::new(); peers.len()];
    for _ in 0..rounds.parse().expect("a number") {
        for (peer, times) in peers.iter().zip(&mut times) {
            times.extend((0..PER_TURN).map(|_| take_and_release(*peer)));
        }
    }
    for times in times {
        println!("{}", line_of(&times));
    }
}

/// In microseconds.
pub(crate) fn take_and_release(peer: Peer) -> f64 {
    let start = Instant::now();
    drop(black_box(peer.pick()));
    micros(start.elapsed())
}

/// Of each of `peers`, as things stand.
pub(crate) fn measure(registry: &Registry, rounds: usize, peers: &[Peer]) -> Costs {
    let rounds = rounds.to_string();
    let names = peers.iter().map(|peer| peer.name);
    let arguments: Vec<&str> = ["turns", &rounds].into_iter().chain(names).collect();
    let output = crew::output(registry.adopt(&mut crew::role(&arguments)), AT_MOST);
    let times = output.lines().map(|line| Percentiles::of(numbers(line)));
    peers.iter().copied().zip(times).collect()
}

pub(crate) fn table(title: &str, costs: &Costs) -> Table {
    let mut table = percentile_table(title);
    for &(peer, cost) in costs {
        table.row(percentile_row(peer.name, cost, floor(costs)));
    }
    table
}

/// How measurements go from process to process.
pub(crate) fn line_of(times: &[f64]) -> String {
    times.iter().map(|time| format!("{time:.2}")).collect::<Vec<_>>().join(" ")
}

/// The measurements of a line.
pub(crate) fn numbers(line: &str) -> Vec<f64> {
    line.split_whitespace().map(|number| number.parse().expect("a number")).collect()
}
