//! A server that complains of its port, and goes on: nginx tries again for 2.7 s, gunicorn for 5.4 s, and
//! others serve on what they got.

use std::time::Duration;

use super::failure;
use super::output::Output;
use super::ports::Ports;
use crate::complaint::{Complaint, complaint};
use crate::diagnosis::Diagnosis;

/// How often is looked at most.
const PAUSE: Duration = Duration::from_millis(100);

/// How long somebody else must be seen on the port: who is just ending goes.
const PATIENCE: Duration = Duration::from_millis(500);

/// Watches one start.
#[derive(Debug, Default)]
pub(super) struct Complaining {
    found: Option<Complaint>,
    /// Of the output.
    seen: Option<(u64, usize)>,
    looked: Option<Duration>,
    /// Since when somebody else is on the port.
    since: Option<Duration>,
}

impl Complaining {
    /// Who has the port of which the server has complained by `now`, if somebody has had it for long.
    /// `others_on`: who else is on a port.
    pub(super) fn look(
        &mut self,
        output: &Output,
        ports: &Ports,
        now: Duration,
        others_on: impl FnOnce(u16) -> Option<Diagnosis>,
    ) -> Option<Diagnosis> {
        if self.looked.is_some_and(|looked| now.saturating_sub(looked) < PAUSE) {
            return None;
        }
        self.looked = Some(now);
        let progress = output.progress();
        if self.found.is_none() && self.seen != Some(progress) {
            self.seen = Some(progress);
            self.found = complaint(&output.tail());
        }
        let port = self.found.as_ref().and_then(|found| failure::own_in_use(found, ports));
        let diagnosis = port.and_then(others_on);
        match &diagnosis {
            Some(_) => {
                let since = *self.since.get_or_insert(now);
                diagnosis.filter(|_| now.saturating_sub(since) >= PATIENCE)
            }
            None => {
                self.since = None;
                None
            }
        }
    }
}
