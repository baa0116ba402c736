//! What else is asked of a registry than one port after the other. What is taken is let go outside of the time.

use std::hint::black_box;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use portlease::{Lease, Registry as Ports};
use portlease_peers::crew;
use portlease_peers::percentiles::{Percentiles, micros};
use portlease_peers::table::Table;

use crate::occupancy::Registry;
use crate::turns::{line_of, numbers};
use crate::{percentile_row, percentile_table};

const AT_MOST: Duration = Duration::from_secs(600);

/// The role of a process that prints a line of microseconds for each of `NAMES`, and one for the floor of each.
pub(crate) fn measure(rounds: &str) {
    crew::wait_for_go();
    let ports = Ports::global().expect("a registry");
    let mut times = vec![Vec::new(); NAMES.len()];
    for _ in 0..rounds.parse().expect("a number") {
        let done = [
            timed(|| bind(1)),
            timed(|| Lease::builder().lease()),
            timed(|| bind(10)),
            timed(|| Lease::builder().lease_many(10)),
            timed(|| bind(50)),
            timed(|| Lease::builder().lease_many(50)),
            timed(|| Lease::builder().lease_block(3)),
            timed(|| Lease::builder().lease_block(10)),
            timed(|| ports.list()),
            exhausted(),
        ];
        times.iter_mut().zip(done).for_each(|(times, time)| times.push(time));
    }
    times.iter().for_each(|times| println!("{}", line_of(times)));
}

const NAMES: [&str; 10] = [
    "floor: take 1 by bind(0)",
    "take 1 port",
    "floor: take 10 by bind(0)",
    "take 10 ports at once",
    "floor: take 50 by bind(0)",
    "take 50 ports at once",
    "take 3 consecutive ports",
    "take 10 consecutive ports",
    "list of all leases",
    "finding that a range of 100 is exhausted",
];

/// With so many percent held.
pub(crate) fn table(registry: &Registry, share: usize, rounds: usize) -> Table {
    let mut command = crew::role(&["operations", &rounds.to_string()]);
    let output = crew::output(registry.adopt(&mut command), AT_MOST);
    let costs: Vec<_> = output.lines().map(|line| Percentiles::of(numbers(line))).collect();
    let mut table = percentile_table(format!("Operations, {share} % of the ports held"));
    let mut floor = f64::NAN;
    for (&name, &cost) in NAMES.iter().zip(&costs) {
        if name.starts_with("floor") {
            floor = cost.p50;
        } else if name.contains("consecutive") {
            floor = f64::NAN; // the kernel has no such thing
        }
        table.row(percentile_row(name, cost, floor));
    }
    table
}

fn timed<T, E>(operation: impl FnOnce() -> Result<T, E>) -> f64 {
    let start = Instant::now();
    let result = black_box(operation());
    let time = start.elapsed();
    if result.is_err() { f64::NAN } else { micros(time) } // ten in a row may not be had
}

fn bind(count: usize) -> std::io::Result<Vec<TcpListener>> {
    (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect()
}

/// A hundred ports of nobody else's, all held: what one more costs, with the message that says so.
fn exhausted() -> f64 {
    let range = 7_000..=7_099;
    let request = || Lease::builder().range(range.clone());
    let Ok(_held) = request().lease_many(range.len()) else { return f64::NAN };
    let start = Instant::now();
    let refused = request().lease();
    let time = micros(start.elapsed());
    assert!(refused.is_err(), "a lease of what is held");
    time
}
