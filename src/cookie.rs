//! The mark in the environment of each server, by which it and what it started are known as ours:
//! after they left the process group, and after their harness died.
//!
//! It names one start of one server by one harness. Not everybody keeps it: nginx and PostgreSQL
//! write over the memory that `/proc` shows as their environment.

use std::hash::{BuildHasher, RandomState};
use std::process;

use crate::sys::{self, ProcessId};

/// The environment variable.
pub(crate) const VARIABLE: &str = "PORTLEASE_COOKIE";

/// Its value where a server cannot be marked.
pub(crate) const NO_MARK: &str = "none";

/// Pure but for [`Cookie::new`] and [`Cookie::of`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cookie {
    /// When and where the numbers of processes mean what they mean here.
    world: World,
    /// Who started the server.
    pub(crate) harness: ProcessId,
    random: u64,
}

/// One start of the machine, a namespace of pids, and one of clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct World {
    boot: String,
    namespaces: String,
}

impl World {
    /// This process's own; `None` where `/proc` does not tell.
    pub(crate) fn own() -> Option<World> {
        Some(World { boot: sys::boot_id()?, namespaces: sys::process_namespaces()? })
    }
}

impl Cookie {
    /// For a start by this process, unlike any other. `None` where `/proc` does not tell who we are.
    pub(crate) fn new() -> Option<Cookie> {
        let pid = process::id();
        let harness = ProcessId { pid, start: sys::process_start(pid)? };
        let random = RandomState::new().hash_one(pid);
        Some(Cookie { world: World::own()?, harness, random })
    }

    /// The one that a process carries, if it can be read.
    pub(crate) fn of(pid: u32) -> Option<Cookie> {
        Cookie::parse(&sys::process_variable(pid, VARIABLE)?)
    }

    /// Whether it was made where the number of its harness means what it means here.
    pub(crate) fn is_of(&self, world: &World) -> bool {
        self.world == *world
    }

    pub(crate) fn value(&self) -> String {
        let Cookie { world: World { boot, namespaces }, harness, random } = self;
        format!("{boot}:{namespaces}:{}:{}:{random:016x}", harness.pid, harness.start)
    }

    fn parse(value: &str) -> Option<Cookie> {
        let mut parts = value.split(':');
        let mut part = || parts.next().filter(|part| !part.is_empty());
        let world = World { boot: part()?.to_owned(), namespaces: part()?.to_owned() };
        let harness = ProcessId { pid: part()?.parse().ok()?, start: part()?.parse().ok()? };
        let random = u64::from_str_radix(part()?, 16).ok()?;
        parts.next().is_none().then_some(Cookie { world, harness, random })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")] // elsewhere, no process has one
    #[test]
    fn what_is_written_is_read() {
        let cookie = Cookie::new().expect("no /proc");
        assert_eq!(Cookie::parse(&cookie.value()), Some(cookie.clone()));
        assert!(cookie.is_of(&World::own().expect("no /proc")));
        assert_ne!(Cookie::new(), Some(cookie), "two starts");
    }

    #[test]
    fn what_is_none_is_not_taken_for_one() {
        let check = |value: &str, is_one: bool| {
            assert_eq!(Cookie::parse(value).is_some(), is_one, "{value:?}");
        };
        check("a-b:4026531836.4026531834:12:3456:00000000000000ff", true);
        check("a-b:4026531836.:12:3456:ff", true);
        for value in
            [NO_MARK, "", ":", "a:b:1:2", "a:b:1:2:", "a:b:-1:2:3", "a:b:1:2:3:4", ":b:1:2:3"]
        {
            check(value, false);
        }
    }
}
