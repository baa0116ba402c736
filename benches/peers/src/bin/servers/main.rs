//! What a server costs over its own time: its start, the wait until it is ready, and its stop; beside a bare
//! spawn, loops that poll, and the crates that do some of it.
//!
//! The contestants take turns, so that a change of the machine's speed hits all of them. The servers are this
//! very program, and Redis where it is installed.
//!
//! - `child`: the server, and those of its kind that are late, silent or stubborn.
//! - `guard`: who ends Redis if this program is killed.
//! - `starts`, `readiness`, `stops`, `redis`: a table each.

mod child;
mod guard;
mod readiness;
mod redis;
mod starts;
mod stops;

use std::time::Duration;

use portlease_peers::args::Args;
use portlease_peers::percentiles::{Percentiles, millis};
use portlease_peers::report::Report;
use portlease_peers::table::{Cell, Table};
use portlease_peers::{crew, patience};

/// By its number, as process-wrap takes it.
const SIGTERM: i32 = 15;

const USAGE: &str = "\
What a server costs over its own time, in milliseconds.

  --rounds N      in which all contestants take turns (100); of what takes long, 50, 30 or 20 %
  --minutes N     after which it gives up (30)
  --json FILE     the tables once more";

fn main() {
    match crew::own_role().first().map(String::as_str) {
        Some("guard") => return guard::run(),
        Some(role) => child::serve(role),
        None => {}
    }
    let args = Args::parse(USAGE);
    patience::limit(Duration::from_secs(args.value("--minutes", 30) * 60));
    let rounds: usize = args.value("--rounds", 100);
    // What takes long is done less often, but by default 20 times.
    let percent = |share: usize| (rounds * share).div_ceil(100);
    let mut report = Report::begin("servers");
    report.table(starts::table(10, rounds));
    report.table(starts::table(500, rounds));
    report.table(readiness::table(percent(30)));
    report.table(readiness::cpu_table(percent(20)));
    report.table(stops::table(rounds));
    report.table(stops::stubborn_table(percent(20)));
    match redis::tables(percent(50)) {
        Some(tables) => tables.into_iter().for_each(|table| report.table(table)),
        None => report.note("Redis is not installed: no table of it."),
    }
    report.end(&args);
}

/// The times of one contestant, in milliseconds.
#[derive(Debug)]
struct Times {
    name: String,
    values: Vec<f64>,
}

/// Who is told which turn it is, and says how long it took.
type Contestant<'a> = (&'a str, &'a dyn Fn(usize) -> Duration);

/// Lets each have its turn in each round.
fn turns(rounds: usize, contestants: &[Contestant<'_>]) -> Vec<Times> {
    let times = |&(name, _): &Contestant<'_>| Times { name: name.to_owned(), values: Vec::new() };
    let mut all: Vec<Times> = contestants.iter().map(times).collect();
    for turn in 0..rounds {
        for ((_, measure), times) in contestants.iter().zip(&mut all) {
            times.values.push(millis(measure(turn)));
        }
    }
    all
}

/// The first of `all` is what the others are compared with: by how much their median is more, and how many
/// times it is.
fn table_of(title: impl Into<String>, all: Vec<Times>) -> Table {
    let columns = ["ms", "n", "p50", "p90", "p99", "p50 over the first's", "times the first's"];
    let mut table = Table::new(title, &columns);
    let mut first = None;
    for Times { name, values } in all {
        let times = Percentiles::of(values);
        let first = *first.get_or_insert(times.p50);
        let figures = [times.p50, times.p90, times.p99, times.p50 - first];
        let cells = figures.map(|figure| Cell::figure(figure, 2));
        let ratio = Cell::figure(times.p50 / first, 3);
        let head = [Cell::Text(name), Cell::Count(times.count as u64)];
        table.row(head.into_iter().chain(cells).chain([ratio]));
    }
    table
}
