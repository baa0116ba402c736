//! Restarts, and servers that run no more because theirs failed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::time::Duration;

use portlease::{ErrorKind, Server, Signal};

use super::support::twin::{Twin, table};
use super::support::{OwnRegistry, child_command, who_answers};
use super::{not_asked_for_long, server};

table! {
    a_restart_keeps_its_port,
    a_restart_that_failed_can_be_tried_again,
    a_server_whose_restart_failed_is_no_panic_and_no_hang,
}

fn a_restart_keeps_its_port<S: Twin>() {
    let mut server = S::start(server(&["serve"])).unwrap();
    let (port, pid) = (server.port(), server.pid());
    for _ in 0..3 {
        server.restart().unwrap();
        assert_eq!((server.port(), who_answers(server.addr())), (port, server.pid()));
    }
    assert_ne!(server.pid(), pid);
}

fn a_restart_that_failed_can_be_tried_again<S: Twin>() {
    let own = OwnRegistry::new();
    let lease = own.request().lease().unwrap();
    let port = lease.port();
    let mut starts = 0;
    let flaky = Server::with(move |ports| {
        starts += 1;
        let role = if starts == 2 { "no such role".to_owned() } else { ports.main().to_string() };
        child_command(&["serve", &role])
    });
    let mut server = S::start(not_asked_for_long(flaky.lease(lease))).unwrap();
    assert_eq!(server.restart().unwrap_err().kind(), ErrorKind::Exited);
    assert_eq!((server.port(), server.pid(), server.output().as_str()), (0, 0, ""));
    assert_eq!(own.registry.list().unwrap().len(), 1, "still leased");
    server.restart().unwrap();
    assert_eq!((server.port(), who_answers(server.addr())), (port, server.pid()));
}

/// Whatever is asked of it then has an answer, and at once.
fn a_server_whose_restart_failed_is_no_panic_and_no_hang<S: Twin>() {
    for second in ["no such role", "no such program"] {
        let mut starts = 0;
        let flaky = Server::with(move |ports| {
            starts += 1;
            match (starts, second) {
                (2, "no such role") => child_command(&[second]),
                (2, _) => Command::new("/no/such"),
                _ => child_command(&["serve-all", &ports.main().to_string(), "ADMIN_PORT"]),
            }
        });
        let flaky = flaky.name("api").env_port_named("admin", "ADMIN_PORT").pipe_stdin();
        let mut server = S::start(not_asked_for_long(flaky)).unwrap();
        server.restart().unwrap_err();
        let errors = [
            server.wait_for_line("never", Duration::MAX).unwrap_err(),
            server.wait_for_line_where("at all", Duration::MAX, |_| true).unwrap_err(),
            server.signal(Signal::Kill).unwrap_err(),
            server.wait(Duration::MAX).unwrap_err(),
            server.try_wait().unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Exited);
            assert!(error.to_string().contains("the server is not running"), "{error}");
        }
        assert_eq!((server.name(), server.port(), server.pid()), ("api", 0, 0));
        assert_eq!(
            (server.port_of("admin"), server.url("/a").as_str()),
            (None, "http://127.0.0.1:0/a")
        );
        assert_eq!((server.output(), server.lines()), (String::new(), vec![]));
        assert!(server.take_stdin().is_none());
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _log = server.log_on_panic();
            panic!("with a server that is not running");
        }));
        assert!(panicked.is_err());
        // Among others that run, each has its own outcome.
        let other = || Server::builder(child_command(&["serve"])).report_port();
        let other = || S::start(not_asked_for_long(other())).unwrap();
        let outcomes = S::stop_all(vec![other(), server, other()]);
        let ran: Vec<_> = outcomes.iter().map(Result::is_ok).collect();
        assert_eq!(ran, [true, false, true], "{outcomes:?}");
    }
}
