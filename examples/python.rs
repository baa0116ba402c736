//! Python's file server, which chooses its port itself, and prints it.
//!
//! Run it with `cargo run --example python`. It needs `python3`.

use std::error::Error;
use std::io::{self, Write};
use std::net::TcpStream;
use std::process::Command;

use portlease::{ErrorKind, Server};

fn main() -> Result<(), Box<dyn Error>> {
    let python = Server::with(|ports| {
        ports.write_file("hello.txt", "hello from a file");
        let mut command = Command::new("python3");
        // Unbuffered (-u): on a pipe, Python holds back what it prints.
        command.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]);
        command.arg("--directory").arg(ports.dir());
        command
    })
    .report_port()
    .start()
    .inspect_err(|error| {
        if error.kind() == ErrorKind::Spawn {
            eprintln!("This example needs Python: `apt install python3`.");
        }
    })?;

    let answer = get(&python, "/hello.txt")?;
    assert!(answer.ends_with("\r\n\r\nhello from a file"), "{answer}");
    println!("{} answers; Python chose the port, and printed:", python.url("/hello.txt"));
    print!("{}", python.output());
    Ok(())
}

fn get(python: &Server, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(python.addr())?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    io::read_to_string(stream)
}
