//! Servers: from the command to a port that accepts, and until nothing is left of them. What a shell and
//! `/proc` are not needed for: `everywhere`.
#![cfg(target_os = "linux")] // shells, and looks into `/proc`

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, TryRecvError};
use std::thread;
use std::time::Duration;

use portlease::{ErrorKind, Handoff, Ready, Registry, Server, ServerBuilder, Signal};
use support::alone::{children, in_own_process};
use support::twin::{Twin, not_ready, table};
use support::{DEADLINE, OwnRegistry, TestChild, child_command, lives, shell, who_answers};

table! {
    a_leased_port_by_an_environment_variable,
    its_lease_bears_its_name,
    a_leased_port_in_an_argument,
    a_reported_port,
    a_restart_keeps_the_port_leased,
    a_command_that_cannot_be_made,
    who_is_kept_out_by_the_hold_is_let_in_at_the_second_start,
    a_panic_stops_the_server_and_frees_the_port,
    a_panic_in_a_closure_of_its_start_leaves_nothing,
    signals_and_the_end_of_the_server_itself,
    a_stop_by_another_signal,
    a_stop_by_the_signal_that_its_program_means,
    a_stop_by_sigkill_asks_nobody,
    a_stop_without_a_descriptor_left,
    a_stop_in_a_pid_namespace_without_its_proc,
    a_zombie_that_stays_does_not_keep_a_stop_waiting,
    a_stop_frees_the_lock_for_the_watchdog_too,
    a_stranger_who_listens_in_its_place_is_named_and_gets_no_byte,
    one_that_listens_where_no_client_gets_to,
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

fn its_lease_bears_its_name<S: Twin>() {
    let builder = Server::builder(child_command(&["serve"])).env_port("PORT").name("database");
    let server = S::start(builder).unwrap();
    let holders = Registry::global().unwrap().list().unwrap();
    let holder = holders.iter().find(|holder| holder.port() == server.port()).unwrap();
    assert_eq!((holder.label(), holder.pid()), (Some("database"), Some(std::process::id())));
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
    let ports = own.dir.path().join("ports");
    // The error, and how often it was started.
    let fails = |script: &str, how: fn(ServerBuilder) -> ServerBuilder| {
        let mut command = shell(script);
        command.env("PORTS", &ports);
        let error = S::start(how(Server::builder(command))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exited);
        let starts = fs::read_to_string(&ports).unwrap().lines().count();
        fs::remove_file(&ports).unwrap();
        (error.to_string(), starts)
    };
    // It is another's fault: two starts, and then the error.
    let script = "echo 'bind: Address already in use' >&2; echo \"$PORT\" >>\"$PORTS\"; exit 98";
    let (error, starts) = fails(script, |it| it.env_port("PORT"));
    assert!(error.contains("somebody may have bound it"), "{error}");
    assert_eq!(starts, 2);
    // There is no hold, or what listens there is its own socket.
    let (error, starts) = fails(script, |it| it.env_port("PORT").handoff(Handoff::Release));
    assert_eq!(starts, 1, "{error}");
    let (error, starts) = fails(script, ServerBuilder::inherit_port);
    assert_eq!(starts, 1, "{error}");
    // It is of another port: no start without the hold would help.
    let of_another = script.replace("bind", "listen tcp :80: bind");
    let (error, starts) = fails(&of_another, |it| it.env_port("PORT"));
    assert!(error.contains("complains of port 80, which is not leased"), "{error}");
    assert_eq!(starts, 1);
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

fn a_stop_by_the_signal_that_its_program_means<S: Twin>() {
    let dir = tempfile::tempdir().unwrap();
    let script = "for signal in INT QUIT TERM; do trap \"echo $signal; kill \\$! 2>/dev/null; exit\" $signal; done; \
                  \"$0\" serve & wait";
    for (name, signal) in [("postgres", "INT"), ("nginx", "QUIT"), ("other", "TERM")] {
        let program = dir.path().join(name);
        symlink("/usr/bin/env", &program).unwrap();
        let mut command = Command::new(program);
        // A shell traps no signal that was ignored when it was started.
        command.args(["--default-signal", "sh", "-c", script]).arg(support::child_path());
        let server = S::start(Server::builder(command).env_port("PORT")).unwrap();
        assert_eq!(server.name(), name);
        let stopped = server.stop().unwrap();
        // The child may say that it serves at any time after it does.
        let said = stopped.output().lines().filter(|line| *line != "serving");
        assert_eq!(said.collect::<Vec<_>>(), [signal], "{name}: {stopped:?}");
    }
}

fn a_stop_by_sigkill_asks_nobody<S: Twin>() {
    let script = "trap 'echo asked; exit 7' TERM; \"$0\" serve & wait";
    let builder = Server::builder(shell(script)).env_port("PORT").stop_grace(DEADLINE);
    let server = S::start(builder.stop_signal(Signal::Kill)).unwrap();
    let pid = server.pid();
    let stopped = server.stop().unwrap();
    assert_eq!(stopped.status().unwrap().to_string(), "signal: 9 (SIGKILL)");
    assert!(!stopped.output().contains("asked") && !lives(pid), "{stopped:?}");
    assert!(!stopped.forced() && stopped.duration() < DEADLINE);
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
