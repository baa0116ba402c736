//! The child's half: for a server written in Rust, a listener on whichever port it shall have.
//!
//! A program that calls [`listener()`] works under each of the ways in which a test's
//! [`Server`](crate::Server) agrees on a port, without a change, and by itself:
//!
//! | started with | it gets |
//! |---|---|
//! | [`inherit_port`](crate::ServerBuilder::inherit_port), or by systemd | the socket that it inherits |
//! | [`env_port("PORT")`](crate::ServerBuilder::env_port), or `PORT=8080` in a shell | that port |
//! | [`report_port`](crate::ServerBuilder::report_port), [`observe_port`](crate::ServerBuilder::observe_port), or nothing | a free port |
//!
//! In each case it prints `PORT=40123`, which is how the port is reported.
//!
//! ```no_run
//! use std::io::Write;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let listener = portlease::child::listener()?;
//!     for stream in listener.incoming() {
//!         stream?.write_all(b"HTTP/1.0 200 OK\r\n\r\nhello")?;
//!     }
//!     Ok(())
//! }
//! ```
//!
//! The program needs portlease as a dependency, and not for its tests alone.
//!
//! # What this does not guarantee
//!
//! - The server is ended by `SIGTERM`. One that has to tidy up before handles that itself.
//! - The environment is left as it is. A program that the server starts, and that looks for sockets or
//!   for `PORT` as well, finds what was meant for the server, unless the variables are removed for it
//!   ([`Command::env_remove`](std::process::Command::env_remove)). It does not inherit the sockets.
//! - An inherited socket is taken as it is, on whatever address it listens. It is in blocking mode then, and
//!   so it is for any other process that has a copy.
//! - That a descriptor was inherited is believed of the environment, unless the descriptor shows the contrary.

mod announce;
mod inherited;
mod which;

use std::env;
use std::ffi::OsStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use socket2::Type;

use self::which::Which;
use crate::diagnose;
use crate::error::{Error, ErrorKind, Result};
use crate::hold;
use crate::sys;

pub use self::announce::{announce, announce_named};

/// Listens on the server's main port, and prints it: `PORT=40123`.
///
/// - If this process inherits sockets, as many as `LISTEN_FDS` says, it is one of them: the one that
///   `LISTEN_FDNAMES` calls `main`, else the first. (A test's main socket is always called `main`: under
///   portlease, no other is taken for it.) If `LISTEN_PID` is set, and is not the pid of this process,
///   they are for another one, and stay as they are.
/// - Else it is bound to the port that the variable `PORT` names, on 127.0.0.1.
/// - Else, or if that is 0, it is bound to a free port.
///
/// An inherited socket can be taken once: a second call is an error. What the server starts does not
/// inherit it.
///
/// # Errors
///
/// - [`ErrorKind::InvalidInput`]: `PORT` is not a number from 0 to 65535, and no socket is inherited;
///   `LISTEN_FDS` is not a number from 1 to 65535, `LISTEN_PID` is not a pid, or `LISTEN_FDNAMES` does
///   not name so many; the descriptor is not open, or is not a socket that listens by TCP; or it was
///   taken before.
/// - [`ErrorKind::PortTaken`]: a socket is bound to the port that `PORT` names; the message tells whose.
/// - [`ErrorKind::PortExcluded`]: the system does not let this process bind it; one below 1024 takes a
///   privilege.
/// - [`ErrorKind::OutOfDescriptors`], or [`ErrorKind::Io`]: the system refuses the socket for another
///   reason, or standard output cannot be written.
///
/// # Examples
///
/// ```no_run
/// let listener = portlease::child::listener()?;
/// let port = listener.local_addr()?.port();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn listener() -> Result<TcpListener> {
    listener_on(Ipv4Addr::LOCALHOST)
}

/// The same, where no socket is inherited, on another address: `[0, 0, 0, 0]` for all of IPv4.
///
/// A test's [`Server`](crate::Server) does not tell its [`host`](crate::ServerBuilder::host): use the same
/// there, or an address that includes it.
///
/// # Errors
///
/// As [`listener()`]; [`ErrorKind::Io`] also if this machine does not have the address.
pub fn listener_on(ip: impl Into<IpAddr>) -> Result<TcpListener> {
    listen(Which::Main, ip.into())
}

/// Listens on a further port, and prints it: for `grpc`, `GRPC_PORT=40124`.
///
/// It is the inherited socket that `LISTEN_FDNAMES` calls so
/// ([`inherit_port_named`](crate::ServerBuilder::inherit_port_named)); else the port that the variable
/// `GRPC_PORT` names ([`env_port_named`](crate::ServerBuilder::env_port_named)); else a free one, both on
/// 127.0.0.1. In the name, `-` counts as `_`, and the case does not matter.
///
/// Call this before [`listener()`]: a server that reports its ports is ready when it has said its main
/// one, and [`Server::port_of`](crate::Server::port_of) knows those that were said before.
///
/// # Errors
///
/// As [`listener()`]; [`ErrorKind::InvalidInput`] also if the name has other characters than letters and
/// digits of ASCII, `_` and `-`, or none, or is `main`.
///
/// # Examples
///
/// ```no_run
/// let grpc = portlease::child::listener_named("grpc")?;
/// let listener = portlease::child::listener()?;
/// # Ok::<(), portlease::Error>(())
/// ```
///
/// Its test, with each of its ports by a way of its own:
///
/// ```no_run
/// # use std::process::Command;
/// # use portlease::Server;
/// let command = Command::new("my-server");
/// let server = Server::builder(command).env_port("PORT").inherit_port_named("grpc").start()?;
/// let grpc = server.port_of("grpc");
/// # Ok::<(), portlease::Error>(())
/// ```
pub fn listener_named(name: &str) -> Result<TcpListener> {
    listen(Which::named(name)?, Ipv4Addr::LOCALHOST.into())
}

/// The port that the variable `PORT` names: `None` if it is not set, 0 if any will do. For a server that
/// binds its port in another way, and may [`announce`](announce()) it then.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`]: it is set, and not a number from 0 to 65535, in digits only.
///
/// # Examples
///
/// ```no_run
/// let port = portlease::child::port_from_env()?.unwrap_or(8080);
/// # Ok::<(), portlease::Error>(())
/// ```
pub fn port_from_env() -> Result<Option<u16>> {
    port_in(&Which::Main.variable())
}

fn listen(which: Which<'_>, ip: IpAddr) -> Result<TcpListener> {
    let listener = match inherited::socket(which)? {
        Some(inherited) => inherited,
        None => bind(&which.variable(), ip)?,
    };
    let addr = listener.local_addr();
    let addr = addr.map_err(|error| Error::io(ErrorKind::Io, "ask a listener's address", error))?;
    announce::say(which, addr.port())?;
    Ok(listener)
}

fn bind(variable: &str, ip: IpAddr) -> Result<TcpListener> {
    let addr = SocketAddr::new(ip, port_in(variable)?.unwrap_or(0));
    TcpListener::bind(addr).map_err(|error| cannot_listen(variable, addr, error))
}

fn port_in(variable: &str) -> Result<Option<u16>> {
    let Some(value) = env::var_os(variable) else { return Ok(None) };
    let port = parse(&value).map_err(|is| {
        let message = format!(
            "the environment variable {variable} is {is}; set a number from 0 to 65535 (0 for any free \
             port), or unset it"
        );
        Error::new(ErrorKind::InvalidInput, message)
    });
    port.map(Some)
}

/// The port, or what it is instead.
fn parse(value: &OsStr) -> Result<u16, String> {
    let text = value.to_str().unwrap_or("?");
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    match text.parse() {
        Ok(port) if is_number(text) => Ok(port),
        _ if text.is_empty() => Err("empty".to_owned()),
        _ if is_number(text) => Err(format!("{value:?}, which is too large for a port")),
        _ if is_number(text.trim()) => Err(format!("{value:?}, with space around the number")),
        _ => Err(format!("{value:?}, which is not a port number")),
    }
}

fn cannot_listen(variable: &str, addr: SocketAddr, error: io::Error) -> Error {
    let port = addr.port();
    let told = format!(
        "; the number is from the environment variable {variable}: set another one, or unset it for any \
         free port"
    );
    let (kind, hint) = match error.kind() {
        _ if port != 0 && hold::says_in_use(&error, port, Type::STREAM) => {
            (ErrorKind::PortTaken, format!(": a socket is bound there already{told}"))
        }
        io::ErrorKind::PermissionDenied if port != 0 => {
            let why = sys::why_excluded(port).map(|why| format!("; {why}")).unwrap_or_default();
            let hint = format!(": the system does not let this process bind it{why}{told}");
            (ErrorKind::PortExcluded, hint)
        }
        io::ErrorKind::AddrNotAvailable => {
            (ErrorKind::Io, ": it is not an address of this machine".to_owned())
        }
        _ => (ErrorKind::Io, String::new()),
    };
    let doing = match port {
        0 => format!("listen on a free port of {}{hint}", addr.ip()),
        _ => format!("listen on {addr}{hint}"),
    };
    let error = Error::io(kind, doing, error);
    match kind {
        ErrorKind::PortTaken => error.with_diagnosis(diagnose::diagnose(port)),
        _ if port == 0 => error,
        _ => error.with_port(port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_port() {
        let check = |text: &str, port: u16| assert_eq!(parse(OsStr::new(text)), Ok(port), "{text}");
        check("0", 0);
        check("1", 1);
        check("08080", 8080);
        check("65535", 65_535);
    }

    #[test]
    fn what_is_none() {
        let check = |text: &str, expected: &str| {
            assert_eq!(parse(OsStr::new(text)), Err(expected.to_owned()));
        };
        check("", "empty");
        check(" ", "\" \", which is not a port number");
        check(" 80", "\" 80\", with space around the number");
        check("80\n", "\"80\\n\", with space around the number");
        check("8 0", "\"8 0\", which is not a port number");
        check("65536", "\"65536\", which is too large for a port");
        check("99999999999999999999", "\"99999999999999999999\", which is too large for a port");
        check("-1", "\"-1\", which is not a port number");
        check("+80", "\"+80\", which is not a port number");
        check("tcp://10.0.0.1:80", "\"tcp://10.0.0.1:80\", which is not a port number");
        check("\u{ff11}", "\"１\", which is not a port number");
    }

    #[cfg(unix)] // where any bytes can be in an environment
    #[test]
    fn what_is_no_text() {
        let value: &OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"80\xff");
        assert_eq!(parse(value), Err("\"80\\xFF\", which is not a port number".to_owned()));
    }
}
