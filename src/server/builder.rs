//! What can be asked of a server. Configuration only: `Server` does the work.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Server;
use super::command::Launch;
use super::config::{CalledOff, Config};
use super::ready::Ready;
use super::report::Own;
use super::way::{Handoff, Named, Source, Told, Transport, Way};
use crate::error::Result;
use crate::lease::Lease;
use crate::sys::Signal;

/// Starts a server. Made by [`Server::builder`] and [`Server::with`].
#[must_use = "a builder starts nothing; finish it with `start()`"]
#[derive(Debug)]
pub struct ServerBuilder {
    config: Config,
    lease: Option<Lease>,
}

impl ServerBuilder {
    pub(super) fn new(launch: Launch, way: Option<Way>) -> ServerBuilder {
        ServerBuilder { config: Config::new(launch, way), lease: None }
    }

    /// What the server is called in errors and logs. The default is its program's file name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.config.name = Some(name.into());
        self
    }

    /// Leases a port, and tells it to the server by the environment variable `name`, or by several.
    /// Of this, [`report_port`](ServerBuilder::report_port),
    /// [`observe_port`](ServerBuilder::observe_port) and [`no_port`](ServerBuilder::no_port), the last
    /// one counts.
    pub fn env_port(mut self, name: impl Into<String>) -> Self {
        if !matches!(self.config.way, Some(Way::Inherit)) {
            self.config.way = Some(Way::Lease);
        }
        self.config.variables.push(name.into());
        self
    }

    /// Leases a further port, which the closure finds under this name
    /// ([`Ports::get`](crate::Ports::get)), and the test by [`Server::port_of`]. The server is ready
    /// when it listens on it too.
    pub fn port(mut self, name: impl Into<String>) -> Self {
        self.config.named.push(Named { name: name.into(), told: Told::Closure });
        self
    }

    /// The same, and tells it to the server by the environment variable `variable`.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use std::process::Command;
    /// # use portlease::Server;
    /// let server = Server::builder(Command::new("my-server"))
    ///     .env_port("PORT")
    ///     .env_port_named("admin", "ADMIN_PORT")
    ///     .start()?;
    /// let admin = server.port_of("admin");
    /// # Ok::<(), portlease::Error>(())
    /// ```
    pub fn env_port_named(mut self, name: impl Into<String>, variable: impl Into<String>) -> Self {
        let told = Told::Variable(variable.into());
        self.config.named.push(Named { name: name.into(), told });
        self
    }

    /// Leases a port, listens on it, and has the server inherit the socket: as descriptor 3, for
    /// programs that take a number (`uvicorn --fd 3`), with `LISTEN_FDS` and `LISTEN_FDNAMES` in its
    /// environment, as by systemd; for `LISTEN_PID`, see [`socket_activated`](crate::socket_activated).
    ///
    /// The server is ready when it has accepted a connection, which is closed then. This process keeps no
    /// copy of the socket: when the server is gone, its clients are refused.
    ///
    /// # What this does not guarantee
    ///
    /// On Windows, it is an error at the start: a socket cannot be inherited there. On macOS and FreeBSD,
    /// nobody can look whether it has accepted the connection: it is ready at once, unless
    /// [`ready`](ServerBuilder::ready) says more.
    ///
    /// The process is forked, and not spawned: in a test process of 500 MB, that takes 20 ms.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use std::process::Command;
    /// # use portlease::Server;
    /// let mut command = Command::new("uvicorn");
    /// command.args(["--fd", "3", "app:app"]);
    /// let server = Server::builder(command).inherit_port().start()?;
    /// # Ok::<(), portlease::Error>(())
    /// ```
    pub fn inherit_port(mut self) -> Self {
        self.config.way = Some(Way::Inherit);
        self
    }

    /// A further socket that the server inherits, the next descriptor after those that were asked for
    /// before; `name` stands in `LISTEN_FDNAMES`, where the main one is `main`. On Windows, it is an error
    /// at the start.
    pub fn inherit_port_named(mut self, name: impl Into<String>) -> Self {
        self.config.named.push(Named { name: name.into(), told: Told::Socket });
        self
    }

    /// The address that the server listens on, and its clients connect to. The default is 127.0.0.1.
    /// It is not told to the server: the closure finds it in [`Ports::addr`](crate::Ports::addr).
    pub fn host(mut self, ip: impl Into<IpAddr>) -> Self {
        self.config.host = ip.into();
        self
    }

    /// The server's main port is for UDP: it is ready when a socket of its own is bound there.
    ///
    /// # What this does not guarantee
    ///
    /// - With [`observe_port`](ServerBuilder::observe_port), a socket by which the server only asks others,
    ///   a name server for instance, counts as its own port as well.
    /// - The kernel cannot hold a UDP port: another program that asks for this very number can take it
    ///   before the server does. Other leases do not, and the kernel gives it to nobody by chance.
    /// - Elsewhere than on Linux nobody can look whether it is bound, and it is ready at once; say by
    ///   [`ready`](ServerBuilder::ready) when it is, by a line that it prints for instance.
    pub fn udp(mut self) -> Self {
        self.config.transport = Transport::Udp;
        self
    }

    /// The server's main port is for TCP and UDP, with the same number, as that of a DNS server.
    pub fn tcp_and_udp(mut self) -> Self {
        self.config.transport = Transport::Both;
        self
    }

    /// For a program that has no port, a worker for instance: it is ready as soon as it is started,
    /// or when what [`ready`](ServerBuilder::ready) asks for beside holds.
    pub fn no_port(self) -> Self {
        self.way_of_its_own(Way::None)
    }

    fn way_of_its_own(mut self, way: Way) -> Self {
        self.config.way = Some(way);
        self.config.variables.clear();
        self
    }

    /// Lets the server choose its port (it binds port 0), and takes it from what it prints, on either
    /// stream.
    ///
    /// Understood are, from the most to the least certain: `PORT=40123`; a line of JSON with a `port`
    /// or an address; an `http` URL; phrases such as `listening on 127.0.0.1:40123` and `started on
    /// port 40123`. Lines of debuggers, metrics and admin interfaces do not count, nor does a port that
    /// has a name, as in `GRPC_PORT=40124`. A port is taken once the server listens on it; all forms but
    /// the first wait 150 ms for a better answer.
    ///
    /// If the server listens on one port beside these, and has said nothing of it for half a second, that
    /// port is taken, and the test's output says so: Python's and C's programs hold back what they print
    /// to a pipe, unless they flush it.
    ///
    /// # What this does not guarantee
    ///
    /// Elsewhere than on Linux nobody can look where the server listens: what it says is believed, and
    /// without a word there is no port.
    pub fn report_port(self) -> Self {
        self.way_of_its_own(Way::Report(Source::Output(None)))
    }

    /// The same, for a server that reports its port in a form of its own: `port` tells which port a
    /// line reports.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use std::process::Command;
    /// # use portlease::Server;
    /// let builder = Server::builder(Command::new("my-server"));
    /// let server = builder
    ///     .report_port_where(|line| line.strip_prefix("my port: ")?.parse().ok())
    ///     .start()?;
    /// # Ok::<(), portlease::Error>(())
    /// ```
    pub fn report_port_where(
        self,
        port: impl Fn(&str) -> Option<u16> + Send + Sync + 'static,
    ) -> Self {
        self.way_of_its_own(Way::Report(Source::Output(Some(Own(Arc::new(port))))))
    }

    /// Lets the server choose its port, and takes it from a file that it writes: from a line that is the
    /// number alone, or has another of the forms of [`report_port`](ServerBuilder::report_port). A relative
    /// name is that of a file in the server's directory, [`Ports::dir`](crate::Ports::dir); there, it is
    /// removed before each start.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use std::process::Command;
    /// # use portlease::Server;
    /// let browser = Server::with(|ports| {
    ///     let mut command = Command::new("chromium");
    ///     command.args(["--headless", "--remote-debugging-port=0"]);
    ///     command.arg(format!("--user-data-dir={}", ports.dir().display()));
    ///     command
    /// })
    /// .report_port_file("DevToolsActivePort")
    /// .start()?;
    /// # Ok::<(), portlease::Error>(())
    /// ```
    pub fn report_port_file(self, path: impl Into<PathBuf>) -> Self {
        self.way_of_its_own(Way::Report(Source::File(path.into())))
    }

    /// Lets the server choose its port, and looks on which one it listens. If it is more than one for
    /// 150 ms, that is an error; those that it was told
    /// ([`env_port_named`](ServerBuilder::env_port_named)) do not count, nor do those of which it prints
    /// that they are a debugger's or the like.
    ///
    /// Elsewhere than on Linux nobody can look, and it is an error at the start.
    pub fn observe_port(self) -> Self {
        self.way_of_its_own(Way::Observe)
    }

    /// Uses this lease, instead of taking one.
    ///
    /// Its port is told in the same way: by [`env_port`](ServerBuilder::env_port) or [`Server::with`]. For a
    /// program whose port is fixed, nothing more has to be said.
    ///
    /// # Examples
    ///
    /// Two servers that need each other's address know both before either is started:
    ///
    /// ```no_run
    /// use std::process::Command;
    /// use portlease::Server;
    ///
    /// let [left, right] = portlease::leases()?;
    /// let peer = |of: &portlease::Lease| {
    ///     let mut command = Command::new("my-node");
    ///     command.env("PEER", of.addr().to_string());
    ///     Server::builder(command).env_port("PORT")
    /// };
    /// let (first, second) = (peer(&right), peer(&left));
    /// let first = first.lease(left).start()?;
    /// let second = second.lease(right).start()?;
    /// # Ok::<(), portlease::Error>(())
    /// ```
    pub fn lease(mut self, lease: Lease) -> Self {
        self.config.way.get_or_insert(Way::Lease);
        self.lease = Some(lease);
        self
    }

    /// Whether the kernel's hold on the leased ports is let go for the server. The default is
    /// [`Handoff::Hold`].
    ///
    /// A server that does not set `SO_REUSEADDR` cannot bind a port that is held. One that ends for
    /// this reason (it says that the address is in use, and nobody listens on it) is started a second
    /// time without the hold, and the test's output says so; [`Handoff::Release`] saves the first
    /// attempt.
    ///
    /// # What this does not guarantee
    ///
    /// Without the hold, a program that did not lease the port can take it between two starts: what
    /// is left is the lock, which other leases respect, and a range from which the kernel hands out
    /// no ports.
    pub fn handoff(mut self, handoff: Handoff) -> Self {
        self.config.handoff = handoff;
        self
    }

    /// When the server is ready. The default is [`Ready::listening`].
    pub fn ready(mut self, ready: Ready) -> Self {
        self.config.ready = ready;
        self
    }

    /// How long the server may take until it is ready. The default is 30 s. A start that takes over
    /// 2 s says in the test's output what it waits for.
    pub fn start_timeout(mut self, at_most: Duration) -> Self {
        self.config.start_timeout = at_most;
        self
    }

    /// The signal that asks the server, and all of its process group, to end. The default is
    /// `SIGTERM`, but for programs that are known to wait for their clients then: `SIGINT` for
    /// `postgres`, `SIGQUIT` for `nginx`. On Windows, it is a Ctrl-Break; see [`Signal`].
    pub fn stop_signal(mut self, signal: Signal) -> Self {
        self.config.stop_signal = Some(signal);
        self
    }

    /// How long the server may take to end after that signal; then comes `SIGKILL`. The default is
    /// 5 s. When the test process was killed, it is at most 5 s, and none on Windows.
    pub fn stop_grace(mut self, at_most: Duration) -> Self {
        self.config.stop_grace = at_most;
        self
    }

    /// Gives the server a standard input that the test can write to, by
    /// [`Server::take_stdin`]. Without this, it is empty.
    pub fn pipe_stdin(mut self) -> Self {
        self.config.pipe_stdin = true;
        self
    }

    /// What it is called, if it was given no name.
    pub(crate) fn name_or(mut self, name: &str) -> Self {
        self.config.name.get_or_insert_with(|| name.to_owned());
        self
    }

    /// Once this is true, its starts end with an error.
    pub(crate) fn called_off_by(mut self, flag: &CalledOff) -> Self {
        self.config.called_off = CalledOff::clone(flag);
        self
    }

    /// Starts the server, and returns when it is ready.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput): nothing says how the server
    ///   gets its port, or two things say different; or the variable's name cannot be one; or two ports
    ///   have one name, or one variable; or it is to be observed where nobody can look.
    /// - [`ErrorKind::Spawn`](crate::ErrorKind::Spawn): the program, or its watchdog, cannot be
    ///   executed.
    /// - [`ErrorKind::Exited`](crate::ErrorKind::Exited): it ended before it was ready; at once,
    ///   with the last it printed.
    /// - [`ErrorKind::NotReady`](crate::ErrorKind::NotReady): it was not ready in time; with what was
    ///   missing, and the last it printed.
    /// - [`ErrorKind::PortTaken`](crate::ErrorKind::PortTaken): another process listens where the
    ///   server's clients would connect; the message names it. A port that this builder leased itself is
    ///   given up for another one first, three times.
    /// - [`ErrorKind::Io`](crate::ErrorKind::Io): its output cannot be copied to the directory that
    ///   `PORTLEASE_LOG_DIR` names; the directory or a file of [`Ports`](crate::Ports) cannot be made;
    ///   or another system call failed that a start needs.
    /// - [`ErrorKind::OutOfDescriptors`](crate::ErrorKind::OutOfDescriptors).
    /// - What taking a lease can fail with.
    ///
    /// After an error, nothing of the server is left, unless the message says what would not go.
    pub fn start(self) -> Result<Server> {
        Server::start(self.config, self.lease)
    }
}
