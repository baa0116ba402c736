//! What a port costs, beside the kernel's floor (`bind(0)` and close) and the crates that pick ports.
//!
//! All contestants take turns, so that a change of the machine's speed hits all of them; ratios are to the
//! floor of the same turns. Whatever is measured is done by other processes than this one, which starts
//! them, and those that occupy ports meanwhile.
//!
//! - `turns`: take and release, by each contestant in turn; `crowd`: by many processes or threads at once.
//! - `occupancy`: who occupies a share of all ports that contestants pick from.
//! - `first`: the first port of a process.
//! - `operations`: many ports at once, blocks, the list, exhaustion.

mod crowd;
mod first;
mod occupancy;
mod operations;
mod turns;

use std::path::Path;

use portlease_peers::args::{Args, give_up};
use portlease_peers::peers::{FLOOR, Peer, SECOND_JOB};
use portlease_peers::percentiles::Percentiles;
use portlease_peers::picture::Picture;
use portlease_peers::report::Report;
use portlease_peers::table::{Cell, Table};
use portlease_peers::{alone, crew};

use self::occupancy::{Occupancy, Registry};

const USAGE: &str = "\
What a port costs, in microseconds.

  --rounds N      of turns (200); one is ten ports by each contestant
  --shares LIST   percent of the ports that are held meanwhile (0,50,90,99)
  --crowds LIST   processes, and then threads, at once (1,2,4,8,16,32,64)
  --only NAMES    of contestants, with commas; the floor is always one
  --json FILE     the tables once more
  --svg FILE      a picture of the cost against the share that is held
  --shared        in this network namespace: only leases are held then, no other ports";

fn main() {
    let role = crew::own_role();
    match &role.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => measure(&Args::parse(USAGE)),
        ["hold", what, share, first, step] => occupancy::hold(what, share, first, step),
        ["use-all", first, last] => occupancy::use_all(first, last),
        ["turns", rounds, names @ ..] => turns::take(rounds, names),
        ["crowd", name, threads, count] => crowd::member(name, threads, count),
        ["first", name] => first::take(name),
        ["operations", rounds] => operations::measure(rounds),
        other => give_up(format_args!("no such role: {other:?}")),
    }
}

fn measure(args: &Args) {
    let alone = !args.has("--shared") && alone::enter();
    let mut report = Report::begin("latency");
    report.note(alone::note(alone));
    let mut peers = Peer::chosen(args);
    if !peers.iter().any(|peer| peer.name == FLOOR) {
        peers.push(Peer::named(FLOOR));
    }
    let second_job = peers.iter().any(|peer| peer.is_ours()).then_some(SECOND_JOB);
    let in_turns: Vec<Peer> = peers.iter().copied().chain(second_job).collect();
    let rounds = args.value("--rounds", 200);
    let registry = Registry::create();
    registry.use_all_ports();

    let shares = args.list("--shares", &[0, 50, 90, 99]);
    let mut costs = Vec::new();
    for &share in &shares {
        registry.forget_usage();
        let _occupancy = Occupancy::of(share, alone, &registry);
        let title = format!("Take and release, {share} % of the ports held");
        let cost = turns::measure(&registry, rounds, &in_turns);
        report.table(turns::table(&title, &cost));
        costs.push(cost);
    }
    registry.use_all_ports();
    let cost = turns::measure(&registry, rounds.min(50), &peers);
    report.table(turns::table("Take and release, every port used within the last 10 s", &cost));

    if let Some(note) = first::note() {
        report.note(note);
    }
    report.table(first::table(&registry, &peers, rounds.min(100)));
    for &share in &shares {
        registry.forget_usage();
        let occupancy = Occupancy::of(share, alone, &registry);
        report.table(operations::table(&registry, share, rounds.min(100)));
        drop(occupancy);
    }
    let crowds = args.list("--crowds", &[1, 2, 4, 8, 16, 32, 64]);
    for kind in [crowd::Kind::Processes, crowd::Kind::Threads] {
        registry.forget_usage();
        for table in crowd::tables(kind, &registry, &crowds, &peers, rounds) {
            report.table(table);
        }
    }
    if let Some(path) = args.text("--svg") {
        draw(&shares, &in_turns, &costs, Path::new(path));
    }
    report.end(args);
}

/// What each contestant's ports cost, in microseconds.
type Costs = Vec<(Peer, Percentiles)>;

fn draw(shares: &[usize], peers: &[Peer], costs: &[Costs], path: &Path) {
    let line = |peer: &Peer| {
        let of = |costs: &Costs| {
            let cost = costs.iter().find(|(other, _)| other.name == peer.name);
            cost.map_or(f64::NAN, |(_, cost)| cost.p50)
        };
        let values = costs.iter().map(of);
        (peer.name.to_owned(), values.collect())
    };
    let picture = Picture {
        title: "Take and release one port, median",
        across: "percent of the ports held",
        upright: "microseconds",
        categories: shares.iter().map(ToString::to_string).collect(),
        lines: peers.iter().map(line).collect(),
    };
    picture.draw(path).unwrap_or_else(|error| give_up(format_args!("{}: {error}", path.display())));
}

/// Of the floor, among `costs`.
fn floor(costs: &Costs) -> f64 {
    let floor = costs.iter().find(|(peer, _)| peer.name == FLOOR);
    floor.map_or(f64::NAN, |(_, floor)| floor.p50)
}

/// A row of percentiles, and what its median is of the floor's.
fn percentile_row(name: &str, cost: Percentiles, floor: f64) -> [Cell; 6] {
    let [p50, p90, p99] = [cost.p50, cost.p90, cost.p99].map(|figure| Cell::figure(figure, 1));
    let ratio = Cell::figure(cost.p50 / floor, 2);
    [name.into(), Cell::Count(cost.count as u64), p50, p90, p99, ratio]
}

/// A table of such rows.
fn percentile_table(title: impl Into<String>) -> Table {
    Table::new(title, &["us", "n", "p50", "p90", "p99", "p50 of the floor's"])
}
