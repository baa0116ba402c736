//! Processes, as others are told of them: by whom a socket is had, and who stands where in the tree.

/// One process for ever: a pid alone comes to mean another, soon where `pid_max` is 32 768; but not
/// within the 10 ms of a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ProcessId {
    pub(crate) pid: u32,
    /// When it was started, in clock ticks since boot.
    pub(crate) start: u64,
}

/// A living process, in the tree of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessEntry {
    pub(crate) id: ProcessId,
    pub(crate) parent: u32,
    pub(crate) group: u32,
    pub(crate) session: u32,
}

/// A service of systemd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    /// `nginx.service`
    pub(crate) unit: String,
    /// It is not the system's, but one of a user.
    pub(crate) is_users: bool,
}

/// The processes that have certain sockets.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    /// Each with the inode of the socket, by pid.
    pub(crate) found: Vec<(u64, ProcessId)>,
    /// Some processes may not be looked into.
    pub(crate) is_partial: bool,
    /// There was no time to look into all.
    pub(crate) is_late: bool,
}
