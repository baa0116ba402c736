//! Stops: how long each takes, of a server that goes at once, and of those that do not.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use portlease::Server;
use portlease_peers::table::Table;
use process_wrap::std::{CommandWrap, ProcessGroup};

use crate::child::{self, Bare};
use crate::{SIGTERM, Times, table_of, turns};

/// From the call to its return; and of ours, how much of that is after the server has ended.
pub(crate) fn table(rounds: usize) -> Table {
    let times = turns(
        rounds,
        &[
            ("`Child::kill` and `wait`: that process only", &|_| bare()),
            ("process-wrap: SIGTERM to its group, and wait", &|_| wrapped()),
            ("`portlease::Server::stop`", &|_| ours().0),
            ("the same, after the last process has ended", &|_| ours().1),
        ],
    );
    table_of("Stop of a server that ends at once", times)
}

/// Of servers that ignore SIGTERM: one, and twenty together.
pub(crate) fn stubborn_table(rounds: usize) -> Table {
    let grace = Duration::from_millis(300);
    let start = || {
        let builder = Server::builder(child::stubborn()).report_port();
        builder.stop_grace(grace).start().expect("start")
    };
    let stop = |count| {
        let servers: Vec<_> = (0..count).map(|_| start()).collect();
        let start = Instant::now();
        for stopped in Server::stop_all(servers) {
            assert!(stopped.expect("stop").forced());
        }
        start.elapsed()
    };
    let times: Vec<Times> =
        turns(rounds, &[("one", &|_| stop(1)), ("twenty together", &|_| stop(20))]);
    table_of("Stop of servers that ignore SIGTERM, with a grace of 300 ms", times)
}

fn bare() -> Duration {
    let (server, _) = Bare::prompt();
    let start = Instant::now();
    drop(server);
    start.elapsed()
}

fn wrapped() -> Duration {
    let mut command = child::prompt();
    command.stdout(Stdio::piped());
    let mut child = CommandWrap::from(command).wrap(ProcessGroup::leader()).spawn().expect("spawn");
    child::address_of(child.stdout().as_mut().expect("stdout"));
    let start = Instant::now();
    child.signal(SIGTERM).and_then(|()| child.wait()).expect("an end");
    start.elapsed()
}

fn ours() -> (Duration, Duration) {
    let server = Server::builder(child::prompt()).report_port().start().expect("start");
    let witness = witness(server.addr());
    let start = Instant::now();
    server.stop().expect("stop");
    let stopped = Instant::now();
    let ended = witness.join().expect("the witness");
    (stopped - start, stopped.saturating_duration_since(ended))
}

/// A client, who sees the server's end as the end of his connection.
fn witness(address: SocketAddr) -> thread::JoinHandle<Instant> {
    let mut client = TcpStream::connect(address).expect("connect");
    thread::spawn(move || {
        let _ = client.read(&mut [0]);
        Instant::now()
    })
}
