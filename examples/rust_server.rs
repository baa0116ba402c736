//! A server written in Rust under test: it is told its port by `PORT`, and is ready when it answers
//! `/healthz`.
//!
//! Run it with `cargo run --example rust_server`. It needs no other program: the server is this one.

use std::env;
use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use portlease::{Ready, Server};

fn main() -> Result<(), Box<dyn Error>> {
    if env::args().nth(1).as_deref() == Some("serve") {
        return serve();
    }

    // In a file of `tests/`, for a binary of the same package:
    // let command = Command::new(env!("CARGO_BIN_EXE_my-server"));
    let mut command = Command::new(env::current_exe()?);
    command.arg("serve");
    let server =
        Server::builder(command).env_port("PORT").ready(Ready::http("/healthz")).start()?;

    let answer = get(&server, "/hello")?;
    assert!(answer.ends_with("\r\n\r\nyou asked for /hello"), "{answer}");
    println!("{} answers, by process {}", server.url("/hello"), server.pid());

    let stopped = server.stop()?;
    assert!(!stopped.forced(), "it did not end when it was asked to: {stopped:?}");
    println!("it printed {:?}, and ended in {:?}", stopped.output(), stopped.duration());
    Ok(())
}

fn get(server: &Server, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(server.addr())?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    io::read_to_string(stream)
}

/// The server under test.
fn serve() -> Result<(), Box<dyn Error>> {
    let port: u16 = env::var("PORT")?.parse()?;
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    loop {
        let (mut stream, _) = listener.accept()?;
        let mut head = BufReader::new(&stream).lines().map_while(Result::ok);
        let request = head.next().unwrap_or_default();
        head.take_while(|line| !line.is_empty()).for_each(drop);
        println!("{request}");
        let path = request.split(' ').nth(1).unwrap_or("nothing");
        // Whether the client still wants it is its own affair.
        let _ = write!(stream, "HTTP/1.0 200 OK\r\n\r\nyou asked for {path}");
    }
}
