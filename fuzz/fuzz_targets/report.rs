//! What a server prints: no line makes the readers panic or report what it does not say, and what is
//! remembered of any lines is bounded.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portlease::fuzz_report(bytes));
