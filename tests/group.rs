//! Servers that need each other: what is started when, what is stopped when, and what becomes of the
//! others if one fails. What a shell and `/proc` are not needed for: `everywhere`.
#![cfg(target_os = "linux")] // shells, and looks into `/proc`

mod support;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use portlease::{ErrorKind, Group, GroupBuilder, Ready, Server, ServerBuilder};
use support::twin::{Twin, TwinGroup, table};
use support::{
    DEADLINE, MARK, child_command, lives, processes_with, shell, unique_mark, who_answers,
};

table! {
    each_is_started_after_those_it_needs_and_stopped_before_them,
    who_need_not_wait_for_each_other_are_started_at_the_same_time,
    who_are_on_one_level_are_stopped_at_the_same_time,
    if_one_fails_the_others_are_stopped_and_it_is_named,
    a_panic_while_one_is_made_stops_the_others_and_goes_on,
    a_panic_stops_all,
}

fn told(command: Command) -> ServerBuilder {
    Server::builder(command).env_port("PORT")
}

fn serves() -> ServerBuilder {
    told(child_command(&["serve"]))
}

/// One that writes to a file when it is started, and when it is asked to end.
fn logs(name: &str, log: &Path) -> Command {
    let mut command = shell(
        "trap 'echo \"-$NAME\" >>\"$LOG\"; exit' TERM; echo \"+$NAME\" >>\"$LOG\"; \"$0\" serve & wait",
    );
    command.env("NAME", name).env("LOG", log);
    command
}

fn each_is_started_after_those_it_needs_and_stopped_before_them<S: Twin>() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let (db, mut api, page) = (logs("db", &log), logs("api", &log), logs("page", &log));
    let group = Group::builder()
        .server("db", &[], |_| Ok(told(db)))
        .server("api", &["db"], |needs| {
            let db = needs.server("db")?;
            assert!(lives(who_answers(db.addr())));
            api.env("DB", db.url("/"));
            Ok(told(api))
        })
        .server("page", &["api", "db"], |needs| {
            assert_ne!(needs.server("api")?.port(), needs.server("db")?.port());
            Ok(told(page).name("own name"))
        });
    let group = S::Group::start(group).unwrap();
    let servers = group.servers().into_iter();
    let names: Vec<_> = servers.map(|(name, server)| (name, server.name())).collect();
    assert_eq!(names, [("db", "db"), ("api", "api"), ("page", "own name")]);
    let api = group.server("api").unwrap();
    let environment = fs::read_to_string(format!("/proc/{}/environ", api.pid())).unwrap();
    let db = group.server("db").unwrap().url("/");
    assert!(environment.split('\0').any(|it| it == format!("DB={db}")), "{environment}");
    assert_eq!(group.stop().unwrap().len(), 3);
    assert_eq!(fs::read_to_string(log).unwrap(), "+db\n+api\n+page\n-page\n-api\n-db\n");
}

/// Nothing of them outlives the start; who awaits it has to give them all they need.
#[test]
fn their_closures_may_borrow() {
    let borrowed = String::from("serve");
    let serves = || Ok(told(child_command(&[&borrowed])));
    let group = Group::builder().server("db", &[], |_| serves());
    let group = group.server("api", &["db"], |_| serves()).start().unwrap();
    assert!(lives(who_answers(group.server("api").unwrap().addr())));
}

fn with_two_on_one_level([one, two]: [ServerBuilder; 2]) -> GroupBuilder<'static> {
    Group::builder()
        .server("first", &[], |_| Ok(serves()))
        .server("one", &["first"], |_| Ok(one))
        .server("two", &["first"], |_| Ok(two))
}

/// Each waits for the other before it serves.
fn who_need_not_wait_for_each_other_are_started_at_the_same_time<S: Twin>() {
    let dir = tempfile::tempdir().unwrap();
    let waits = |own: &str, other: &str| {
        let mut command =
            shell(": >$OWN; until [ -e $OTHER ]; do sleep 0.01; done; exec \"$0\" serve");
        command.env("OWN", own).env("OTHER", other).current_dir(dir.path());
        told(command)
    };
    let level = [waits("one", "two"), waits("two", "one")];
    let group = S::Group::start(with_two_on_one_level(level)).unwrap();
    assert_eq!(group.stop().unwrap().len(), 3);
}

/// Each is asked to end, and ends once the other has been asked too; else it is killed.
fn who_are_on_one_level_are_stopped_at_the_same_time<S: Twin>() {
    let dir = tempfile::tempdir().unwrap();
    let waits = |own: &str, other: &str| {
        let mut command = shell(
            "end() { : >$OWN; until [ -e $OTHER ]; do sleep 0.01; done; exit; }; \
             trap end TERM; \"$0\" serve & wait",
        );
        command.env("OWN", own).env("OTHER", other).current_dir(dir.path());
        told(command).stop_grace(DEADLINE)
    };
    let level = [waits("one", "two"), waits("two", "one")];
    let group = S::Group::start(with_two_on_one_level(level)).unwrap();
    for stopped in group.stop().unwrap() {
        assert!(!stopped.forced(), "it was not asked at the same time as the other: {stopped:?}");
    }
}

fn if_one_fails_the_others_are_stopped_and_it_is_named<S: Twin>() {
    let mark = unique_mark();
    let marked = |mut command: Command| {
        command.env(MARK, &mark);
        told(command)
    };
    let (db, slow) = (marked(child_command(&["serve"])), marked(child_command(&["serve"])));
    let api = marked(shell("echo no licence >&2; exit 3"));
    let group = Group::builder()
        .server("db", &[], |_| Ok(db))
        // Never ready: it would be waited for, for an hour.
        .server("slow", &[], |_| {
            let never = Ready::when("it never is", |_| false);
            Ok(slow.ready(never).start_timeout(DEADLINE * 60))
        })
        .server("api", &["db"], |_| Ok(api))
        .server("page", &["api"], |_| panic!("it is made without what it needs"));
    let error = S::Group::start(group).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exited);
    let text = error.to_string();
    let start =
        "server `api` of the group failed to start, and the others are stopped: server `api` ended";
    assert!(text.starts_with(start) && text.contains("no licence"), "{text}");
    assert_eq!(processes_with(MARK, &mark), []);
}

fn a_panic_while_one_is_made_stops_the_others_and_goes_on<S: Twin>() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mark) = (dir.path().join("log"), unique_mark());
    let logs = |name| {
        let mut command = logs(name, &log);
        command.env(MARK, &mark);
        told(command)
    };
    let (db, api) = (logs("db"), logs("api"));
    let group = Group::builder()
        .server("db", &[], |_| Ok(db))
        .server("api", &["db"], |_| Ok(api))
        .server("page", &["api"], |_| panic!("on purpose"))
        .server("last", &["page"], |_| panic!("it is made without what it needs"));
    let made = catch_unwind(AssertUnwindSafe(|| S::Group::start(group)));
    let panic = made.expect_err("a panic");
    assert_eq!(panic.downcast_ref(), Some(&"on purpose"));
    assert_eq!(processes_with(MARK, &mark), []);
    assert_eq!(fs::read_to_string(log).unwrap(), "+db\n+api\n-api\n-db\n");
}

/// Also if it is the group that a panic drops; then nobody waits long for a server that will not go.
fn a_panic_stops_all<S: Twin>() {
    let mark = unique_mark();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let stubborn = || {
            let mut command = shell("trap '' TERM; \"$0\" serve");
            command.env(MARK, &mark);
            told(command).stop_grace(Duration::from_secs(3600))
        };
        let (db, api) = (stubborn(), stubborn());
        let group = Group::builder().server("db", &[], |_| Ok(db));
        let _group = S::Group::start(group.server("api", &["db"], |_| Ok(api))).unwrap();
        assert_eq!(processes_with(MARK, &mark).len(), 4);
        panic!("on purpose");
    }));
    panicked.expect_err("a panic");
    assert_eq!(processes_with(MARK, &mark), []);
}
