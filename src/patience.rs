//! Patience of unit tests: a child of another test may have a copy of any descriptor, until its exec.

use std::fmt::Debug;
use std::thread;
use std::time::{Duration, Instant};

/// What `tried` gives in the end; a panic if that takes too long.
pub(crate) fn eventually<T, E: Debug>(mut tried: impl FnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match tried() {
            Ok(it) => return it,
            Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(1)),
            Err(error) => panic!("it does not come to pass: {error:?}"),
        }
    }
}
