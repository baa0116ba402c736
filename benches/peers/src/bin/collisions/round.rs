//! One contestant in one setting.

use std::time::Duration;

use portlease_peers::crew::{self, Crew};
use portlease_peers::peers::Peer;

use crate::count::Count;
use crate::setting::{Job, Setting};

/// How many processes pick how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    pub(crate) processes: usize,
    pub(crate) picks: u64,
    pub(crate) at_most: Duration,
    /// Milliseconds that a server lives on.
    pub(crate) alive: u64,
    /// Whether its connections leave TIME_WAIT.
    pub(crate) time_wait: bool,
}

/// What a busy machine may need beyond the time that was planned, for all to start and to end.
const LATE: Duration = Duration::from_secs(120);

impl Round {
    pub(crate) fn run(&self, peer: Peer, setting: Setting) -> Count {
        let dir = crew::scratch();
        let mut traffic = Crew::default();
        if setting.traffic {
            traffic.add(&mut crew::role(&["traffic"])).expect("a process");
            traffic.go();
        }
        let mut starters = Crew::default();
        for index in 0..self.processes {
            let job = if setting.second_job && index % 2 == 1 { Job::Second } else { Job::First };
            let [picks, millis, alive] =
                [self.picks, self.at_most.as_millis() as u64, self.alive].map(|n| n.to_string());
            let time_wait = self.time_wait.to_string();
            let mut command =
                crew::role(&["start", peer.name, &picks, &millis, &alive, &time_wait]);
            starters.add(job.adopt(&mut command, dir.path())).expect("a process");
        }
        starters.go();
        let mut count = Count::default();
        for result in starters.results(self.at_most + LATE) {
            count += result.trim().parse().expect("a count");
        }
        count
    }
}
