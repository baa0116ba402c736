//! Servers: from the command to a port that accepts, and until nothing is left of them.
#![cfg(target_os = "linux")] // shells, and looks into `/proc`

mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, TryRecvError};
use std::thread;
use std::time::Duration;

use portlease::{ErrorKind, Handoff, Ready, Server, ServerBuilder, Signal, Stream};
use support::alone::{children, in_own_process};
use support::twin::{Twin, not_ready, table};
use support::{DEADLINE, OwnRegistry, TestChild, child_command, lives, shell, signal, who_answers};

table! {
    a_leased_port_by_an_environment_variable,
    a_leased_port_in_an_argument,
    a_reported_port,
    a_restart_keeps_the_port_leased,
    a_directory_of_its_own,
    a_command_that_cannot_be_made,
    a_directory_that_cannot_be_made_is_an_error,
    a_restart_that_failed_can_be_tried_again,
    a_server_whose_restart_failed_is_no_panic_and_no_hang,
    who_is_kept_out_by_the_hold_is_let_in_at_the_second_start,
    what_makes_no_sense_is_said,
    a_panic_stops_the_server_and_frees_the_port,
    a_panic_in_a_closure_of_its_start_leaves_nothing,
    lines_are_waited_for,
    the_output_is_copied_to_a_directory,
    a_panic_prints_the_last_of_the_output,
    the_standard_input_is_empty_or_a_pipe,
    signals_and_the_end_of_the_server_itself,
    a_stop_by_another_signal,
    a_stop_without_a_descriptor_left,
    a_stop_in_a_pid_namespace_without_its_proc,
    a_zombie_that_stays_does_not_keep_a_stop_waiting,
    a_stop_frees_the_lock_for_the_watchdog_too,
    a_stranger_who_listens_in_its_place_is_named_and_gets_no_byte,
    one_that_listens_where_no_client_gets_to,
    what_is_ready,
}

fn a_leased_port_by_an_environment_variable<S: Twin>() {
    let own = OwnRegistry::new();
    let lease = own.request().lease().unwrap();
    let port = lease.port();
    let builder = Server::builder(child_command(&["serve"])).env_port("PORT").lease(lease);
    let server = S::start(builder).unwrap();
    assert_eq!((server.port(), server.name()), (port, "test-child"));
    assert_eq!(server.addr().to_string(), format!("127.0.0.1:{port}"));
    assert_eq!(server.url("/a"), format!("http://127.0.0.1:{port}/a"));
    assert_eq!(server.url("a"), server.url("/a"));
    assert_eq!(who_answers(server.addr()), server.pid());
    assert_eq!(own.registry.list().unwrap().len(), 1);
    let pid = server.pid();
    let stopped = server.stop().unwrap();
    assert!(!stopped.forced() && !lives(pid));
    assert_eq!(stopped.status().unwrap().to_string(), "signal: 15 (SIGTERM)");
    assert_eq!(stopped.output(), "serving\n");
    assert_eq!(own.registry.list().unwrap(), []);
}

fn a_leased_port_in_an_argument<S: Twin>() {
    let mut starts = 0;
    let builder = Server::with(move |ports| {
        starts += 1;
        let mut command = child_command(&["serve", &ports.main().to_string()]);
        command.env("START", starts.to_string());
        command
    });
    let mut server = S::start(builder.name("api")).unwrap();
    assert_eq!(server.name(), "api");
    assert_eq!(who_answers(server.addr()), server.pid());
    let environment = |pid| fs::read(format!("/proc/{pid}/environ")).unwrap();
    let second = b"START=2";
    assert!(!environment(server.pid()).windows(second.len()).any(|window| window == second));
    server.restart().unwrap();
    assert!(environment(server.pid()).windows(second.len()).any(|window| window == second));
}

fn a_reported_port<S: Twin>() {
    let mut server = S::start(Server::builder(child_command(&["serve"])).report_port()).unwrap();
    assert_eq!(who_answers(server.addr()), server.pid());
    server.restart().unwrap();
    assert_eq!(who_answers(server.addr()), server.pid());
}

fn a_restart_keeps_the_port_leased<S: Twin>() {
    let own = OwnRegistry::new();
    let lease = own.request().lease().unwrap();
    let port = lease.port();
    let builder = Server::builder(child_command(&["serve"])).env_port("PORT").lease(lease);
    let mut server = S::start(builder).unwrap();
    // Its end is dropped by a panic, too: nobody waits for the thief then.
    let (restarts, restarted) = mpsc::channel::<()>();
    let own = &own;
    thread::scope(|scope| {
        let thief = scope.spawn(move || {
            let other = OwnRegistry::new();
            while restarted.try_recv() == Err(TryRecvError::Empty) {
                for registry in [own, &other] {
                    let error = registry.request().exact(port).lease().expect_err("stolen");
                    assert_eq!(error.kind(), ErrorKind::PortTaken);
                }
            }
        });
        for _ in 0..5 {
            let old = server.pid();
            server.restart().unwrap();
            assert!(!lives(old));
            assert_eq!((server.port(), who_answers(server.addr())), (port, server.pid()));
        }
        drop(restarts);
        thief.join().unwrap();
    });
}

/// A directory for what is rendered and what is kept, with the server until it is gone.
fn a_directory_of_its_own<S: Twin>() {
    let server = Server::with(|ports| {
        let port = ports.write_file("etc/port", ports.main().to_string());
        let mut command = shell("echo $$ >>started; exec \"$0\" serve $(cat \"$1\")");
        command.arg(port).current_dir(ports.dir());
        command
    });
    let ready = Ready::file("started").and(Ready::when("it is so", |ports| {
        ports.dir().join("started").exists() // as it is for who asks by himself
    }));
    let mut server = S::start(server.ready(ready)).unwrap();
    let dir = fs::read_link(format!("/proc/{}/cwd", server.pid())).unwrap();
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    let first = server.pid();
    server.restart().unwrap();
    assert_eq!(who_answers(server.addr()), server.pid());
    let started = fs::read_to_string(dir.join("started")).unwrap();
    assert_eq!(started, format!("{first}\n{}\n", server.pid()));
    server.stop().unwrap();
    assert!(!dir.exists());
}

/// Neither its watchdog nor its directory is left, and the lease is free.
fn a_command_that_cannot_be_made<S: Twin>() {
    if !in_own_process(&S::test("a_command_that_cannot_be_made")) {
        return;
    }
    let make = |ports: &portlease::Ports| {
        fs::write(ports.dir().join("data"), "")?;
        Err(std::io::Error::other(format!("no licence for {}", ports.dir().display())))
    };
    let error = S::start(Server::try_with(make).name("api")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Spawn);
    assert_eq!(error.to_string(), "failed to make the command of the server `api`");
    let source = std::error::Error::source(&error).unwrap().to_string();
    let dir = source.strip_prefix("no licence for ").unwrap();
    assert!(!fs::exists(dir).unwrap());

    let panics = Server::with(|ports| panic!("{}", ports.dir().display()));
    let panicked = catch_unwind(AssertUnwindSafe(|| S::start(panics))).expect_err("a panic");
    assert!(!fs::exists(panicked.downcast_ref::<String>().unwrap()).unwrap());
    assert_eq!(children(), 0);
}

fn a_directory_that_cannot_be_made_is_an_error<S: Twin>() {
    let builder = Server::with(|ports| {
        ports.write_file("../port", "");
        child_command(&["serve"])
    });
    let error = S::start(builder).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().starts_with("failed to write the server's file /"), "{error}");
    assert!(format!("{error:?}").contains("must lead to a file in"), "{error:?}");
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
    let mut server = S::start(flaky.lease(lease)).unwrap();
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
        let mut server = S::start(flaky).unwrap();
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
        let other = || S::start(other()).unwrap();
        let outcomes = S::stop_all(vec![other(), server, other()]);
        let ran: Vec<_> = outcomes.iter().map(Result::is_ok).collect();
        assert_eq!(ran, [true, false, true], "{outcomes:?}");
    }
}

fn who_is_kept_out_by_the_hold_is_let_in_at_the_second_start<S: Twin>() {
    let own = OwnRegistry::new();
    for (handoff, expected) in [(None, 2), (Some(Handoff::Release), 1)] {
        let starts = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&starts);
        let builder = Server::with(move |ports| {
            counted.fetch_add(1, Ordering::Relaxed);
            child_command(&["serve-on", &ports.addr().to_string(), "exclusive"])
        });
        let builder = builder.lease(own.request().lease().unwrap());
        let builder = handoff.into_iter().fold(builder, ServerBuilder::handoff);
        let mut server = S::start(builder).unwrap();
        assert_eq!(starts.load(Ordering::Relaxed), expected, "{handoff:?}");
        assert_eq!(own.registry.list().unwrap().len(), 1, "still leased");
        server.restart().unwrap();
        assert_eq!(starts.load(Ordering::Relaxed), expected + 1, "{handoff:?}");
    }
    // It is another's fault: two starts, and then the error.
    let script = "echo 'bind: Address already in use' >&2; echo \"$PORT\" >>\"$PORTS\"; exit 98";
    let ports = own.dir.path().join("ports");
    let mut command = shell(script);
    command.env("PORTS", &ports);
    let error = S::start(Server::builder(command).env_port("PORT")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exited);
    assert!(error.to_string().contains("somebody may have bound it"), "{error}");
    assert_eq!(fs::read_to_string(&ports).unwrap().lines().count(), 2);
    // It is of another port: no start without the hold would help.
    fs::remove_file(&ports).unwrap();
    let mut command = shell(&script.replace("bind", "listen tcp :80: bind"));
    command.env("PORTS", &ports);
    let error = S::start(Server::builder(command).env_port("PORT")).unwrap_err();
    assert!(error.to_string().contains("complains of port 80, which is not leased"), "{error}");
    assert_eq!(fs::read_to_string(&ports).unwrap().lines().count(), 1);
}

fn what_makes_no_sense_is_said<S: Twin>() {
    let error = S::start(Server::builder(child_command(&["serve"]))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("env_port"), "{error}");
    let lease = portlease::lease().unwrap();
    for name in ["", "A=B", "A\0"] {
        let builder = Server::builder(child_command(&["serve"])).env_port(name);
        let error = S::start(builder).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    let serves = || Server::builder(child_command(&["serve"])).env_port("PORT").port("a");
    let fails = |builder: ServerBuilder, text: &str| {
        let error = S::start(builder.start_timeout(Duration::ZERO)).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::InvalidInput, text));
    };
    fails(serves().port("a"), "two ports of the server have the name `a`");
    let main = serves().env_port_named("b", "PORT");
    fails(main, "two ports are told by the variable `PORT`");
    let twice = serves().env_port_named("b", "B").env_port_named("c", "B");
    fails(twice, "two ports are told by the variable `B`");
    let both = Server::builder(child_command(&["serve"])).report_port().lease(lease);
    assert_eq!(S::start(both).unwrap_err().kind(), ErrorKind::InvalidInput);
}

fn a_panic_stops_the_server_and_frees_the_port<S: Twin>() {
    let own = OwnRegistry::new();
    let lease = own.request().lease().unwrap();
    let mut pid = 0;
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let builder = Server::builder(child_command(&["serve"])).env_port("PORT").lease(lease);
        let server = S::start(builder).unwrap();
        pid = server.pid();
        assert!(lives(pid));
        panic!("as a failed assertion does");
    }));
    assert!(panicked.is_err() && !lives(pid));
    assert_eq!(own.registry.list().unwrap(), []);
}

/// While a server is made, or is waited for.
fn a_panic_in_a_closure_of_its_start_leaves_nothing<S: Twin>() {
    if !in_own_process(&S::test("a_panic_in_a_closure_of_its_start_leaves_nothing")) {
        return;
    }
    let own = OwnRegistry::new();
    let make: fn() -> ServerBuilder = || Server::with(|_| panic!("on purpose"));
    let ready: fn() -> ServerBuilder = || {
        let slow = "trap 'sleep 0.3; exit' TERM; \"$0\" serve & wait";
        Server::builder(shell(slow))
            .env_port("PORT")
            .ready(Ready::when("", |_| panic!("on purpose")))
    };
    for builder in [make, ready] {
        let lease = own.request().lease().unwrap();
        let start = AssertUnwindSafe(|| S::start(builder().lease(lease)).map(drop));
        catch_unwind(start).expect_err("a panic");
        assert_eq!((children(), own.registry.list().unwrap()), (0, vec![]));
    }
}

fn lines_are_waited_for<S: Twin>() {
    let script = "echo one; echo two >&2; sleep 0.1; echo three; exec \"$0\" serve";
    let server = S::start(Server::builder(shell(script)).env_port("PORT")).unwrap();
    let line = server.wait_for_line("two", DEADLINE).unwrap();
    assert_eq!((line.text(), line.stream()), ("two", Stream::Stderr));
    server.wait_for_line("serving", DEADLINE).unwrap();
    let line = server.wait_for_line_where("of five letters", DEADLINE, |line| line.len() == 5);
    assert_eq!(line.unwrap().text(), "three");
    let of = |stream| {
        let lines = server.lines().into_iter().filter(move |line| line.stream() == stream);
        lines.map(|line| line.text().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of(Stream::Stdout), ["one", "three"]);
    assert_eq!(of(Stream::Stderr), ["two", "serving"]);
    assert!(server.lines().windows(2).all(|pair| pair[0].at() <= pair[1].at()));

    let error = server.wait_for_line("never", Duration::from_millis(50)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady);
    assert!(error.to_string().contains("no line that contains \"never\": none came within 0.1 s"));
    signal("KILL", server.pid());
    let error = server.wait_for_line("never", DEADLINE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exited);
    assert!(error.to_string().contains("its output ended without one"), "{error}");
    assert!(error.output().unwrap().contains("serving\n"));
}

fn the_output_is_copied_to_a_directory<S: Twin>() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = child_command(&[S::NAME, "one-server", "stop"]);
    let logs = dir.path().join("a/b");
    support::stdout_of(&command.env("PORTLEASE_LOG_DIR", &logs).output().unwrap());
    let entries: Vec<_> = fs::read_dir(&logs).unwrap().map(Result::unwrap).collect();
    assert_eq!(entries.len(), 1);
    let name = entries[0].file_name().into_string().unwrap();
    assert!(name.starts_with("a_b__c-") && name.ends_with(".log"), "{name}");
    assert_eq!(fs::read_to_string(entries[0].path()).unwrap(), "serving\n");

    let output = command.env("PORTLEASE_LOG_DIR", "/dev/null/x").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains(
            "Io: failed to copy the output of server `a/b: c` to /dev/null/x, which PORTLEASE"
        ),
        "{stderr}"
    );
}

fn a_panic_prints_the_last_of_the_output<S: Twin>() {
    let fates = [
        "panic",
        "panic-static",
        #[cfg(feature = "tokio")]
        "panic-inside",
    ];
    for fate in fates {
        let output = child_command(&[S::NAME, "one-server", fate]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let (before, after) = stderr.split_once("server `a/b: c` on port ").expect(&stderr);
        assert!(before.contains("panicked at") && !before.contains("serving"), "{stderr}");
        assert!(after.contains(", the last it printed:\n  serving\n"), "{stderr}");
        assert!(!after.contains("server `"), "only once: {stderr}");
    }
    let output = child_command(&[S::NAME, "one-server", "stop"]).output().unwrap();
    assert!(output.stderr.is_empty(), "without a panic, nothing");
}

fn the_standard_input_is_empty_or_a_pipe<S: Twin>() {
    let script = "read -r line; echo \"got '$line'\"; exec \"$0\" serve";
    let mut server = S::start(Server::builder(shell(script)).env_port("PORT")).unwrap();
    server.wait_for_line("got ''", DEADLINE).unwrap();
    assert!(server.take_stdin().is_none());
    let script = "\"$0\" serve & read -r line; echo \"got '$line'\"; wait";
    let builder = Server::builder(shell(script)).env_port("PORT").pipe_stdin();
    let mut server = S::start(builder).unwrap();
    let mut stdin = server.take_stdin().unwrap();
    stdin.write_all(b"a line\n").unwrap();
    server.wait_for_line("got 'a line'", DEADLINE).unwrap();
    assert!(server.take_stdin().is_none());
}

fn signals_and_the_end_of_the_server_itself<S: Twin>() {
    let script = "trap 'echo caught' USR1; \"$0\" serve & while :; do wait $!; done";
    let mut server = S::start(Server::builder(shell(script)).env_port("PORT")).unwrap();
    server.signal(Signal::User1).unwrap();
    server.wait_for_line("caught", DEADLINE).unwrap();
    assert_eq!(server.try_wait().unwrap(), None);
    assert_eq!(server.wait(Duration::from_millis(20)).unwrap(), None);
    server.signal(Signal::Kill).unwrap();
    let status = server.wait(Duration::MAX).unwrap().unwrap();
    assert_eq!(status.to_string(), "signal: 9 (SIGKILL)");
    assert_eq!(server.try_wait().unwrap(), Some(status));
    let error = server.signal(Signal::Terminate).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exited);
    // What it started lives on, and is stopped now.
    let stopped = server.stop().unwrap();
    assert_eq!(stopped.status(), Some(status));
}

fn a_stop_by_another_signal<S: Twin>() {
    let script = "trap 'echo interrupted; kill $!; exit 7' INT; \"$0\" serve & wait";
    let builder = Server::builder(shell(script)).env_port("PORT");
    let server = S::start(builder.stop_signal(Signal::Interrupt)).unwrap();
    let stopped = server.stop().unwrap();
    assert!(stopped.output().contains("interrupted\n"), "{stopped:?}");
    assert_eq!(stopped.status().unwrap().code(), Some(7));
    assert!(!stopped.forced() && stopped.killed().is_empty());
}

/// What cannot be looked at is not gone.
fn a_stop_without_a_descriptor_left<S: Twin>() {
    for spare in ["0", "1"] {
        let mut command = Command::new("bash");
        command.args(["-c", "ulimit -n 64; exec \"$0\" \"$@\""]);
        let output = command
            .arg(support::child_path())
            .args([S::NAME, "stop-without-descriptors", spare])
            .output()
            .unwrap();
        assert_eq!(support::stdout_of(&output), "forced: false, tidied: true", "{spare}");
    }
}

/// The numbers in `/proc` mean other processes there: none of them is looked at, nobody else hurt.
fn a_stop_in_a_pid_namespace_without_its_proc<S: Twin>() {
    let flags = ["--pid", "--fork", "--kill-child"];
    let script = "\"$0\" \"$@\"; true"; // a shell as pid 1 reaps
    let Some(output) = support::unshare(&flags, script, &[S::NAME, "stop-without-proc"]) else {
        return;
    };
    assert_eq!(support::stdout_of(&output), "gone");
}

/// Under a pid 1 that does not reap, as in many containers.
fn a_zombie_that_stays_does_not_keep_a_stop_waiting<S: Twin>() {
    let flags = ["--pid", "--fork", "--kill-child", "--mount-proc"];
    let script = "exec \"$0\" pid1 \"$@\"";
    let Some(output) = support::unshare(&flags, script, &[S::NAME, "stop-with-an-orphan"]) else {
        return;
    };
    assert_eq!(support::stdout_of(&output), "killed: [], worker: Z");
}

fn a_stop_frees_the_lock_for_the_watchdog_too<S: Twin>() {
    let own = OwnRegistry::new();
    let lease = own.request().lease().unwrap();
    let builder = Server::builder(child_command(&["serve"])).env_port("PORT").lease(lease);
    let server = S::start(builder).unwrap();
    // Somebody clears the table; the lock is what counts.
    fs::write(own.slots().join("table"), "").unwrap();
    assert_eq!(own.registry.list().unwrap().len(), 1);
    drop(server);
    assert_eq!(own.registry.list().unwrap(), []);
}

/// Who has the port first keeps it: none of the server's clients would get to the server.
fn a_stranger_who_listens_in_its_place_is_named_and_gets_no_byte<S: Twin>() {
    let own = OwnRegistry::new();
    let lease = own.request().lease().unwrap();
    let port = lease.port().to_string();
    // With SO_REUSEADDR, it gets in beside the hold.
    let mut stranger = TestChild::spawn(child_command(&["hear", &port]));
    assert_eq!(stranger.line().as_deref(), Some("listening"));
    // The server, with the same option, takes the other addresses, as memcached does.
    let command = child_command(&["serve-on", &format!("[::]:{port}"), "v6only"]);
    let builder = Server::builder(command).name("api").env_port("PORT").lease(lease);
    let error = S::start(builder.ready(Ready::http("/"))).unwrap_err();
    assert_eq!((error.kind(), error.port()), (ErrorKind::PortTaken, Some(port.parse().unwrap())));
    let expected = format!("process {} (test-child) on 127.0.0.1:{port}, which is", stranger.id());
    assert!(error.to_string().contains(&expected), "{error}");
    stranger.go();
    assert_eq!(stranger.line().as_deref(), Some("heard nothing"));
}

fn one_that_listens_where_no_client_gets_to<S: Twin>() {
    let own = OwnRegistry::new();
    let port = own.request().lease().unwrap().port();
    let builder = || {
        let command = child_command(&["serve-on", &format!("127.0.0.2:{port}"), "alone"]);
        let lease = own.request().exact(port).lease().unwrap();
        Server::builder(command).env_port("PORT").lease(lease)
    };
    let expected = format!(
        "nothing listens at 127.0.0.1:{port}, where its clients will connect; 127.0.0.2:{port} is"
    );
    not_ready::<S>(builder, |error| error.to_string().contains(&expected));
}

fn what_is_ready<S: Twin>() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ready");
    let script = "\"$0\" serve & echo is warm; sleep 0.1; : >\"$FILE\"; wait";
    let start = |ready: Ready| {
        let mut command = shell(script);
        command.env("FILE", &file);
        let builder = Server::builder(command).env_port("PORT").ready(ready);
        S::start(builder.start_timeout(Duration::from_secs(3)))
    };
    let path = file.clone();
    for ready in [
        Ready::listening(),
        Ready::connects(),
        Ready::at_once(),
        Ready::http("/"),
        Ready::http_status("/", 200).and(Ready::line("is warm")),
        Ready::line_where("that ends so", |line| line.ends_with("warm")),
        Ready::file(&file),
        Ready::command(move |_| {
            let mut command = Command::new("test");
            command.arg("-e").arg(&path);
            command
        }),
        Ready::command(|ports| child_command(&["connect", &ports.main().to_string()])),
        Ready::when("the port is known", |ports| ports.main() > 0),
    ] {
        let _ = fs::remove_file(&file);
        let shown = format!("{ready:?}");
        let _server = start(ready).unwrap();
        assert!(file.exists() || !shown.contains("File"), "{shown}");
    }
    let never = &|ready: Ready, expected: &str| {
        let error = start(ready).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotReady);
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    };
    let pigs_fly = Ready::when("pigs fly", |_| false);
    thread::scope(|scope| {
        for (ready, expected) in [
            (Ready::http_status("/", 204), "/: status 200, not 204"),
            (Ready::line("cold"), "it has not printed a line that contains \"cold\""),
            (Ready::file("/no/such"), "there is no /no/such"),
            (Ready::command(|_| shell("exit 3")), "\"/bin/sh\" ended with exit status: 3"),
            (Ready::listening().and(pigs_fly), "it is not so that pigs fly"),
        ] {
            scope.spawn(move || never(ready, expected));
        }
    });
}
