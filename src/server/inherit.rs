//! Listening sockets that a server inherits: as descriptors 3, 4 ..., and as `LISTEN_FDS` tells.

use std::ffi::{OsStr, OsString};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::config::Config;
use super::failure;
use super::ports::Ports;
use super::way::{Told, Way};
use crate::error::{Error, ErrorKind, Result};
use crate::sys::{self, Given, Heirloom, Protocol, Wanted};

/// Says of its pid to who it becomes. `LISTEN_PID` has to be the server's own pid, which nobody knows
/// before the fork, when std fixes the environment.
const SCRIPT: &str = "export LISTEN_PID=$$; exec \"$@\"";

/// By what a command is known to be one of [`socket_activated`].
const MARK: &str = "portlease-socket-activated";

/// The name of the main port's socket.
const MAIN: &str = "main";

/// A command that runs `program` with `LISTEN_PID`, for
/// [`inherit_port`](crate::ServerBuilder::inherit_port). Arguments, environment and all else are set
/// on it as on any other command.
///
/// Those who follow the protocol of systemd's socket activation to the letter (`sd_listen_fds`,
/// gunicorn, Go's `activation`) take no socket without that variable, whose value is the pid of the
/// server's process. So `/bin/sh` sets it, and becomes the program.
///
/// # Examples
///
/// ```no_run
/// use portlease::Server;
///
/// let mut command = portlease::socket_activated("gunicorn");
/// command.arg("app:app");
/// let server = Server::builder(command).inherit_port().start()?;
/// # Ok::<(), portlease::Error>(())
/// ```
pub fn socket_activated(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", SCRIPT, MARK]).arg(program);
    command
}

/// The program that a command runs in the end.
pub(super) fn program(command: &Command) -> OsString {
    let mut arguments = command.get_args().skip(2);
    let is_ours = arguments.next().is_some_and(|name| name == MARK);
    let wrapped = if is_ours { arguments.next() } else { None };
    wrapped.unwrap_or(command.get_program()).to_owned()
}

/// The ports whose sockets are inherited, each with its name, in the order of the descriptors.
fn inherited(config: &Config, ports: &Ports) -> Vec<(String, u16)> {
    let main = matches!(config.way, Some(Way::Inherit)).then(|| (MAIN.to_owned(), ports.main));
    let named = config.named.iter().zip(&ports.named);
    let named = named.filter(|(asked, _)| matches!(asked.told, Told::Socket));
    main.into_iter().chain(named.map(|(_, named)| named.clone())).collect()
}

/// What one start inherits.
#[derive(Debug)]
pub(super) struct Inheritance {
    ports: Vec<(String, u16)>,
    /// In the command, if it is the same at each start, and was started before.
    heirloom: Option<Heirloom>,
}

impl Inheritance {
    pub(super) fn new(config: &mut Config, ports: &Ports) -> Inheritance {
        Inheritance { ports: inherited(config, ports), heirloom: config.heirloom.take() }
    }

    /// Listens on all of its ports, for server `name`. Children of `command` get the sockets until what
    /// this returns is dropped.
    pub(super) fn give(
        &mut self,
        command: &mut Command,
        name: &str,
        ports: &Ports,
    ) -> Result<Option<Given<'_>>> {
        if self.ports.is_empty() {
            return Ok(None);
        }
        let sockets = self.ports.iter().map(|&(_, port)| {
            let addr = SocketAddr::new(ports.host, port);
            listen(addr).map_err(|error| failure::cannot_listen(name, addr, error))
        });
        let sockets = sockets.collect::<Result<Vec<TcpListener>>>()?;
        let names: Vec<_> = self.ports.iter().map(|(name, _)| name.as_str()).collect();
        command.env("LISTEN_FDS", names.len().to_string());
        command.env("LISTEN_FDNAMES", names.join(":"));
        command.env_remove("LISTEN_PID"); // of whoever gave sockets to us
        let heirloom = self.heirloom.get_or_insert_with(|| {
            let heirloom = Heirloom::new(sockets.len());
            heirloom.install(command);
            heirloom
        });
        let given = heirloom.give(&sockets);
        given.map(Some).map_err(|error| {
            let doing = format!("hand the sockets of server `{name}` over");
            Error::io(ErrorKind::Io, doing, error)
        })
    }

    /// What stays in the command for its next start.
    pub(super) fn keep(self) -> Option<Heirloom> {
        self.heirloom
    }
}

/// Listens, if not at once, then within a second: copies of the socket of the last start may be in
/// children of other threads, between fork and exec.
fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    const AT_MOST: Duration = Duration::from_secs(1);
    let start = Instant::now();
    loop {
        match TcpListener::bind(addr) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && start.elapsed() < AT_MOST => {
                thread::sleep(Duration::from_millis(1));
            }
            result => return result,
        }
    }
}

/// Connections to the sockets that a server inherited, one to each. That they are made says nothing: the
/// kernel makes them as long as the socket is open, whether somebody accepts or not.
#[derive(Debug, Default)]
pub(super) struct Probes(Vec<Probe>);

#[derive(Debug)]
struct Probe {
    to: SocketAddr,
    /// `None`: it was accepted, and is closed. A server that serves one client at a time would wait for
    /// this one, and never get to the next.
    connection: Option<TcpStream>,
}

impl Probes {
    /// Whether the server has accepted a connection on each.
    ///
    /// # Errors
    ///
    /// What is missing, in words.
    pub(super) fn look(&mut self, config: &Config, ports: &Ports) -> Result<(), String> {
        let addrs = inherited(config, ports).into_iter();
        let addrs = addrs.map(|(_, port)| SocketAddr::new(ports.host, port));
        // All of them, since a server may take them in any order.
        let waiting: Vec<_> = addrs.filter(|&to| !self.is_accepted(to).unwrap_or(false)).collect();
        waiting.first().map_or(Ok(()), |&addr| Err(failure::does_not_accept(addr)))
    }

    fn is_accepted(&mut self, to: SocketAddr) -> io::Result<bool> {
        match self.0.iter_mut().find(|probe| probe.to == to) {
            Some(probe) => probe.is_accepted(),
            None => {
                let connection = TcpStream::connect_timeout(&to, Duration::from_millis(200))?;
                connection.set_nonblocking(true)?;
                self.0.push(Probe { to, connection: Some(connection) });
                Ok(false) // what is done on the way to it may not be over
            }
        }
    }
}

impl Probe {
    fn is_accepted(&mut self) -> io::Result<bool> {
        let Some(connection) = &self.connection else { return Ok(true) };
        let is_accepted = was_accepted(connection, self.to)?;
        if is_accepted {
            self.connection = None;
        }
        Ok(is_accepted)
    }
}

/// Whether the other end of a connection belongs to a process, or did.
fn was_accepted(connection: &TcpStream, to: SocketAddr) -> io::Result<bool> {
    let waits = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
    if !connection.peek(&mut [0]).as_ref().is_err_and(waits) {
        return Ok(true); // closed, or greeted
    }
    let own = connection.local_addr()?;
    match sys::sockets(Wanted { serving: None, port: Some(to.port()) }) {
        Ok(sockets) => Ok(sockets.iter().any(|socket| {
            socket.protocol == Protocol::Tcp && is(socket.remote, own) && socket.inode != 0
        })),
        Err(_) => Ok(true), // nobody can tell
    }
}

/// An IPv6 socket calls an IPv4 client by a mapped address.
fn is(remote: SocketAddr, client: SocketAddr) -> bool {
    (remote.ip().to_canonical(), remote.port()) == (client.ip().to_canonical(), client.port())
}
