//! Many processes, or threads, that take and release at the same time.

use std::fmt;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use portlease_peers::crew::{self, Crew};
use portlease_peers::peers::Peer;
use portlease_peers::percentiles::Percentiles;
use portlease_peers::table::{Cell, Table};

use crate::occupancy::Registry;
use crate::turns::{line_of, numbers, take_and_release};
use crate::{Costs, floor};

const AT_MOST: Duration = Duration::from_secs(600);

/// Ports that each member takes in a round: so many that all members are at it at the same time.
const EACH: usize = 10;

/// What there are many of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Processes,
    Threads,
}

/// The role of a process in it: so many threads take so many ports each. Prints the microseconds of each.
pub(crate) fn member(name: &str, threads: &str, count: &str) {
    let peer = Peer::named(name);
    let [threads, count] = [threads, count].map(|text| text.parse().expect("a number"));
    let ready = Barrier::new(threads);
    drop(peer.pick()); // the first of a process has a table of its own
    crew::wait_for_go();
    let take = || {
        ready.wait();
        (0..count).map(|_| take_and_release(peer)).collect::<Vec<_>>()
    };
    let times = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(take)).collect();
        threads.into_iter().flat_map(|it| it.join().expect("a thread")).collect::<Vec<_>>()
    });
    println!("{}", line_of(&times));
}

/// The medians, with what ours is of the floor's; and the 99th percentiles.
pub(crate) fn tables(
    kind: Kind,
    registry: &Registry,
    crowds: &[usize],
    peers: &[Peer],
    rounds: usize,
) -> [Table; 2] {
    let columns: Vec<String> = crowds.iter().map(ToString::to_string).collect();
    let columns: Vec<&str> = ["us"].into_iter().chain(columns.iter().map(String::as_str)).collect();
    let mut medians = Table::new(format!("Take and release, {kind} at once, p50"), &columns);
    let mut tails = Table::new(format!("Take and release, {kind} at once, p99"), &columns);
    let of_crowd = |&crowd| of(kind, crowd, registry, peers, rounds);
    let costs: Vec<Costs> = crowds.iter().map(of_crowd).collect();
    for (index, peer) in peers.iter().enumerate() {
        let row = |figures: Vec<f64>| {
            let cells = figures.into_iter().map(|figure| Cell::figure(figure, 1));
            [peer.name.into()].into_iter().chain(cells)
        };
        medians.row(row(costs.iter().map(|costs| costs[index].1.p50).collect()));
        tails.row(row(costs.iter().map(|costs| costs[index].1.p99).collect()));
    }
    let ratio = |costs: &Costs| {
        let ours = costs.iter().find(|(peer, _)| peer.is_ours());
        Cell::figure(ours.map_or(f64::NAN, |(_, cost)| cost.p50) / floor(costs), 2)
    };
    let label: Cell = "portlease's of the floor's".into();
    medians.row([label].into_iter().chain(costs.iter().map(ratio)));
    [medians, tails]
}

/// Each of `peers` in turn.
fn of(kind: Kind, crowd: usize, registry: &Registry, peers: &[Peer], rounds: usize) -> Costs {
    let cost = |&peer: &Peer| {
        let (processes, threads) = match kind {
            Kind::Processes => (crowd, 1),
            Kind::Threads => (1, crowd),
        };
        let (threads, rounds) = (threads.to_string(), (rounds * EACH).to_string());
        let mut crew = Crew::default();
        for _ in 0..processes {
            let mut command = crew::role(&["crowd", peer.name, &threads, &rounds]);
            crew.add(registry.adopt(&mut command)).expect("a process");
        }
        crew.go();
        let outputs = crew.results(AT_MOST);
        (peer, Percentiles::of(outputs.iter().flat_map(|output| numbers(output)).collect()))
    };
    peers.iter().map(cost).collect()
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Processes => "processes",
            Kind::Threads => "threads",
        })
    }
}
