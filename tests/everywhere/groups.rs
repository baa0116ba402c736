//! Servers that need each other.

use portlease::{ErrorKind, Group, GroupBuilder, ServerBuilder, Signal};

use super::server;
use super::support::twin::{Twin, TwinGroup, table};
use super::support::{DEADLINE, child_command, who_answers};

table! {
    what_makes_no_sense_is_said,
    one_of_them_is_restarted_and_the_others_stay,
}

fn serves() -> ServerBuilder {
    server(&["serve"])
}

fn what_makes_no_sense_is_said<S: Twin>() {
    let fails = |builder: GroupBuilder<'static>, text: &str| {
        let error = S::Group::start(builder).unwrap_err();
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
    let nothing =
        |_: &portlease::Needs<'_>| Ok(portlease::Server::builder(child_command(&["serve"])));
    fails(group().server("api", &[], nothing), "server `api` of the group failed to start");
    let mut group = S::Group::start(group()).unwrap();
    let error = group.server("api").unwrap_err().to_string();
    assert_eq!(error, "there is no server `api` in the group; there are: `db`");
    assert!(group.server_mut("api").is_err());
}

fn one_of_them_is_restarted_and_the_others_stay<S: Twin>() {
    let group = Group::builder().server("db", &[], |_| Ok(serves()));
    let group = group.server("api", &["db"], |_| Ok(serves()));
    let mut group = S::Group::start(group).unwrap();
    let api = group.server("api").unwrap().pid();
    let db = group.server_mut("db").unwrap();
    let (pid, port) = (db.pid(), db.port());
    db.signal(Signal::Kill).unwrap();
    db.wait(DEADLINE).unwrap().expect("it is killed");
    db.restart().unwrap();
    assert_ne!(db.pid(), pid);
    assert_eq!((db.port(), who_answers(db.addr())), (port, db.pid()));
    assert_eq!(who_answers(group.server("api").unwrap().addr()), api);
}
