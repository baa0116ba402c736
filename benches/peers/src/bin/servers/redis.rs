//! A real server, by those who start that one: until it answers `PING`, and its stop.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use portlease::{Lease, Server};
use portlease_peers::patience;
use portlease_peers::table::Table;
use process_wrap::std::{CommandWrap, ProcessGroup};
use redis_test::server::RedisServer;
use redis_test::utils::get_random_available_port;

use crate::child::Bare;
use crate::guard::Guard;
use crate::{SIGTERM, table_of, turns};

/// Starts and stops. `None`: it is not installed.
pub(crate) fn tables(rounds: usize) -> Option<[Table; 2]> {
    let version = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status();
    version.ok().filter(|status| status.success())?;
    let guard = Guard::start();
    let often = Duration::from_millis(1);
    let starts = turns(
        rounds,
        &[
            ("spawned, connect every 1 ms", &|_| timed(|| spawned(&guard, often)).0),
            ("spawned, connect every 100 ms", &|_| timed(|| spawned(&guard, 100 * often)).0),
            ("redis-test, connect every 1 ms", &|_| timed(|| peer(&guard)).0),
            ("`portlease::Server`", &|_| timed(ours).0),
        ],
    );
    let stops = turns(
        rounds,
        &[
            ("SIGKILL, and wait", &|_| drop_time(spawned(&guard, often))),
            ("redis-test: SIGKILL, and wait", &|_| drop_time(peer(&guard))),
            ("process-wrap: SIGTERM to its group, and wait", &|_| wrapped_stop(&guard)),
            ("`portlease::Server::stop`: SIGTERM", &|_| {
                let server = ours();
                timed(|| server.stop().expect("stop")).0
            }),
        ],
    );
    Some([table_of("Redis, until it answers `PING`", starts), table_of("Redis, stop", stops)])
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let result = work();
    (start.elapsed(), result)
}

fn drop_time<T>(server: T) -> Duration {
    timed(|| drop(server)).0
}

fn spawned(guard: &Guard, pause: Duration) -> (Bare, Lease) {
    let lease = portlease::lease().expect("lease");
    let server = Bare(guard.spawn(redis(lease.port()).stdout(Stdio::null())));
    ping(lease.addr(), pause);
    (server, lease)
}

/// As its `new`, but for what is added to the command. It leaves the wait to who uses it.
fn peer(guard: &Guard) -> RedisServer {
    let address = RedisServer::get_addr(get_random_available_port());
    let spawn = |command: &mut Command| guard.spawn(command.args(LOOKS_OFTEN));
    let server = RedisServer::new_with_addr_tls_modules_and_spawner(
        address,
        None,
        None,
        false,
        None,
        &[],
        spawn,
    );
    let (host, port) = server.host_and_port().expect("TCP");
    let address = SocketAddr::new(host.parse().expect("an address"), port);
    ping(address, Duration::from_millis(1));
    server
}

fn ours() -> Server {
    let server = Server::with(|ports| redis(ports.main())).start().expect("start");
    ping(server.addr(), Duration::ZERO);
    server
}

fn wrapped_stop(guard: &Guard) -> Duration {
    let lease = portlease::lease().expect("lease");
    let mut command = redis(lease.port());
    command.stdout(Stdio::null());
    let mut server =
        CommandWrap::from(command).wrap(ProcessGroup::leader()).spawn().expect("spawn");
    guard.watch(server.id());
    ping(lease.addr(), Duration::from_millis(1));
    timed(|| server.signal(SIGTERM).and_then(|()| server.wait()).expect("an end")).0
}

/// It looks every 2 ms whether it was sent SIGTERM, not every 100: else it depends on when it was last at it,
/// more than on anything else, how long its stop takes.
const LOOKS_OFTEN: [&str; 2] = ["--hz", "500"];

fn redis(port: u16) -> Command {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--save", "", "--bind", "127.0.0.1"]);
    command.args(LOOKS_OFTEN);
    command
}

/// Until it is answered.
fn ping(address: SocketAddr, pause: Duration) {
    let mut client = patience::until("Redis", pause, || TcpStream::connect(address).ok());
    client.set_read_timeout(Some(patience::AT_MOST)).expect("a timeout");
    client.write_all(b"PING\r\n").expect("write");
    let mut answer = [0; 7];
    client.read_exact(&mut answer).expect("read");
    assert_eq!(&answer, b"+PONG\r\n");
}
