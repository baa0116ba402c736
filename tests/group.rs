//! Servers that need each other: what is started when, what is stopped when, and what becomes of the
//! others if one fails.

mod support;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use portlease::{ErrorKind, Group, Ready, Server, ServerBuilder, Signal};
use support::{
    DEADLINE, MARK, child_command, lives, processes_with, shell, unique_mark, who_answers,
};

fn serves() -> ServerBuilder {
    Server::builder(child_command(&["serve"])).env_port("PORT")
}

/// One that writes to a file when it is started, and when it is asked to end.
fn logs(name: &str, log: &Path) -> Command {
    let mut command = shell(
        "trap 'echo \"-$NAME\" >>\"$LOG\"; exit' TERM; echo \"+$NAME\" >>\"$LOG\"; \"$0\" serve & wait",
    );
    command.env("NAME", name).env("LOG", log);
    command
}

#[test]
fn each_is_started_after_those_it_needs_and_stopped_before_them() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let builder = |name| Server::builder(logs(name, &log)).env_port("PORT");
    let group = Group::builder()
        .server("db", &[], |_| Ok(builder("db")))
        .server("api", &["db"], |needs| {
            let db = needs.server("db")?;
            assert!(lives(who_answers(db.addr())));
            let mut command = logs("api", &log);
            command.env("DB", db.url("/"));
            Ok(Server::builder(command).env_port("PORT"))
        })
        .server("page", &["api", "db"], |needs| {
            assert_ne!(needs.server("api")?.port(), needs.server("db")?.port());
            Ok(builder("page").name("own name"))
        })
        .start()
        .unwrap();
    let names: Vec<_> = group.servers().map(|(name, server)| (name, server.name())).collect();
    assert_eq!(names, [("db", "db"), ("api", "api"), ("page", "own name")]);
    let api = group.server("api").unwrap();
    let environment = fs::read_to_string(format!("/proc/{}/environ", api.pid())).unwrap();
    let db = group.server("db").unwrap().url("/");
    assert!(environment.split('\0').any(|it| it == format!("DB={db}")), "{environment}");
    assert_eq!(group.stop().unwrap().len(), 3);
    assert_eq!(fs::read_to_string(log).unwrap(), "+db\n+api\n+page\n-page\n-api\n-db\n");
}

/// Each waits for the other before it serves.
#[test]
fn who_need_not_wait_for_each_other_are_started_at_the_same_time() {
    let dir = tempfile::tempdir().unwrap();
    let waits = |own: &str, other: &str| {
        let mut command =
            shell(": >$OWN; until [ -e $OTHER ]; do sleep 0.01; done; exec \"$0\" serve");
        command.env("OWN", own).env("OTHER", other).current_dir(dir.path());
        Ok(Server::builder(command).env_port("PORT"))
    };
    let group = Group::builder()
        .server("first", &[], |_| Ok(serves()))
        .server("one", &["first"], |_| waits("one", "two"))
        .server("two", &["first"], |_| waits("two", "one"))
        .start()
        .unwrap();
    assert_eq!(group.stop().unwrap().len(), 3);
}

#[test]
fn if_one_fails_the_others_are_stopped_and_it_is_named() {
    let mark = unique_mark();
    let marked = |mut command: Command| {
        command.env(MARK, &mark);
        Server::builder(command).env_port("PORT")
    };
    let error = Group::builder()
        .server("db", &[], |_| Ok(marked(child_command(&["serve"]))))
        // Never ready: it would be waited for, for an hour.
        .server("slow", &[], |_| {
            let never = Ready::when("it never is", |_| false);
            Ok(marked(child_command(&["serve"])).ready(never).start_timeout(DEADLINE * 60))
        })
        .server("api", &["db"], |_| Ok(marked(shell("echo no licence >&2; exit 3"))))
        .server("page", &["api"], |_| panic!("it is made without what it needs"))
        .start()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exited);
    let text = error.to_string();
    let start =
        "server `api` of the group failed to start, and the others are stopped: server `api` ended";
    assert!(text.starts_with(start) && text.contains("no licence"), "{text}");
    assert_eq!(processes_with(MARK, &mark), []);
}

#[test]
fn a_panic_while_one_is_made_stops_the_others_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mark) = (dir.path().join("log"), unique_mark());
    let logs = |name| {
        let mut command = logs(name, &log);
        command.env(MARK, &mark);
        Ok(Server::builder(command).env_port("PORT"))
    };
    let made = catch_unwind(AssertUnwindSafe(|| {
        Group::builder()
            .server("db", &[], |_| logs("db"))
            .server("api", &["db"], |_| logs("api"))
            .server("page", &["api"], |_| panic!("on purpose"))
            .server("last", &["page"], |_| panic!("it is made without what it needs"))
            .start()
    }));
    let panic = made.expect_err("a panic");
    assert_eq!(panic.downcast_ref(), Some(&"on purpose"));
    assert_eq!(processes_with(MARK, &mark), []);
    assert_eq!(fs::read_to_string(log).unwrap(), "+db\n+api\n-api\n-db\n");
}

#[test]
fn what_makes_no_sense_is_said() {
    let fails = |builder: portlease::GroupBuilder<'_>, text: &str| {
        let error = builder.start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(text), "{error}");
    };
    let group = || Group::builder().server("db", &[], |_| Ok(serves()));
    fails(
        group().server("db", &[], |_| Ok(serves())),
        "two servers of the group have the name `db`",
    );
    fails(
        group().server("api", &["dp"], |_| Ok(serves())),
        "`api` needs `dp`, which was not added before it; were: `db`",
    );
    fails(
        group().server("api", &[], |needs| {
            needs.server("db")?;
            Ok(serves())
        }),
        "`api` does not say that it needs `db`; it says: none",
    );
    let nothing = |_: &portlease::Needs<'_>| Ok(Server::builder(child_command(&["serve"])));
    fails(group().server("api", &[], nothing), "server `api` of the group failed to start");
    let mut group = group().start().unwrap();
    let error = group.server("api").unwrap_err().to_string();
    assert_eq!(error, "there is no server `api` in the group; there are: `db`");
    assert!(group.server_mut("api").is_err());
}

#[test]
fn one_of_them_is_restarted_and_the_others_stay() {
    let group = Group::builder().server("db", &[], |_| Ok(serves()));
    let mut group = group.server("api", &["db"], |_| Ok(serves())).start().unwrap();
    let api = group.server("api").unwrap().pid();
    let db = group.server_mut("db").unwrap();
    let (pid, port) = (db.pid(), db.port());
    db.signal(Signal::Kill).unwrap();
    db.wait(DEADLINE).unwrap().expect("it ends of SIGKILL");
    db.restart().unwrap();
    assert_ne!(db.pid(), pid);
    assert_eq!((db.port(), who_answers(db.addr())), (port, db.pid()));
    assert_eq!(who_answers(group.server("api").unwrap().addr()), api);
}

/// Also if it is the group that a panic drops; then nobody waits long for a server that will not go.
#[test]
fn a_panic_stops_all() {
    let mark = unique_mark();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let stubborn = || {
            let mut command = shell("trap '' TERM; \"$0\" serve");
            command.env(MARK, &mark);
            Ok(Server::builder(command).env_port("PORT").stop_grace(Duration::from_secs(3600)))
        };
        let group = Group::builder().server("db", &[], |_| stubborn());
        let _group = group.server("api", &["db"], |_| stubborn()).start().unwrap();
        assert_eq!(processes_with(MARK, &mark).len(), 4);
        panic!("on purpose");
    }));
    panicked.expect_err("a panic");
    assert_eq!(processes_with(MARK, &mark), []);
}
