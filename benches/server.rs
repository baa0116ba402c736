//! What a server costs over its own time: its start with a watchdog, and its stop.
//!
//! `cargo bench --bench server`. The contestants take turns, so that a change of the machine's speed
//! hits all of them. The servers are this very program.

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use portlease::Server;

const ROUNDS: usize = 100;

fn main() {
    if env::args().nth(1).as_deref() == Some("serve") {
        serve();
    }
    println!("{:<58} {:>9} {:>9} {:>9}", "", "median", "9 of 10", "ratio");
    start(10);
    stop();
    stop_many();
    start(500);
}

/// Until it is killed.
fn serve() -> ! {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    println!("PORT={}", listener.local_addr().expect("address").port());
    let mut clients = Vec::new();
    loop {
        clients.push(listener.accept());
    }
}

fn command() -> Command {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.arg("serve");
    command
}

/// From the command to a server that accepts, in a process of so many megabytes: spawned bare, and
/// with a watchdog, a cookie, readers and all.
fn start(megabytes: usize) {
    let ballast = vec![1_u8; megabytes << 20];
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let mut child = command().stdout(Stdio::piped()).spawn().expect("spawn");
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("stdout");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let port = line.trim().strip_prefix("PORT=").expect("a port").parse().expect("a number");
        TcpStream::connect(("127.0.0.1", port)).expect("connect");
        bare.push(start.elapsed());
        child.kill().and_then(|()| child.wait()).expect("kill");

        let start = Instant::now();
        let server = Server::builder(command()).report_port().start().expect("start");
        ours.push(start.elapsed());
        server.stop().expect("stop");
    }
    drop(ballast);
    let (bare, ours) = (Times::of(bare), Times::of(ours));
    bare.print(&format!("start in a process of {megabytes} MB, bare"), None);
    ours.print(&format!("start in a process of {megabytes} MB, as a `Server`"), Some(&bare));
}

/// From the moment a client sees the server die to the end of `stop`.
fn stop() {
    let times = (0..ROUNDS).map(|_| {
        let server = Server::builder(command()).report_port().start().expect("start");
        let mut client = TcpStream::connect(server.addr()).expect("connect");
        let witness = thread::spawn(move || {
            let _ = client.read(&mut [0]);
            Instant::now()
        });
        server.stop().expect("stop");
        let stopped = Instant::now();
        stopped.saturating_duration_since(witness.join().expect("the witness"))
    });
    Times::of(times.collect()).print("stop, after the last process has ended", None);
}

/// Servers that ignore SIGTERM: one, and twenty together.
fn stop_many() {
    let grace = Duration::from_millis(300);
    let stubborn = || {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "trap '' TERM; exec \"$0\" serve"]);
        command.arg(env::current_exe().expect("this program"));
        Server::builder(command).report_port().stop_grace(grace).start().expect("start")
    };
    let stop = |count| {
        let servers: Vec<_> = (0..count).map(|_| stubborn()).collect();
        let start = Instant::now();
        for stopped in Server::stop_all(servers) {
            assert!(stopped.expect("stop").forced());
        }
        start.elapsed()
    };
    let (one, twenty) = (0..10).map(|_| (stop(1), stop(20))).unzip();
    let (one, twenty) = (Times::of(one), Times::of(twenty));
    one.print("stop of one that ignores SIGTERM for 300 ms", None);
    twenty.print("stop of twenty of them together", Some(&one));
}

/// In milliseconds.
struct Times {
    median: f64,
    nine_of_ten: f64,
}

impl Times {
    fn of(mut times: Vec<Duration>) -> Times {
        times.sort_unstable();
        let millis = |index: usize| times[index].as_secs_f64() * 1e3;
        Times { median: millis(times.len() / 2), nine_of_ten: millis(times.len() * 9 / 10) }
    }

    fn print(&self, name: &str, of: Option<&Times>) {
        let Times { median, nine_of_ten } = self;
        let ratio = of.map_or(String::new(), |of| format!("{:>8.2}x", median / of.median));
        println!("{name:<58} {median:>6.2} ms {nine_of_ten:>6.2} ms {ratio:>9}");
    }
}
