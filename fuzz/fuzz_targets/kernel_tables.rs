//! What the kernel prints, and a program can have a say in (its name): no bytes make a parser panic,
//! or go on for ever.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portlease::fuzz_kernel_tables(bytes));
