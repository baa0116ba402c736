//! The main job, on itself: three processes, as three tests would, start three servers each, all at
//! once; talk to each over HTTP; and stop them. Needs no other program.
//!
//! Run it with `cargo run --example quickstart`. It exits with 0 only if every server answered as
//! itself, and if nothing is left of them.

use std::env;
use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{self, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use portlease::{Registry, Server, ServerBuilder};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const PROCESSES: usize = 3;
const WAYS: [&str; 3] = ["lease, env", "lease, argument", "report"];

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => show(),
        ["test"] => test(),
        // The server under test: it takes its port from PORT, from its argument, or from the kernel.
        ["serve"] => serve(env::var("PORT").map_or(Ok(0), |port| port.parse())?),
        ["serve", port] => serve(port.parse()?),
        _ => Err("usage: quickstart".into()),
    }
}

/// Runs the three processes, and prints what they found.
fn show() -> Result<()> {
    println!("{:>8}  {:>8}  {:<16} {:>5}  {:>8}", "process", "server", "way", "port", "ready in");
    let spawn = || own_command(&["test"]).stdout(Stdio::piped()).spawn();
    let tests = (0..PROCESSES).map(|_| spawn()).collect::<std::io::Result<Vec<_>>>()?;
    let mut ports = Vec::new();
    let mut failed = 0;
    for test in tests {
        let output = test.wait_with_output()?;
        failed += usize::from(!output.status.success());
        for row in String::from_utf8(output.stdout)?.lines() {
            println!("{row}");
            ports.push(row.split_whitespace().rev().nth(2).ok_or("a row without a port")?.parse()?);
        }
    }
    let holders = Registry::global()?.list()?;
    let still = |port: &&u16| holders.iter().any(|holder| holder.port() == **port);
    let still_leased = ports.iter().filter(still).count();
    let answering = ports.iter().filter(|&&port| connect(port).is_ok()).count();
    println!("of these {} ports, {still_leased} are leased now, {answering} answer", ports.len());
    match (ports.len(), failed, still_leased, answering) {
        (count, 0, 0, 0) if count == PROCESSES * WAYS.len() => Ok(()),
        _ => Err("not every server answered as itself, or something of one is left".into()),
    }
}

/// What a test does: starts its servers, uses them, stops them.
fn test() -> Result<()> {
    let servers = thread::scope(|scope| {
        let starts: Vec<_> = WAYS.map(|way| scope.spawn(move || start(way))).into();
        let joined =
            starts.into_iter().map(|start| start.join().map_err(|_| "a start panicked")?);
        joined.collect::<Result<Vec<_>>>()
    })?;
    for (way, server, time) in servers {
        let answer = get(server.port(), "/who")?;
        if answer != server.pid().to_string() {
            return Err(format!("{} answered in the place of {}", answer, server.pid()).into());
        }
        let (process, pid, port) = (process::id(), server.pid(), server.port());
        let millis = time.as_secs_f64() * 1e3;
        println!("{process:>8}  {pid:>8}  {way:<16} {port:>5}  {millis:>5.1} ms");
        server.stop()?;
    }
    Ok(())
}

fn start(way: &'static str) -> Result<(&'static str, Server, Duration)> {
    let start = Instant::now();
    let builder: ServerBuilder = match way {
        "lease, env" => Server::builder(own_command(&["serve"])).env_port("PORT"),
        "lease, argument" => {
            Server::with(|ports| own_command(&["serve", &ports.main().to_string()]))
        }
        _ => Server::builder(own_command(&["serve"])).report_port(),
    };
    let server = builder.start()?;
    Ok((way, server, start.elapsed()))
}

fn own_command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::current_exe().unwrap_or_default());
    command.args(arguments);
    command
}

/// A server that answers each request with its process id.
fn serve(port: u16) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    println!("PORT={}", listener.local_addr()?.port());
    loop {
        let (mut stream, _) = listener.accept()?;
        let mut request = String::new();
        // A client that only looks whether we accept goes away without a request.
        if BufReader::new(&stream).read_line(&mut request).is_ok_and(|read| read > 0) {
            write!(stream, "HTTP/1.0 200 OK\r\n\r\n{}", process::id())?;
        }
    }
}

fn get(port: u16, path: &str) -> Result<String> {
    let mut stream = connect(port)?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or("not an HTTP answer")?;
    Ok(body.to_owned())
}

fn connect(port: u16) -> std::io::Result<TcpStream> {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port))
}
