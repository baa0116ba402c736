//! A server in Node, told its port by `PORT`; the test waits for a line that it logs.
//!
//! Run it with `cargo run --example node`. It needs `node`.

use std::error::Error;
use std::io::{self, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use portlease::{ErrorKind, Server};

const SERVER_JS: &str = "
require('http').createServer((request, response) => {
    response.end('hello from Node');
    console.log('asked for', request.url);
}).listen(process.env.PORT, '127.0.0.1');
";

fn main() -> Result<(), Box<dyn Error>> {
    let mut command = Command::new("node");
    command.args(["-e", SERVER_JS]); // yours is a file: `command.arg("server.js")`
    let node = Server::builder(command).env_port("PORT").start().inspect_err(|error| {
        if error.kind() == ErrorKind::Spawn {
            eprintln!("This example needs Node: `apt install nodejs`.");
        }
    })?;

    let answer = get(&node, "/hello")?;
    assert!(answer.ends_with("\r\n\r\nhello from Node"), "{answer}");
    // Logged after the answer: that we have one does not mean that it is logged.
    let line = node.wait_for_line("/hello", Duration::from_secs(10))?;
    println!("{} answers, and Node logged {:?}", node.url("/hello"), line.text());
    Ok(())
}

fn get(node: &Server, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(node.addr())?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    io::read_to_string(stream)
}
