//! Time of the processors.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};

/// What they spent on this process, and on its children that have ended and were waited for; each with theirs.
pub fn used() -> Duration {
    let of = |who| {
        let usage = getrusage(who).expect("usage");
        [usage.user_time(), usage.system_time()].map(|time| {
            let micros = time.tv_sec() * 1_000_000 + time.tv_usec();
            Duration::from_micros(micros.try_into().expect("a time that has passed"))
        })
    };
    [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN].into_iter().flat_map(of).sum()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_child_counts_once_it_was_waited_for() {
        let before = used();
        let busy = "i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done";
        assert!(Command::new("sh").args(["-c", busy]).status().expect("a shell").success());
        assert!(used() - before > Duration::from_millis(2), "{before:?} and {:?}", used());
    }
}
