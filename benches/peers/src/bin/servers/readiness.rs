//! From the server's "I listen" to the test's "it is ready"; and what the wait costs.

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use portlease::{Lease, Server, ServerBuilder};
use portlease_peers::table::Table;
use portlease_peers::{cpu, crew, patience};

use crate::child::{Bare, NOTHING, URL, VARIABLE, late, since_it_listens};
use crate::{table_of, turns};

/// What the server takes until it listens, in milliseconds: in each turn another, 50 to 149, spread evenly however
/// many turns there are. With one and the same, a loop would be as late each time as its pauses happen to fit to it.
fn delay(turn: usize) -> u64 {
    50 + turn as u64 * 618 / 10 % 100 // the golden ratio
}

/// How late each notices. The loops connect, as most do by hand; test-patience is told by the server, which
/// has to be written for it.
pub(crate) fn table(rounds: usize) -> Table {
    let dir = crew::scratch();
    let file = dir.path().join("listens-at");
    let server = |turn, says| Server::builder(late(delay(turn), says, &file));
    let told = |turn, says| ours(server(turn, says).env_port("PORT"), &file);
    let reports = |turn, says| ours(server(turn, says).report_port(), &file);
    let observed = |turn| ours(server(turn, NOTHING).observe_port(), &file);
    let polled = |turn, pause| polled(turn, Duration::from_millis(pause), &file);
    let times = turns(
        rounds,
        &[
            ("connect every 100 ms", &|turn| polled(turn, 100)),
            ("connect every 1 ms", &|turn| polled(turn, 1)),
            ("test-patience", &|turn| patient(turn, &file)),
            ("`portlease::Server`, told its port", &|turn| told(turn, VARIABLE)),
            ("`portlease::Server`, told its port, prints nothing", &|turn| told(turn, NOTHING)),
            ("`portlease::Server`, reports `PORT=` and its port", &|turn| reports(turn, VARIABLE)),
            ("`portlease::Server`, reports a URL", &|turn| reports(turn, URL)),
            ("`portlease::Server`, is observed", &observed),
        ],
    );
    table_of("Noticed after it listens, of a server that takes 50 to 150 ms", times)
}

/// The CPU time of this process and its children, of which the server is one in each row: what it spends itself is
/// in the first, where nobody asks whether it is ready.
pub(crate) fn cpu_table(rounds: usize) -> Table {
    const SECOND: u64 = 1000;
    let dir = crew::scratch();
    let file = dir.path().join("listens-at");
    let cpu = |start_and_stop: &dyn Fn()| {
        let before = cpu::used();
        start_and_stop();
        cpu::used() - before
    };
    let asleep = |_| {
        cpu(&|| {
            let _server = Bare::spawn(&mut late(SECOND, NOTHING, &file));
            thread::sleep(Duration::from_millis(SECOND + 100));
        })
    };
    let polled = |pause| cpu(&|| drop(wait_by_polling(late(SECOND, NOTHING, &file), pause)));
    let ours = |_| {
        let builder = || Server::builder(late(SECOND, NOTHING, &file)).env_port("PORT");
        cpu(&|| drop(builder().start().expect("start")))
    };
    let times = turns(
        rounds,
        &[
            ("spawned, and slept until it listens", &asleep),
            ("connect every 100 ms", &|_| polled(Duration::from_millis(100))),
            ("connect every 1 ms", &|_| polled(Duration::from_millis(1))),
            ("`portlease::Server`", &ours),
        ],
    );
    table_of("CPU time of start and stop, of a server that takes 1 s", times)
}

fn ours(builder: ServerBuilder, file: &Path) -> Duration {
    let server = builder.start().expect("start");
    let late = since_it_listens(file);
    server.stop().expect("stop");
    late
}

fn polled(turn: usize, pause: Duration, file: &Path) -> Duration {
    let _server = wait_by_polling(late(delay(turn), NOTHING, file), pause);
    since_it_listens(file)
}

fn wait_by_polling(mut command: Command, pause: Duration) -> (Bare, Lease) {
    let lease = portlease::lease().expect("lease");
    let child = Bare::spawn(command.env("PORT", lease.to_string()));
    patience::until("server", pause, || TcpStream::connect(lease.addr()).ok());
    (child, lease)
}

fn patient(turn: usize, file: &Path) -> Duration {
    let notice = test_patience::Server::new().expect("listen");
    let lease = portlease::lease().expect("lease");
    let mut command = late(delay(turn), NOTHING, file);
    command.env("TEST_PATIENCE_PORT", notice.port().expect("a port").to_string());
    let _server = Bare::spawn(command.env("PORT", lease.to_string()));
    notice.wait(patience::AT_MOST).expect("it in time");
    since_it_listens(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_spread_evenly() {
        for turns in [10, 30, 100] {
            let in_quarter = |quarter| {
                let of = |turn: &usize| (delay(*turn) - 50) / 25 == quarter;
                (0..turns).filter(of).count()
            };
            for count in (0..4).map(in_quarter) {
                assert!(count.abs_diff(turns / 4) <= 2, "{count} of {turns}");
            }
        }
    }
}
