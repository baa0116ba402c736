//! A process that has a socket, and what it is to us.

use std::time::{Duration, SystemTime};

/// A process that has a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub(crate) pid: u32,
    pub(crate) name: String,
    pub(crate) command: String,
    pub(crate) uid: Option<u32>,
    pub(crate) user: Option<String>,
    pub(crate) age: Option<Duration>,
    pub(crate) role: Role,
}

/// What a process is, where that makes a difference to what can be done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// Nothing is known but that it is there.
    Other,
    /// This very process.
    Ourselves,
    /// Started as a server by a test process that lives.
    Server {
        /// The pid of that test process.
        harness: u32,
    },
    /// Started as a server by a test process that is gone; see [`reap`](crate::reap).
    Orphan {
        /// The pid that the test process had.
        harness: u32,
    },
    /// It serves the port for a container, as `docker-proxy` does.
    ContainerProxy,
    /// It belongs to a service of the system, and this process does not.
    Service {
        /// Its unit, `nginx.service` for instance.
        unit: String,
    },
    /// It belongs to a service that a user runs, as `systemctl --user` does, and this process does not.
    UserService {
        /// Its unit, `postgres.service` for instance.
        unit: String,
    },
}

impl Owner {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it calls itself, at most 15 bytes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its command line, the program first; at most 200 characters, without control characters. Empty if
    /// it is not to be seen.
    pub fn command(&self) -> &str {
        &self.command
    }

    /// The user for whom it acts.
    pub fn uid(&self) -> Option<u32> {
        self.uid
    }

    /// The name of that user, as `/etc/passwd` has it.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// When it was started.
    pub fn started(&self) -> Option<SystemTime> {
        SystemTime::now().checked_sub(self.age?)
    }

    /// Whether it is this very process, or a server of it.
    pub(crate) fn is_of_this_test(&self) -> bool {
        let own = std::process::id();
        matches!(self.role, Role::Ourselves) || self.role == Role::Server { harness: own }
    }

    /// What it is.
    pub fn role(&self) -> &Role {
        &self.role
    }
}
