//! What only `portlease::tokio` does. Futures that are dropped half-way, and drops inside a runtime:
//! `tests/awaited.rs`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use portlease::tokio::Server;
use portlease::{Bound, ErrorKind, Lease, Ready, ServerBuilder};
use tokio::net::{TcpStream, UdpSocket};
use tokio::runtime::{Builder, Runtime};

use super::support::{DEADLINE, OwnRegistry, child_command, who_answers};
use super::{not_asked_for_long, server};

fn serves() -> ServerBuilder {
    server(&["serve"])
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[tokio::test]
async fn several_leases() {
    let own = OwnRegistry::new();
    let many = portlease::tokio::lease_many(own.request(), 2).await.unwrap();
    let block = portlease::tokio::lease_block(own.request(), 2).await.unwrap();
    assert_eq!(block[0].port() + 1, block[1].port());
    let ports = [block[1].port(), many[0].port()];
    drop((many, block));
    let exact = portlease::tokio::lease_exact(own.request(), &ports).await.unwrap();
    assert_eq!([exact[0].port(), exact[1].port()], ports);
}

#[tokio::test]
async fn sockets() {
    let bound = portlease::bind().unwrap();
    let addr = bound.addr();
    assert_eq!(bound.url("a"), format!("http://{addr}/a"));
    let listener = bound.into_tokio().unwrap();
    let (accepted, connected) = tokio::join!(listener.accept(), TcpStream::connect(addr));
    assert_eq!(accepted.unwrap().1, connected.unwrap().local_addr().unwrap());
    let lease = Lease::builder().udp().lease().unwrap();
    let listener = lease.bind_tokio().unwrap();
    assert_eq!(listener.local_addr().unwrap(), lease.addr());
    let socket = lease.bind_udp_tokio().unwrap();
    let other = Bound::udp().unwrap().into_tokio().unwrap();
    hears(&socket, &other).await;
    assert_eq!(lease.bind_tokio().unwrap_err().kind(), ErrorKind::PortTaken);
}

async fn hears(one: &UdpSocket, other: &UdpSocket) {
    other.send_to(b"hello", one.local_addr().unwrap()).await.unwrap();
    let mut received = [0; 10];
    let (size, from) = one.recv_from(&mut received).await.unwrap();
    assert_eq!((&received[..size], from), (&b"hello"[..], other.local_addr().unwrap()));
}

#[test]
fn a_socket_outside_of_a_runtime_is_an_error() {
    let lease = portlease::lease().unwrap();
    let errors = [
        portlease::bind().unwrap().into_tokio().unwrap_err(),
        Bound::udp().unwrap().into_tokio().unwrap_err(),
        lease.bind_tokio().unwrap_err(),
        lease.bind_udp_tokio().unwrap_err(),
        // Before it takes or announces any.
        portlease::tokio::child::listener().unwrap_err(),
        portlease::tokio::child::listener_on([127, 0, 0, 1]).unwrap_err(),
        portlease::tokio::child::listener_named("grpc").unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("inside a tokio runtime"), "{error}");
    }
}

#[test]
fn a_lease_that_is_waited_for() {
    let own = OwnRegistry::new();
    let held = own.request().lease().unwrap();
    let port = held.port();
    let wait =
        |own: &OwnRegistry| portlease::tokio::lease(own.request().exact(port).wait(DEADLINE));
    let lease = current_thread().block_on(async {
        let in_vain = tokio::time::timeout(Duration::from_millis(20), wait(&own)).await;
        in_vain.map(drop).expect_err("it is held");
        let waiting = tokio::spawn(wait(&own));
        tokio::task::yield_now().await;
        drop(held);
        waiting.await.unwrap().unwrap()
    });
    assert_eq!(lease.port(), port);
}

/// As one that tests share, of which each has a runtime of its own.
#[test]
fn a_server_outlives_the_runtime_that_started_it() {
    let mut server = current_thread().block_on(Server::start(serves())).unwrap();
    let mut lines = server.follow();
    let threads = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    threads.block_on(async {
        let line = tokio::time::timeout(DEADLINE, lines.next()).await.unwrap();
        assert_eq!(line.unwrap().text(), "serving");
        server.restart().await.unwrap();
        assert_eq!(who_answers(server.addr()), server.pid());
        let end = tokio::time::timeout(DEADLINE, lines.next()).await.unwrap();
        assert!(end.is_none(), "{end:?}");
    });
    current_thread().block_on(server.stop()).unwrap();
}

#[test]
fn a_closure_that_panics() {
    let builder = || {
        let panics = Ready::when("this panics", |_| panic!("on purpose"));
        serves().ready(panics)
    };
    let runtime = current_thread();
    let start = || runtime.block_on(Server::start(builder()));
    let panic = catch_unwind(AssertUnwindSafe(start)).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"on purpose"));
    let mut starts = 0;
    let once = portlease::Server::with(move |_| {
        starts += 1;
        assert_eq!(starts, 1);
        child_command(&["serve"])
    });
    let mut server =
        runtime.block_on(Server::start(not_asked_for_long(once.report_port()))).unwrap();
    let restart = || runtime.block_on(server.restart());
    catch_unwind(AssertUnwindSafe(restart)).unwrap_err();
    let error = runtime.block_on(server.stop()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exited);
}

/// A clock that jumps to the next timer whenever nothing else is to be done.
#[tokio::test(start_paused = true)]
async fn with_time_that_is_paused() {
    let timer = tokio::spawn(tokio::time::sleep(Duration::from_secs(3600)));
    let mut server = Server::start(serves()).await.unwrap();
    server.wait_for_line("serving", DEADLINE).await.unwrap();
    server.restart().await.unwrap();
    assert_eq!(server.wait(Duration::from_millis(1)).await.unwrap(), None);
    server.stop().await.unwrap();
    assert!(timer.is_finished(), "the time was not paused: this tests nothing");
}
