//! The server that is started: it listens, says so, and keeps its clients until it is killed.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::process::parent_id;
use std::path::Path;
use std::process::{self, Child, Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime};

use portlease_peers::patience;

/// Where a server writes when it began to listen, and what it prints then.
const LISTENS_AT: &str = "LISTENS_AT";
const SAYS: &str = "SAYS";

/// One that begins to listen at once, on a port of its own choice, and prints it.
pub(crate) fn prompt() -> Command {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.arg("serve");
    command
}

/// One that takes so many milliseconds until it listens, on the port in `PORT` or else one of its choice,
/// prints `says`, and writes into `file` when that was.
pub(crate) fn late(delay: u64, says: &str, file: &Path) -> Command {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.arg("serve-later").env("DELAY", delay.to_string()).env("PORT", "0");
    command.env(SAYS, says).env(LISTENS_AT, file);
    command
}

/// What a server prints when it listens: nothing, or a line with the port in the place of `@`.
pub(crate) const NOTHING: &str = "";
pub(crate) const VARIABLE: &str = "PORT=@";
pub(crate) const URL: &str = "listening on http://127.0.0.1:@/";

/// A prompt one that ignores SIGTERM.
pub(crate) fn stubborn() -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "trap '' TERM; exec \"$0\" serve"]);
    command.arg(env::current_exe().expect("this program"));
    command
}

/// The role of such a process.
pub(crate) fn serve(role: &str) -> ! {
    let parent = parent_id();
    let number = |name| env::var(name).expect("a variable").parse::<u64>().expect("a number");
    let mut port = 0;
    if role == "serve-later" {
        thread::sleep(Duration::from_millis(number("DELAY")));
        port = number("PORT") as u16;
    }
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("listen");
    let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock");
    if let Ok(patience) = env::var("TEST_PATIENCE_PORT") {
        test_patience::Client::notify(patience.parse().expect("a number")).expect("a test");
    }
    let says = env::var(SAYS).unwrap_or_else(|_| VARIABLE.to_owned());
    if !says.is_empty() {
        let port = listener.local_addr().expect("an address").port();
        println!("{}", says.replace('@', &port.to_string()));
    }
    if let Some(file) = env::var_os(LISTENS_AT) {
        fs::write(file, at.as_nanos().to_string()).expect("write");
    }
    thread::spawn(move || end_with_parent(parent));
    let mut clients = Vec::new();
    loop {
        clients.push(listener.accept());
    }
}

/// How long ago the server that writes into `file` began to listen.
pub(crate) fn since_it_listens(file: &Path) -> Duration {
    let now = SystemTime::now();
    let written = || fs::read_to_string(file).ok().filter(|at| !at.is_empty());
    let at = patience::until("word of the server", Duration::from_millis(1), written);
    fs::remove_file(file).expect("remove");
    let at = SystemTime::UNIX_EPOCH + Duration::from_nanos(at.parse().expect("a time"));
    now.duration_since(at).unwrap_or_default()
}

/// A process that is killed when this is dropped: by hand, what a test does without any crate.
#[derive(Debug)]
pub(crate) struct Bare(pub(crate) Child);

impl Bare {
    pub(crate) fn spawn(command: &mut Command) -> Bare {
        Bare(command.spawn().expect("spawn"))
    }

    /// A prompt one, whose port is read.
    pub(crate) fn prompt() -> (Bare, SocketAddr) {
        let mut bare = Bare::spawn(prompt().stdout(Stdio::piped()));
        let address = address_of(bare.0.stdout.as_mut().expect("stdout"));
        (bare, address)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a prompt one prints.
pub(crate) fn address_of(stdout: impl Read + AsFd) -> SocketAddr {
    patience::readable(&stdout, patience::AT_MOST);
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    let port: u16 = line.trim().strip_prefix("PORT=").expect("a port").parse().expect("a number");
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Ends this process with the one that started it, which may be killed before it kills a bare one.
fn end_with_parent(parent: u32) -> ! {
    while parent_id() == parent {
        thread::sleep(Duration::from_millis(500));
    }
    process::exit(0);
}
