//! What only `portlease::tokio` does: futures that are dropped half-way, drops inside a runtime, lines as
//! they come. What it shares with the sync side is tested beside that; what a shell and `/proc` are not needed
//! for: `everywhere`.
#![cfg(target_os = "linux")] // shells, and looks into `/proc`

mod support;

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::pin::pin;
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, ThreadId};
use std::time::Duration;

use portlease::tokio::{Group, Lines, Server};
use portlease::{GroupBuilder, Lease, LeaseBuilder, Ready, ServerBuilder};
use support::alone::{children, descriptors, in_own_process, threads};
use support::{
    DEADLINE, MARK, OwnRegistry, bounded, child_command, eventually, lives, processes_with, shell,
    unique_mark, who_answers,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

fn serves() -> ServerBuilder {
    Server::builder(child_command(&["serve"])).env_port("PORT")
}

/// It ends only when it is killed, a minute after it was asked to end.
fn stubborn() -> ServerBuilder {
    let command = shell("trap '' TERM; exec \"$0\" serve");
    Server::builder(command).env_port("PORT").stop_grace(DEADLINE)
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn multi_thread() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Polls `future` so many times, a bit apart, and drops it. What it came to, if it ended before.
fn poll_and_drop<T>(future: impl Future<Output = T>, times: u32) -> Option<T> {
    let mut future = pin!(future);
    for _ in 0..times {
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(outcome) = future.as_mut().poll(&mut context) {
            return Some(outcome);
        }
        thread::sleep(Duration::from_micros(300));
    }
    None
}

/// Does `attempt`, a start for instance, which is dropped after one poll, after two, and so on until it
/// ends; each time, nothing is left. On a busy machine it may end at once: then all of that again.
fn dropped_after_each_poll(mut attempt: impl FnMut(&OwnRegistry, u32) -> bool) {
    let own = OwnRegistry::new();
    let threads_before = threads();
    let nothing_is_left = || {
        eventually("all is gone", || {
            own.registry.list().unwrap().is_empty()
                && children() == 0
                && threads() == threads_before
        });
    };
    attempt(&own, u32::MAX); // what is made once is made by now
    nothing_is_left();
    let descriptors_before = descriptors();
    let mut dropped = 0;
    while dropped < 4 {
        let mut polls = 1;
        while !attempt(&own, polls) {
            nothing_is_left();
            assert_eq!(descriptors(), descriptors_before);
            dropped += 1;
            // On a busy machine it takes many: then not each number.
            polls += 1 + polls / 10;
        }
        nothing_is_left();
        assert_eq!(descriptors(), descriptors_before);
    }
    println!("dropped {dropped} times");
}

#[test]
fn a_start_that_is_dropped_after_any_poll() {
    if !in_own_process("a_start_that_is_dropped_after_any_poll") {
        return;
    }
    let runtime = current_thread();
    dropped_after_each_poll(|own, polls| {
        let (sender, written) = mpsc::channel();
        let builder = Server::with(move |ports| {
            sender.send(ports.write_file("server.conf", "")).unwrap();
            let mut command = child_command(&["serve"]);
            command.env("PORT", ports.main().to_string());
            command
        });
        let builder = builder.lease(own.request().lease().unwrap());
        let _runtime = runtime.enter();
        let started = poll_and_drop(Server::start(builder), polls);
        let is_started = started.is_some_and(|started| started.is_ok());
        // The closure goes with the server, after its files.
        for file in bounded(move || written.iter().collect::<Vec<PathBuf>>()) {
            assert!(!file.parent().unwrap().exists(), "the server's directory is left");
        }
        is_started
    });
}

#[test]
fn a_stop_that_is_dropped_after_any_poll() {
    if !in_own_process("a_stop_that_is_dropped_after_any_poll") {
        return;
    }
    let runtime = current_thread();
    dropped_after_each_poll(|own, polls| {
        let builder = serves().lease(own.request().lease().unwrap());
        let server = runtime.block_on(Server::start(builder)).unwrap();
        let _runtime = runtime.enter();
        poll_and_drop(server.stop(), polls).is_some_and(|stopped| stopped.is_ok())
    });
}

#[test]
fn a_restart_that_is_dropped_after_any_poll() {
    if !in_own_process("a_restart_that_is_dropped_after_any_poll") {
        return;
    }
    let runtime = current_thread();
    dropped_after_each_poll(|own, polls| {
        let builder = serves().lease(own.request().lease().unwrap());
        let mut server = runtime.block_on(Server::start(builder)).unwrap();
        let port = server.port();
        let first = server.pid();
        let restarted = poll_and_drop(server.restart(), polls);
        if restarted.is_none() {
            assert_eq!((server.port(), server.pid()), (0, 0), "nobody knows how far it is");
            // Half of them are dropped as they are; the others are put right.
            if polls % 2 == 0 {
                runtime.block_on(server.restart()).unwrap();
                assert_eq!((server.port(), who_answers(server.addr())), (port, server.pid()));
                assert!(!lives(first));
            }
        }
        let _runtime = runtime.enter();
        drop(server);
        restarted.is_some_and(|restarted| restarted.is_ok())
    });
}

/// An earlier restart is being undone, which was dropped too.
#[test]
fn a_stop_that_is_dropped_while_it_waits_for_an_undone_restart() {
    if !in_own_process("a_stop_that_is_dropped_while_it_waits_for_an_undone_restart") {
        return;
    }
    let runtime = current_thread();
    dropped_after_each_poll(|own, polls| {
        let builder = serves().lease(own.request().lease().unwrap());
        let mut server = runtime.block_on(Server::start(builder)).unwrap();
        let _runtime = runtime.enter();
        let _ = poll_and_drop(server.restart(), 1);
        poll_and_drop(server.stop(), polls).is_some()
    });
}

#[test]
fn a_restart_that_is_dropped_while_it_waits_for_an_undone_restart() {
    if !in_own_process("a_restart_that_is_dropped_while_it_waits_for_an_undone_restart") {
        return;
    }
    let runtime = current_thread();
    dropped_after_each_poll(|own, polls| {
        let builder = serves().lease(own.request().lease().unwrap());
        let mut server = runtime.block_on(Server::start(builder)).unwrap();
        let addr = server.addr();
        let _ = poll_and_drop(server.restart(), 1);
        let restarted = poll_and_drop(server.restart(), polls);
        if restarted.is_none() && polls % 2 == 0 {
            runtime.block_on(server.restart()).unwrap();
            assert_eq!((server.addr(), who_answers(addr)), (addr, server.pid()));
        }
        let _runtime = runtime.enter();
        drop(server);
        restarted.is_some_and(|restarted| restarted.is_ok())
    });
}

fn db_and_api(own: &OwnRegistry) -> GroupBuilder<'static> {
    let [db, api] = [0, 1].map(|_| serves().lease(own.request().lease().unwrap()));
    Group::builder().server("db", &[], |_| Ok(db)).server("api", &["db"], |_| Ok(api))
}

#[test]
fn a_group_start_that_is_dropped_after_any_poll() {
    if !in_own_process("a_group_start_that_is_dropped_after_any_poll") {
        return;
    }
    let runtime = current_thread();
    dropped_after_each_poll(|own, polls| {
        let group = db_and_api(own);
        let _runtime = runtime.enter();
        poll_and_drop(Group::start(group), polls).is_some_and(|started| started.is_ok())
    });
}

#[test]
fn a_group_stop_that_is_dropped_after_any_poll() {
    if !in_own_process("a_group_stop_that_is_dropped_after_any_poll") {
        return;
    }
    let runtime = current_thread();
    dropped_after_each_poll(|own, polls| {
        let mut group = runtime.block_on(Group::start(db_and_api(own))).unwrap();
        let _runtime = runtime.enter();
        // In half of them, a restart is being undone.
        if polls % 2 == 0 {
            let _ = poll_and_drop(group.server_mut("db").unwrap().restart(), 1);
        }
        poll_and_drop(group.stop(), polls).is_some()
    });
}

/// Awaits what `held` is in the way of, until it has been polled some times.
async fn freed_meanwhile<T>(held: Lease, waiting: impl Future<Output = T>) -> T {
    let mut waiting = pin!(waiting);
    let (mut held, mut polls) = (Some(held), 0);
    poll_fn(|context| {
        polls += 1;
        held.take_if(|_| polls > 4);
        waiting.as_mut().poll(context)
    })
    .await
}

#[test]
fn a_wait_for_leases_that_is_dropped_after_any_poll() {
    fn check<T, Wait>(wait: impl Fn(LeaseBuilder, u16) -> Wait)
    where
        Wait: Future<Output = portlease::Result<T>>,
    {
        dropped_after_each_poll(|own, polls| {
            let port = own.port();
            let held = own.request().exact(port).lease().unwrap();
            let request = own.request().range(port..=port + 1).wait(DEADLINE);
            let waiting = freed_meanwhile(held, wait(request, port));
            poll_and_drop(waiting, polls).is_some_and(|leased| leased.is_ok())
        });
    }
    if !in_own_process("a_wait_for_leases_that_is_dropped_after_any_poll") {
        return;
    }
    check(|request, port| portlease::tokio::lease(request.exact(port)));
    check(|request, _| portlease::tokio::lease_many(request, 2));
    check(|request, _| portlease::tokio::lease_block(request, 2));
    check(|request, port| async move {
        portlease::tokio::lease_exact(request, &[port, port + 1]).await
    });
}

/// Each would take an hour.
#[test]
fn what_is_dropped_is_called_off() {
    if !in_own_process("what_is_dropped_is_called_off") {
        return;
    }
    const HOUR: Duration = Duration::from_secs(3600);
    let never_ready = || serves().ready(Ready::line("never printed")).start_timeout(HOUR);
    let mut starts = 0;
    let once = Server::with(move |ports| {
        starts += 1;
        let role: &[&str] = if starts == 1 { &["serve"] } else { &["sleep"] };
        let mut command = child_command(role);
        command.env("PORT", ports.main().to_string());
        command
    });
    let runtime = current_thread();
    let mut server = runtime.block_on(Server::start(once.start_timeout(HOUR))).unwrap();
    // A thread of the start may be there yet.
    let (children_before, threads_before) = (children(), threads());
    let all_is_over = || {
        eventually("it was called off", || {
            children() == children_before && threads() <= threads_before
        });
    };
    let _runtime = runtime.enter();
    assert!(poll_and_drop(Server::start(never_ready()), 100).is_none());
    all_is_over();
    let group =
        Group::builder()
            .server("db", &[], |_| Ok(serves()))
            .server("api", &["db"], move |_| Ok(never_ready()));
    assert!(poll_and_drop(Group::start(group), 100).is_none());
    all_is_over();
    assert!(poll_and_drop(server.wait_for_line("never printed", HOUR), 3).is_none());
    assert!(poll_and_drop(server.wait(HOUR), 3).is_none());
    all_is_over();
    assert_eq!(who_answers(server.addr()), server.pid());
    assert!(poll_and_drop(server.restart(), 100).is_none());
    eventually("it was called off", || children() == 0);
}

#[test]
fn waits_that_are_dropped_change_nothing() {
    current_thread().block_on(async {
        let mut server = Server::start(serves()).await.unwrap();
        assert!(poll_and_drop(server.wait_for_line("never printed", DEADLINE), 3).is_none());
        assert!(poll_and_drop(server.wait(DEADLINE), 3).is_none());
        assert_eq!(who_answers(server.addr()), server.pid());
        server.signal(portlease::Signal::Kill).unwrap();
        let status = server.wait(DEADLINE).await.unwrap().unwrap();
        assert_eq!(status.to_string(), "signal: 9 (SIGKILL)");
        assert!(!server.stop().await.unwrap().success());
    });
}

/// Drops a server that would not go for a minute, where `drop_there` does it; who waits for it would be
/// here for a minute.
fn the_drop_does_not_wait(drop_there: impl FnOnce(Server)) {
    assert!(outlives_its_drop(drop_there), "the drop has waited");
}

/// Whether such a server lives when it is dropped. If so, it is killed, and then its lease is free.
fn outlives_its_drop(drop_there: impl FnOnce(Server)) -> bool {
    let own = OwnRegistry::new();
    let builder = stubborn().lease(own.request().lease().unwrap());
    let server = current_thread().block_on(Server::start(builder)).unwrap();
    let pid = server.pid();
    drop_there(server);
    // In this order: who lives below was there above, when its port had to be leased.
    let leases = own.registry.list().unwrap().len();
    let outlives = lives(pid);
    assert!(!outlives || leases == 1, "its port is leased while it lives");
    // It may go by itself meanwhile, if it has not been given the minute.
    let _ = Command::new("kill").args(["-s", "KILL", &pid.to_string()]).status();
    eventually("its port is free", || own.registry.list().unwrap().is_empty());
    assert!(!lives(pid));
    outlives
}

#[test]
fn a_drop_in_a_task_does_not_wait() {
    the_drop_does_not_wait(|server| current_thread().block_on(async { drop(server) }));
    the_drop_does_not_wait(|server| multi_thread().block_on(async { drop(server) }));
    the_drop_does_not_wait(|server| {
        multi_thread().block_on(async { tokio::spawn(async { drop(server) }).await.unwrap() });
    });
}

#[test]
fn a_drop_by_the_shutdown_of_a_runtime_does_not_wait() {
    for runtime in [current_thread, multi_thread] {
        the_drop_does_not_wait(|server| {
            let runtime = runtime();
            let (sender, is_there) = mpsc::channel();
            runtime.spawn(async move {
                let _server = server;
                sender.send(()).unwrap();
                std::future::pending::<()>().await;
            });
            runtime.block_on(tokio::task::yield_now());
            is_there.recv_timeout(DEADLINE).unwrap();
            drop(runtime);
        });
    }
}

/// The panic leaves the server one second. A busy machine may take longer to look, but not always.
#[test]
fn a_drop_by_a_panic_does_not_wait() {
    async fn panics(server: Server) {
        let _server = server;
        panic!("with a server at hand");
    }
    for runtime in [current_thread, multi_thread] {
        eventually("a drop in a task does not wait", || {
            outlives_its_drop(|server| {
                runtime().block_on(async { tokio::spawn(panics(server)).await.unwrap_err() });
            })
        });
        // As a test of `#[tokio::test]` panics.
        eventually("a drop in the runtime's own future does not wait", || {
            outlives_its_drop(|server| {
                let panics = AssertUnwindSafe(|| runtime().block_on(panics(server)));
                catch_unwind(panics).unwrap_err();
            })
        });
    }
}

/// One whose first restart fails; and what says by which thread it was dropped, after its files.
fn fails_to_restart() -> (ServerBuilder, mpsc::Receiver<ThreadId>) {
    struct Tell(mpsc::Sender<ThreadId>);
    impl Drop for Tell {
        fn drop(&mut self) {
            self.0.send(thread::current().id()).unwrap();
        }
    }
    let (sender, dropped_by) = mpsc::channel();
    let (tell, mut starts) = (Tell(sender), 0);
    let builder = Server::with(move |ports| {
        let _kept = &tell;
        ports.write_file("server.conf", "");
        starts += 1;
        if starts == 1 { child_command(&["serve"]) } else { shell("exit 3") }
    });
    (builder.report_port(), dropped_by)
}

/// There is nothing to stop then, but a directory may be large.
#[test]
fn a_drop_after_a_restart_that_failed_removes_no_files_itself() {
    let runtime = current_thread();
    let by_another = |dropped_by: mpsc::Receiver<ThreadId>| {
        assert_ne!(dropped_by.recv_timeout(DEADLINE).unwrap(), thread::current().id());
    };
    let (builder, dropped_by) = fails_to_restart();
    runtime.block_on(async {
        let mut server = Server::start(builder).await.unwrap();
        server.restart().await.unwrap_err();
    });
    by_another(dropped_by);
    let (builder, dropped_by) = fails_to_restart();
    let group = Group::builder().server("api", &[], |_| Ok(builder));
    runtime.block_on(async {
        let mut group = Group::start(group).await.unwrap();
        group.server_mut("api").unwrap().restart().await.unwrap_err();
    });
    by_another(dropped_by);
}

/// As without tokio.
#[test]
fn a_drop_outside_of_a_runtime_waits() {
    let mark = unique_mark();
    let mut command = child_command(&["serve"]);
    command.env(MARK, &mark);
    let builder = Server::builder(command).env_port("PORT");
    let runtime = current_thread();
    let server = runtime.block_on(Server::start(builder)).unwrap();
    drop(server);
    assert_eq!(processes_with(MARK, &mark), []);
}

#[test]
fn a_group_dropped_in_a_task_does_not_wait_and_ends_in_order() {
    let own = OwnRegistry::new();
    let [db, api] = [0, 1].map(|_| own.request().lease().unwrap());
    let group = Group::builder().server("db", &[], |_| Ok(serves().lease(db))).server(
        "api",
        &["db"],
        |_| Ok(stubborn().lease(api)),
    );
    let runtime = current_thread();
    let (db, api) = runtime.block_on(async {
        let group = Group::start(group).await.unwrap();
        let pid = |name| group.server(name).unwrap().pid();
        (pid("db"), pid("api"))
    });
    assert!(lives(api), "the drop has waited");
    assert!(lives(db), "it ended before the one that needs it");
    support::signal("KILL", api);
    eventually("all is gone", || own.registry.list().unwrap().is_empty());
    assert!(!lives(db));
}

#[test]
fn a_hundred_starts_on_one_thread() {
    current_thread().block_on(async {
        let patient = || serves().start_timeout(2 * DEADLINE);
        let starts: Vec<_> = (0..100).map(|_| tokio::spawn(Server::start(patient()))).collect();
        let mut servers = Vec::new();
        for start in starts {
            servers.push(start.await.unwrap().unwrap());
        }
        for server in &servers {
            assert_eq!(get(server).await, server.pid().to_string());
        }
        let stops: Vec<_> = servers.into_iter().map(|it| tokio::spawn(it.stop())).collect();
        for stop in stops {
            stop.await.unwrap().unwrap();
        }
    });
}

async fn get(server: &Server) -> String {
    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.rsplit("\r\n").next().unwrap().to_owned()
}

/// The next line's text.
async fn next(lines: &mut Lines) -> Option<String> {
    let next = tokio::time::timeout(DEADLINE, lines.next()).await.unwrap();
    next.map(|line| line.text().to_owned())
}

#[tokio::test]
async fn lines_as_they_come() {
    let command = shell("echo one; echo two >&2; exec cat");
    let builder = Server::builder(command).no_port().pipe_stdin();
    let builder = builder.ready(Ready::line("one").and(Ready::line("two")));
    let mut server = Server::start(builder).await.unwrap();
    let mut lines = server.follow();
    let both = [next(&mut lines).await.unwrap(), next(&mut lines).await.unwrap()];
    assert!(both == ["one", "two"] || both == ["two", "one"], "{both:?}");
    assert!(poll_and_drop(lines.next(), 2).is_none());
    let mut stdin = tokio::process::ChildStdin::from_std(server.take_stdin().unwrap()).unwrap();
    let (_, three) = tokio::join!(stdin.write_all(b"three\n"), next(&mut lines));
    assert_eq!(three.as_deref(), Some("three"));
    let mut others = server.follow();
    assert_eq!(next(&mut others).await.as_ref(), Some(&both[0]));
    drop(others);
    drop(stdin);
    assert_eq!((next(&mut lines).await, lines.missed()), (None, 0));
    server.stop().await.unwrap();
    assert_eq!(next(&mut lines).await, None);
}

/// 64 KiB are kept.
#[tokio::test]
async fn lines_that_come_too_fast_are_counted() {
    let command = shell("seq 100000; exec sleep 1000");
    let builder = Server::builder(command).no_port().ready(Ready::line("100000"));
    let server = Server::start(builder).await.unwrap();
    let mut lines = server.follow();
    let first: u64 = next(&mut lines).await.unwrap().parse().unwrap();
    assert!(first > 80_000, "{first}");
    assert_eq!(lines.missed(), first - 1);
    server.stop().await.unwrap();
    let mut last = None;
    while let Some(line) = next(&mut lines).await {
        last = Some(line);
    }
    assert_eq!((last.as_deref(), lines.missed()), (Some("100000"), first - 1));
}

/// Polls `future` until it has something to say, which nobody hears: it is dropped then.
fn drop_when_done<T>(future: impl Future<Output = T>) {
    struct Tell(mpsc::SyncSender<()>);
    impl Wake for Tell {
        fn wake(self: Arc<Self>) {
            self.0.send(()).unwrap();
        }
    }
    let (sender, is_done) = mpsc::sync_channel(1);
    let waker = Waker::from(Arc::new(Tell(sender)));
    let mut future = pin!(future);
    assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    is_done.recv_timeout(DEADLINE).unwrap();
}

#[test]
fn a_restart_that_is_dropped_when_it_is_done() {
    let runtime = current_thread();
    let mut server = runtime.block_on(Server::start(serves())).unwrap();
    let addr = server.addr();
    drop_when_done(server.restart());
    eventually("nobody listens", || std::net::TcpStream::connect(addr).is_err());
    runtime.block_on(server.restart()).unwrap();
    assert_eq!((server.addr(), who_answers(addr)), (addr, server.pid()));
}

/// One that takes half a second to end.
fn slow_to_end() -> ServerBuilder {
    let command = shell("trap '' TERM; exec \"$0\" serve");
    let builder = Server::builder(command).env_port("PORT");
    builder.stop_grace(Duration::from_millis(500))
}

#[test]
fn a_drop_outside_of_a_runtime_waits_for_a_restart_that_was_dropped() {
    let mut server = current_thread().block_on(Server::start(slow_to_end())).unwrap();
    let pid = server.pid();
    assert!(poll_and_drop(server.restart(), 1).is_none());
    assert!(lives(pid), "it is not being undone: this tests nothing");
    drop(server);
    assert!(!lives(pid));
}

#[test]
fn a_group_ends_in_order_while_a_restart_is_undone() {
    let group = Group::builder()
        .server("db", &[], |_| Ok(serves()))
        .server("api", &["db"], |_| Ok(slow_to_end()));
    let runtime = current_thread();
    let mut group = runtime.block_on(Group::start(group)).unwrap();
    let [db, api] = ["db", "api"].map(|name| group.server(name).unwrap().pid());
    assert!(poll_and_drop(group.server_mut("api").unwrap().restart(), 1).is_none());
    let _runtime = runtime.enter();
    drop(group);
    assert!(lives(api), "the drop has waited");
    eventually("all are gone", || {
        let db_lives = lives(db);
        assert!(db_lives || !lives(api), "it ended before the one that needs it");
        !db_lives
    });
}

/// Of a task that has lines itself, and is held by nothing but its waker.
#[test]
fn a_waker_that_is_dropped_with_lines_of_its_own() {
    struct Task(#[allow(dead_code)] std::sync::Mutex<Lines>);
    impl Wake for Task {
        fn wake(self: Arc<Self>) {}
    }
    let runtime = current_thread();
    let builder = Server::builder(shell("exec sleep 1000")).no_port();
    let server = runtime.block_on(Server::start(builder)).unwrap();
    let (mut lines, others) = (server.follow(), [server.follow(), server.follow()]);
    bounded(move || {
        for other in others {
            let waker = Waker::from(Arc::new(Task(other.into())));
            assert!(pin!(lines.next()).poll(&mut Context::from_waker(&waker)).is_pending());
        }
        drop(lines);
    });
}

#[test]
fn a_wait_is_as_short_as_was_asked_for() {
    let runtime = current_thread();
    let mut server = runtime.block_on(Server::start(serves())).unwrap();
    let mut wait = || {
        let start = std::time::Instant::now();
        assert_eq!(runtime.block_on(server.wait(Duration::from_millis(1))).unwrap(), None);
        start.elapsed()
    };
    // On a busy machine, some take longer.
    eventually("a short wait is short", || wait() < Duration::from_millis(30));
}
