//! nginx, with a configuration that is rendered for its port, in a directory of its own.
//!
//! Run it with `cargo run --example nginx`. It needs `nginx`.

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::net::TcpStream;
use std::process::Command;

use portlease::{ErrorKind, Server};

/// In the foreground, and with all its files in its own directory: relative names start there. If
/// yours is a file, `include_str!` it.
const CONFIG: &str = "
daemon off;
pid nginx.pid;
error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path client_body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {
        listen @ADDR@;
        location /hello { return 200 'hello from nginx'; }
    }
}
";

fn main() -> Result<(), Box<dyn Error>> {
    let nginx = Server::with(|ports| {
        let config = CONFIG.replace("@ADDR@", &ports.addr().to_string());
        let mut command = Command::new("nginx");
        // Where Debian has it; not all users have that in PATH.
        command.env("PATH", env::var("PATH").unwrap_or_default() + ":/usr/sbin");
        command.args(["-e", "stderr", "-p"]).arg(ports.dir());
        command.arg("-c").arg(ports.write_file("nginx.conf", config));
        command
    })
    .start()
    .inspect_err(|error| {
        if error.kind() == ErrorKind::Spawn {
            eprintln!("This example needs nginx: `apt install nginx-light`.");
        }
    })?;

    let answer = get(&nginx, "/hello")?;
    assert!(answer.ends_with("\r\n\r\nhello from nginx"), "{answer}");
    println!("{} answers, as configured", nginx.url("/hello"));
    Ok(())
}

fn get(nginx: &Server, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(nginx.addr())?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    io::read_to_string(stream)
}
