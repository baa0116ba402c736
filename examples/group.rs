//! Three servers, one of which needs the two others: these are started first, at the same time, and
//! stopped last.
//!
//! Run it with `cargo run --example group`. It needs no other program: it is all three servers.

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::process::Command;

use portlease::{Group, Server};

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(role) = env::args().nth(1) {
        return serve(&role);
    }

    let program = env::current_exe()?;
    let command = |role| {
        let mut command = Command::new(&program);
        command.arg(role);
        command
    };
    let group = Group::builder()
        .server("greetings", &[], |_| Ok(Server::builder(command("greetings")).env_port("PORT")))
        .server("names", &[], |_| Ok(Server::builder(command("names")).env_port("PORT")))
        .server("api", &["greetings", "names"], |needs| {
            let mut command = command("api");
            command.env("GREETINGS", needs.server("greetings")?.addr().to_string());
            command.env("NAMES", needs.server("names")?.addr().to_string());
            Ok(Server::builder(command).env_port("PORT"))
        })
        .start()?;

    for (name, server) in group.servers() {
        println!("{name:<9} on {}", server.addr());
    }
    let answer = ask(group.server("api")?.addr())?;
    assert_eq!(answer, "hello, world");
    println!("the api asked both, and says {answer:?}");
    group.stop()?;
    Ok(())
}

fn ask(addr: impl ToSocketAddrs) -> io::Result<String> {
    io::read_to_string(TcpStream::connect(addr)?)
}

/// A server that says one thing to whoever connects.
fn serve(role: &str) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(format!("127.0.0.1:{}", env::var("PORT")?))?;
    loop {
        let (mut stream, _) = listener.accept()?;
        let answer = match role {
            "greetings" => "hello".to_owned(),
            "names" => "world".to_owned(),
            _ => format!("{}, {}", ask(env::var("GREETINGS")?)?, ask(env::var("NAMES")?)?),
        };
        stream.write_all(answer.as_bytes())?;
    }
}
