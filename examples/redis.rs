//! Redis, told its port in an argument; emptied by a restart, on the same port.
//!
//! Run it with `cargo run --example redis`. It needs `redis-server`.

use std::error::Error;
use std::io::{self, Write};
use std::net::TcpStream;
use std::process::Command;

use portlease::{ErrorKind, Server};

fn main() -> Result<(), Box<dyn Error>> {
    let mut redis = Server::with(|ports| {
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &ports.main().to_string()]);
        // What it writes, if it writes anything, goes with the server.
        command.args(["--save", "", "--dir"]).arg(ports.dir());
        command
    })
    .start()
    .inspect_err(|error| {
        if error.kind() == ErrorKind::Spawn {
            eprintln!("This example needs Redis: `apt install redis-server`.");
        }
    })?;

    let answer = ask(&redis, "SET greeting hello\r\nGET greeting\r\n")?;
    assert_eq!(answer, "+OK\r\n$5\r\nhello\r\n+OK\r\n");
    println!("Redis on {} keeps a greeting", redis.addr());

    redis.restart()?;
    let answer = ask(&redis, "GET greeting\r\n")?;
    assert_eq!(answer, "$-1\r\n+OK\r\n");
    println!("Redis on {} has forgotten it: it is a new one", redis.addr());
    Ok(())
}

/// What it answers to these commands, and to QUIT.
fn ask(redis: &Server, commands: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(redis.addr())?;
    write!(stream, "{commands}QUIT\r\n")?;
    io::read_to_string(stream)
}
