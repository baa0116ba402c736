//! The adversity campaign: processes that lease ports and start servers by chance, while they are killed and
//! stopped, the registry's directory is damaged or full, descriptors are short, clocks differ, and system calls
//! fail. Who has a port is asked of the kernel and of other processes all along, and written down by the test
//! itself (`claims.rs`):
//!
//! - A port never has two holders, whatever happens.
//! - A lease is never lost while its holder lives, nor a server's port before the server is gone.
//! - No process, lock, socket, descriptor, thread or directory is left.
//! - Every error is of a kind that is documented for what failed; and where nothing is amiss but that
//!   ports are scarce, of one that says this.
//!
//! This is so in a world (`world.rs`) in which nothing happens to the registry, in one whose disk is full now and
//! then, and in one whose directory is damaged while nobody is killed. In a fourth one, both happen. There a lease
//! of who lives is never lost, and never had by another: the kernel's hold is what keeps it. But the server of one
//! who was killed has only the lock, which is lost with the slot that somebody removes: so its port may be leased
//! before it is gone, and if it was about to listen, it does. Then it may be in the way of the new holder, who is
//! told so. For the same reason, nobody is killed in the middle of a start in the fifth, where two registries, as
//! of two jobs, are on the same ports, and nothing but the hold is between them.
//!
//! By default it takes some seconds. For longer, with all that was done in a table (and the examples built
//! before, as `cargo test` does):
//!
//! ```sh
//! PORTLEASE_TEST_SECONDS=600 cargo test --all-features --test adversity -- --nocapture
//! ```
//!
//! Of a program whose system calls fail in turn, about as many calls do as there are seconds; without
//! `PORTLEASE_TEST_SECONDS`, twenty.
//!
//! `PORTLEASE_TEST_JSON=FILE` adds the tables to a file as well, a line of JSON each.
//!
//! `PORTLEASE_TEST_SEED` has the same programs and the same trouble again, though not the same timing. All of
//! it happens in namespaces of its own: of pids, so that nobody who is left can hide; of mounts; and of ports.

#![cfg(target_os = "linux")] // its witnesses, and half of the trouble, are Linux's

#[path = "../support/mod.rs"]
mod support;

mod claims;
mod kinds;
mod lot;
mod plot;
mod seat;
mod sweep;
mod talk;
mod tally;
mod trouble;
mod witness;
mod world;

use std::env;
use std::hash::{BuildHasher, RandomState};
use std::thread;
use std::time::Duration;

use lot::Lot;
use support::alone::in_own_small_world;
use support::dice::Dice;
use sweep::sweep;
use tally::Tally;
use world::{Tools, World};

/// How long to go on, if it was said.
fn seconds() -> Option<u64> {
    env::var("PORTLEASE_TEST_SECONDS").ok().map(|seconds| seconds.parse().unwrap())
}

/// Of all that is left to chance; said, so that it can be had again.
fn seed() -> u64 {
    let seed = env::var("PORTLEASE_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(0) >> 32);
    println!("PORTLEASE_TEST_SEED={seed}");
    seed
}

#[test]
fn many_processes_in_every_kind_of_trouble() {
    if !in_own_small_world("many_processes_in_every_kind_of_trouble") {
        return;
    }
    let mut dice = Dice::new(seed());
    let duration = Duration::from_secs(seconds().unwrap_or(3));
    let (tools, tally) = (Tools::here(), Tally::default());
    let worlds = [World::sound(), World::damaged(), World::full(), World::wild(), World::shared()];
    thread::scope(|scope| {
        for world in &worlds {
            let (dice, tools, tally) = (Dice::new(dice.roll()), &tools, &tally);
            scope.spawn(move || world.run(dice, duration, tools, tally));
        }
    });
    let alone = || sweep::others().is_empty();
    support::eventually("nobody but this process lives", alone);
    println!("\n{tally}");
    tally.write_down("campaign");
    if duration >= Duration::from_secs(60) {
        all_happened(&tally, &tools);
    }
}

/// A minute is time enough for each of these: a campaign in which one of them never happens shows nothing.
fn all_happened(tally: &Tally, tools: &Tools) {
    let always = [
        "SIGKILL at any moment",
        "SIGKILL of a holder",
        "SIGSTOP of a holder, looked at all along",
        "SIGSTOP, and SIGCONT after 10 to 500 ms",
        "lease: done",
        "exact: done",
        "leases over TIME_WAIT",
        "leases, looked at while they were held",
        "listeners that said who they are",
        "start: done",
        "restart: done",
        "servers that said who they are",
        "the registry's directory was damaged",
        "the registry's disk was full",
        Lot::Usual.name(),
        Lot::Few(0).name(),
    ];
    let traced = ["failing system calls", Lot::Failing("", "", 0).name()];
    let traced = traced.into_iter().filter(|_| tools.strace);
    let elsewhen = Some(Lot::Elsewhen(0).name()).filter(|_| tools.clocks);
    for what in always.into_iter().chain(traced).chain(elsewhen) {
        assert!(tally.of(what) > 0, "never: {what}");
    }
}

/// Makes a test of each program of `support/rehearsal.rs`, with how many of its calls fail.
macro_rules! sweeps {
    ($($(#[$attribute:meta])* $test:ident: $program:literal, $at_most:expr;)+) => {
        $(#[test] $(#[$attribute])* fn $test() {
            if in_own_small_world(stringify!($test)) {
                sweep($program, $at_most);
            }
        })+
    };
}

sweeps! {
    every_system_call_of_a_lease_fails_once: "lease", usize::MAX;
    every_system_call_of_some_leases_and_a_block_fails_once: "some", one_a_second();
    every_system_call_of_a_lease_that_is_waited_for_fails_once: "exact", one_a_second();
    every_system_call_of_a_lease_over_time_wait_fails_once: "over-time-wait", one_a_second();
    /// Some of its 240 by default, all if there is time.
    every_system_call_of_a_server_fails_once: "server", one_a_second();
    /// The same, of 460.
    every_system_call_of_a_restart_fails_once: "restart", one_a_second();
    every_system_call_of_a_server_that_reports_its_port_fails_once: "reported", one_a_second();
    every_system_call_of_a_group_fails_once: "group", one_a_second();
}

/// About a call each second, where it was said how long to go on: a call of a longer program takes some tenths
/// of one.
fn one_a_second() -> usize {
    seconds().map_or(20, |seconds| seconds as usize)
}
