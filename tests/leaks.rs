//! Alone in its process: what it counts belongs to nobody else.

mod support;

use std::fs;
use std::process::Command;

use portlease::Server;
use support::{OwnRegistry, child_command};

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

/// Living or zombies.
fn children() -> usize {
    let parent = format!(" {} ", std::process::id());
    let stats = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok());
    stats.filter(|stat| stat.rsplit(") ").next().unwrap()[1..].starts_with(&parent)).count()
}

#[test]
fn starts_and_stops_leave_nothing_behind() {
    let own = OwnRegistry::new();
    let cycle = || {
        let lease = own.request().lease().unwrap();
        let told = Server::builder(child_command(&["serve"])).env_port("PORT").lease(lease);
        let told = told.start().unwrap();
        let reported = Server::builder(child_command(&["serve"])).report_port().start().unwrap();
        assert_eq!(children(), 4, "two servers and their watchdogs");
        told.stop().unwrap();
        drop(reported);
        Server::builder(child_command(&["no such role"])).env_port("PORT").start().unwrap_err();
        Server::builder(Command::new("/no/such-server")).env_port("PORT").start().unwrap_err();
        own.request().lease_block(3).unwrap();
    };
    cycle();
    let before = (descriptors(), threads());
    for _ in 0..20 {
        cycle();
    }
    support::eventually("the readers have ended", || threads() <= before.1);
    assert_eq!((descriptors(), threads(), children()), (before.0, before.1, 0));
    assert_eq!(own.registry.list().unwrap(), []);
}
