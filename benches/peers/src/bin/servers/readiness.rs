//! From the server's "I listen" to the test's "it is ready"; and what the wait costs.

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use portlease::{Lease, Server, ServerBuilder};
use portlease_peers::table::Table;
use portlease_peers::{cpu, crew};

use crate::child::{Bare, NOTHING, URL, VARIABLE, late, since_it_listens};
use crate::{table_of, turns};

/// What the server takes until it listens, in milliseconds.
const DELAY: u64 = 50;

/// How late each notices. The loops connect, as most do by hand; test-patience is told by the server, which
/// has to be written for it.
pub(crate) fn table(rounds: usize) -> Table {
    let dir = crew::scratch();
    let file = dir.path().join("listens-at");
    let server = |says| Server::builder(late(DELAY, says, &file));
    let told = |says| ours(server(says).env_port("PORT"), &file);
    let reports = |says| ours(server(says).report_port(), &file);
    let times = turns(
        rounds,
        &[
            ("connect every 100 ms", &|| polled(Duration::from_millis(100), &file)),
            ("connect every 1 ms", &|| polled(Duration::from_millis(1), &file)),
            ("test-patience", &|| patient(&file)),
            ("`portlease::Server`, told its port", &|| told(VARIABLE)),
            ("`portlease::Server`, told its port, prints nothing", &|| told(NOTHING)),
            ("`portlease::Server`, reports `PORT=` and its port", &|| reports(VARIABLE)),
            ("`portlease::Server`, reports a URL", &|| reports(URL)),
            ("`portlease::Server`, is observed", &|| ours(server(NOTHING).observe_port(), &file)),
        ],
    );
    table_of(format!("Noticed after it listens, of a server that takes {DELAY} ms"), times)
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
    let asleep = || {
        cpu(&|| {
            let _server = Bare::spawn(&mut late(SECOND, NOTHING, &file));
            thread::sleep(Duration::from_millis(SECOND + 100));
        })
    };
    let polled = |pause| cpu(&|| drop(wait_by_polling(late(SECOND, NOTHING, &file), pause)));
    let ours = || {
        let builder = || Server::builder(late(SECOND, NOTHING, &file)).env_port("PORT");
        cpu(&|| drop(builder().start().expect("start")))
    };
    let times = turns(
        rounds,
        &[
            ("spawned, and slept until it listens", &asleep),
            ("connect every 100 ms", &|| polled(Duration::from_millis(100))),
            ("connect every 1 ms", &|| polled(Duration::from_millis(1))),
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

fn polled(pause: Duration, file: &Path) -> Duration {
    let _server = wait_by_polling(late(DELAY, NOTHING, file), pause);
    since_it_listens(file)
}

fn wait_by_polling(mut command: Command, pause: Duration) -> (Bare, Lease) {
    let lease = portlease::lease().expect("lease");
    let child = Bare::spawn(command.env("PORT", lease.to_string()));
    while TcpStream::connect(lease.addr()).is_err() {
        thread::sleep(pause);
    }
    (child, lease)
}

fn patient(file: &Path) -> Duration {
    let patience = test_patience::Server::new().expect("listen");
    let lease = portlease::lease().expect("lease");
    let mut command = late(DELAY, NOTHING, file);
    command.env("TEST_PATIENCE_PORT", patience.port().expect("a port").to_string());
    let _server = Bare::spawn(command.env("PORT", lease.to_string()));
    patience.wait(Duration::from_secs(60)).expect("a notice");
    since_it_listens(file)
}
