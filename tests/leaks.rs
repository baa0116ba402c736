//! Each alone in its process: what it counts belongs to nobody else.
#![cfg(target_os = "linux")] // counts by `/proc`

mod support;

use std::fs;
use std::process::Command;

use portlease::{Group, Server, Signal, Supervision};
use support::alone::{children, descriptors, in_own_process, threads};
use support::twin::{Twin, TwinGroup, table};
use support::{DEADLINE, OwnRegistry, child_command, shell};

table! {
    starts_and_stops_leave_nothing_behind,
}

/// The memory that this process has, in kB. (`statm` is off by up to 128 kB for each CPU.)
fn memory() -> u32 {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let rss = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
    rss.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

fn starts_and_stops_leave_nothing_behind<S: Twin>() {
    if !in_own_process(&S::test("starts_and_stops_leave_nothing_behind")) {
        return;
    }
    let own = OwnRegistry::new();
    let cycle = || {
        let lease = own.request().lease().unwrap();
        let told = Server::builder(child_command(&["serve"])).env_port("PORT").lease(lease);
        let told = S::start(told).unwrap();
        let reported = Server::builder(child_command(&["serve"])).report_port();
        let reported = S::start(reported).unwrap();
        assert_eq!(children(), 4, "two servers and their watchdogs");
        told.stop().unwrap();
        drop(reported);
        let inherits = shell("exec \"$0\" serve-inherited <&3");
        S::start(Server::builder(inherits).inherit_port()).unwrap().stop().unwrap();
        let supervised = Server::with(|ports| {
            ports.write_file("some", "file");
            shell("exec \"$0\" serve 0")
        });
        let supervised = supervised.report_port().supervise(Supervision::restarts(1)).unwrap();
        supervised.with(|server| server.signal(Signal::Kill)).unwrap();
        supervised.wait_for_restarts(1, DEADLINE).unwrap();
        supervised.stop().unwrap();
        let serves = || Ok(Server::builder(child_command(&["serve"])).report_port());
        let group = Group::builder().server("db", &[], move |_| serves());
        drop(S::Group::start(group.server("api", &["db"], move |_| serves())).unwrap());
        let fails = |command| S::start(Server::builder(command).env_port("PORT")).unwrap_err();
        fails(child_command(&["no such role"]));
        fails(Command::new("/no/such-server"));
        own.request().lease_block(3).unwrap();
    };
    let threads_before = threads();
    let readers_ended = || support::eventually("the readers ended", || threads() == threads_before);
    cycle();
    readers_ended();
    let descriptors_before = descriptors();
    for _ in 0..20 {
        cycle();
    }
    let one_server = || {
        let lease = own.request().lease().unwrap();
        let server = Server::builder(child_command(&["serve"])).env_port("PORT").lease(lease);
        S::start(server).unwrap().stop().unwrap();
    };
    (0..50).for_each(|_| one_server());
    let memory_before = memory();
    (0..200).for_each(|_| one_server());
    let grown = memory().saturating_sub(memory_before);
    println!("200 cycles: {grown} kB more");
    assert!(grown < 1000, "5 kB are lost at each start and stop: {grown} kB"); // measured: 20 to 80
    readers_ended();
    assert_eq!((descriptors(), children()), (descriptors_before, 0));
    assert_eq!(own.registry.list().unwrap(), []);
}
