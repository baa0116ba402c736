//! What the programs of this package have in common. What each of them measures stands at its head, and
//! in `benches/README.md` with the last results.
//!
//! - Who is measured: [`peers`].
//! - Where: [`alone`], in a network namespace of its own; [`crew`], the processes that do it.
//! - What beside the clock: [`cpu`]. How long at most: [`patience`].
//! - What comes out: [`percentiles`], [`table`], [`picture`], [`report`], on which [`machine`].
//! - What is asked for: [`args`].
//!
//! A program that cannot measure has nothing to tell: errors of the system end it, with their text.

pub mod alone;
pub mod args;
pub mod cpu;
pub mod crew;
pub mod machine;
pub mod patience;
pub mod peers;
pub mod percentiles;
pub mod picture;
pub mod report;
pub mod table;
