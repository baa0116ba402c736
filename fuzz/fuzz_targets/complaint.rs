//! What a program prints: no text makes the search for a complaint panic, go on for ever, or name a port
//! that it does not say.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portlease::fuzz_complaint(bytes));
