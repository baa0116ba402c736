//! A program whose port cannot be changed: its tests, in several processes, wait in line for it, and
//! each has it alone.
//!
//! Run it with `cargo run --example fixed_port`. It needs no other program: it starts itself, as four
//! tests, and they start it as their server.

use std::env;
use std::error::Error;
use std::io::{self, Seek, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{self, Command, ExitStatus};
use std::time::Duration;

use portlease::{Lease, Server};

const PORT: u16 = 18_321;

fn main() -> Result<(), Box<dyn Error>> {
    match env::args().nth(1).as_deref() {
        None => run_tests(),
        Some("test") => test(),
        Some(_) => serve(),
    }
}

/// What each test does.
fn test() -> Result<(), Box<dyn Error>> {
    let lease = Lease::builder().exact(PORT).wait(Duration::from_secs(60)).lease()?;
    let mut command = Command::new(env::current_exe()?);
    command.arg("serve");
    let server = Server::builder(command).lease(lease).start()?; // which keeps it until it is gone

    println!("test {} begins on port {PORT}", process::id());
    let answer = io::read_to_string(TcpStream::connect(server.addr())?)?;
    assert_eq!(answer, server.pid().to_string(), "this is somebody else's server");
    println!("test {} ends on port {PORT}", process::id());
    server.stop()?;
    Ok(())
}

/// The server: it is told no port, and says its process id to whoever connects.
fn serve() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(("127.0.0.1", PORT))?;
    loop {
        write!(listener.accept()?.0, "{}", process::id())?;
    }
}

/// Starts four tests at once, and looks whether they had the port one after the other.
fn run_tests() -> Result<(), Box<dyn Error>> {
    let mut log = tempfile::tempfile()?;
    let spawn = |_| Command::new(env::current_exe()?).arg("test").stdout(log.try_clone()?).spawn();
    let tests = (0..4).map(spawn).collect::<io::Result<Vec<_>>>()?;
    let ends = tests.into_iter().map(|mut test| test.wait()).collect::<io::Result<Vec<_>>>()?;

    log.rewind()?;
    let log = io::read_to_string(log)?;
    print!("{log}");
    assert!(ends.iter().all(ExitStatus::success), "a test failed");
    let lines: Vec<_> = log.lines().collect();
    for turn in lines.chunks(2) {
        assert_eq!(turn[0].replace("begins", "ends"), turn[1], "the next began too early");
    }
    println!("{} tests took turns", lines.len() / 2);
    Ok(())
}
