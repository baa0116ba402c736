//! What a server costs over its own time: its start with a watchdog, the wait until it is ready, and
//! its stop.
//!
//! `cargo bench --bench server`; with `--features tokio` also for starts that are awaited. The contestants take turns, so that a change of the machine's speed
//! hits all of them. The servers are this very program.

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use portlease::{Server, ServerBuilder};

const ROUNDS: usize = 100;

fn main() {
    match env::args().nth(1).as_deref() {
        Some("serve") => serve(0),
        Some("serve-later") => {
            thread::sleep(Duration::from_millis(env("DELAY")));
            serve(env("PORT") as u16)
        }
        _ => {}
    }
    println!("{:<58} {:>9} {:>9} {:>9}", "", "median", "9 of 10", "ratio");
    start(10);
    stop();
    stop_many();
    start(500);
    ready();
}

fn env(name: &str) -> u64 {
    env::var(name).expect("a variable").parse().expect("a number")
}

/// Until it is killed.
fn serve(port: u16) -> ! {
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("listen");
    let port = listener.local_addr().expect("address").port();
    let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock");
    if env::var_os("SILENT").is_none() {
        println!("PORT={port}");
    }
    if let Some(file) = env::var_os("LISTENS_AT") {
        std::fs::write(file, at.as_nanos().to_string()).expect("write");
    }
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
    #[cfg(feature = "tokio")]
    let mut awaited = Vec::new();
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

        #[cfg(feature = "tokio")]
        awaited.push(start_awaited());
    }
    drop(ballast);
    let (bare, ours) = (Times::of(bare), Times::of(ours));
    bare.print(&format!("start in a process of {megabytes} MB, bare"), None);
    ours.print(&format!("start in a process of {megabytes} MB, as a `Server`"), Some(&bare));
    #[cfg(feature = "tokio")]
    Times::of(awaited)
        .print(&format!("start in a process of {megabytes} MB, awaited"), Some(&bare));
}

/// How long it takes, on a runtime that is there already.
#[cfg(feature = "tokio")]
fn start_awaited() -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let start = Instant::now();
        let builder = Server::builder(command()).report_port();
        let server = portlease::tokio::Server::start(builder).await.expect("start");
        let time = start.elapsed();
        server.stop().await.expect("stop");
        time
    })
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

/// From the server's "I listen" to the test's "it is ready", for one that takes 50 ms until then: ours,
/// and loops that poll by connecting. And the CPU time of waiting for one that takes a second.
fn ready() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("listens-at");
    let later = |delay: u64, silent: bool| {
        let mut command = Command::new(env::current_exe().expect("this program"));
        command.arg("serve-later").env("DELAY", delay.to_string()).env("LISTENS_AT", &file);
        if silent {
            command.env("SILENT", "1");
        }
        command
    };
    let since_it_listens = || {
        let now = SystemTime::now();
        let mut at = String::new();
        while at.is_empty() {
            at = std::fs::read_to_string(&file).unwrap_or_default();
        }
        std::fs::remove_file(&file).expect("remove");
        let at = SystemTime::UNIX_EPOCH + Duration::from_nanos(at.parse().expect("a time"));
        now.duration_since(at).unwrap_or_default()
    };
    let ours = |builder: ServerBuilder| {
        let server = builder.start().expect("start");
        let late = since_it_listens();
        server.stop().expect("stop");
        late
    };
    let polled = |pause| {
        let lease = portlease::lease().expect("lease");
        let mut command = later(50, true);
        let mut child = command.env("PORT", lease.to_string()).spawn().expect("spawn");
        while TcpStream::connect(lease.addr()).is_err() {
            thread::sleep(pause);
        }
        let late = since_it_listens();
        child.kill().and_then(|()| child.wait()).expect("kill");
        late
    };
    let mut times = [const { Vec::new() }; 5];
    for _ in 0..ROUNDS / 2 {
        let reported = {
            let mut command = later(50, false);
            command.env("PORT", "0");
            Server::builder(command).report_port()
        };
        let late = [
            ours(Server::builder(later(50, false)).env_port("PORT")),
            ours(Server::builder(later(50, true)).env_port("PORT")),
            ours(reported),
            polled(Duration::from_millis(1)),
            polled(Duration::from_millis(100)),
        ];
        times.iter_mut().zip(late).for_each(|(times, late)| times.push(late));
    }
    let [told, silent, reported, fast, slow] = times.map(Times::of);
    fast.print("ready after it listens, connect every 1 ms", None);
    slow.print("ready after it listens, connect every 100 ms", Some(&fast));
    told.print("ready after it listens, told its port", Some(&fast));
    silent.print("ready after it listens, told its port, prints nothing", Some(&fast));
    reported.print("ready after it listens, reports its port", Some(&fast));

    let cpu = |wait: &dyn Fn()| {
        let before = cpu_time();
        wait();
        cpu_time() - before
    };
    let silent = || Server::builder(later(1000, true)).env_port("PORT").start().expect("start");
    let waits = (0..5).map(|_| cpu(&|| drop(silent()))).collect();
    Times::of(waits).print("CPU time of a start that takes 1 s, with its stop", None);
}

/// That this thread has used.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("schedstat");
    let nanos = text.split(' ').next().expect("a field").parse().expect("a number");
    Duration::from_nanos(nanos)
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
