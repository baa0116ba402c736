//! What a lease costs, as a ratio to what it is made of and to a picker that protects nothing.
//!
//! `cargo bench --bench lease`. Each figure is the median of many rounds in which all contestants
//! take turns, so that a change of the machine's speed hits all of them.

use std::hint::black_box;
use std::net::TcpListener;
use std::time::Instant;

use portlease::{Lease, Registry};

const ROUNDS: usize = 100;
const PER_ROUND: u32 = 10;

fn main() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let registry = Registry::open(dir.path().join("registry")).expect("a registry");
    let request = || Lease::builder().registry(&registry).range(20_000..=29_999);
    let take_and_release = || drop(black_box(request().lease().expect("a lease")));
    let floor = || drop(black_box(TcpListener::bind("127.0.0.1:0").expect("a listener")));
    let picker = || {
        black_box(portpicker::pick_unused_port().expect("a port"));
    };

    println!("{:<40} {:>9} {:>16} {:>14}", "", "median", "of bind(0)+drop", "of portpicker");
    let row = |name: &str| {
        let [lease, floor, picker] = medians([&take_and_release, &floor, &picker]);
        println!("{name:<40} {lease:>6.1} us {:>15.2}x {:>13.2}x", lease / floor, lease / picker);
    };
    let use_every_port = || (20_000..=29_999).for_each(|port| drop(request().exact(port).lease()));
    use_every_port(); // and so create every slot
    for held in [0, 1_000, 9_000] {
        forget_usage(dir.path());
        let _held = request().lease_many(held).expect("as many descriptors as `ulimit -n 20000`");
        row(&format!("lease, {held} of 10 000 held"));
    }
    use_every_port();
    row("lease, every port used in the last 10 s");
}

/// Makes all ports look as if they had never been used.
fn forget_usage(dir: &std::path::Path) {
    for space in std::fs::read_dir(dir.join("registry")).expect("a registry") {
        let table = space.expect("an entry").path().join("table");
        std::fs::write(table, "").expect("the table can be emptied");
    }
}

/// In microseconds, of each contestant.
fn medians<const N: usize>(contestants: [&dyn Fn(); N]) -> [f64; N] {
    let mut times = [const { Vec::new() }; N];
    for _ in 0..ROUNDS {
        for (contestant, times) in contestants.iter().zip(&mut times) {
            let start = Instant::now();
            (0..PER_ROUND).for_each(|_| contestant());
            times.push(start.elapsed().as_secs_f64() * 1e6 / f64::from(PER_ROUND));
        }
    }
    times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    })
}
