//! What can be asked of a server. Configuration only: `Server` does the work.

use std::env;
use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Server;
use super::ready::Ready;
use super::report::Own;
use crate::error::{Error, ErrorKind, Result};
use crate::lease::Lease;
use crate::sys::Signal;

/// Names a directory into which the output of each server is copied.
pub(super) const LOG_DIR_VARIABLE: &str = "PORTLEASE_LOG_DIR";

/// The ports of a server, for the closure that makes its command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    pub(super) main: u16,
}

impl Ports {
    /// The port that the server shall listen on; 0 if it is to choose one and report it.
    pub fn main(&self) -> u16 {
        self.main
    }
}

/// Starts a server. Made by [`Server::builder`] and [`Server::with`].
#[must_use = "a builder starts nothing; finish it with `start()`"]
#[derive(Debug)]
pub struct ServerBuilder {
    config: Config,
    lease: Option<Lease>,
}

/// What is needed at each start.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) launch: Launch,
    pub(super) way: Option<Way>,
    pub(super) name: Option<String>,
    pub(super) ready: Ready,
    pub(super) start_timeout: Duration,
    /// `None`: the one that is usual for the program.
    pub(super) stop_signal: Option<Signal>,
    pub(super) stop_grace: Duration,
    pub(super) pipe_stdin: bool,
    pub(super) log_dir: Option<PathBuf>,
}

/// How a server and this process agree on a port.
#[derive(Clone, Debug)]
pub(super) enum Way {
    /// It is leased, and told by this environment variable.
    Variable(String),
    /// It is leased, and put into the command by the closure.
    Closure,
    /// The server chooses it, and reports it, in a form of its own or in a usual one.
    Report(Option<Own>),
    /// The server chooses it, and says nothing.
    Observe,
}

impl Way {
    /// Whether the server chooses its port itself.
    pub(super) fn is_servers_choice(&self) -> bool {
        matches!(self, Way::Report(_) | Way::Observe)
    }
}

/// Where the command comes from, at each start.
pub(super) enum Launch {
    Command(Box<Command>),
    /// In a mutex only to be `Sync`: nobody locks it.
    Closure(Mutex<Box<MakeCommand>>),
}

type MakeCommand = dyn FnMut(&Ports) -> Command + Send;

impl Launch {
    /// Runs `start` with the command for a start on `ports`.
    pub(super) fn with_command<T>(
        &mut self,
        ports: &Ports,
        start: impl FnOnce(&mut Command) -> T,
    ) -> T {
        match self {
            Launch::Command(command) => start(command),
            Launch::Closure(make) => {
                let make = make.get_mut().unwrap_or_else(PoisonError::into_inner);
                start(&mut make(ports))
            }
        }
    }
}

impl ServerBuilder {
    pub(super) fn new(launch: Launch, way: Option<Way>) -> ServerBuilder {
        let log_dir = env::var_os(LOG_DIR_VARIABLE).filter(|dir| !dir.is_empty());
        let config = Config {
            launch,
            way,
            name: None,
            ready: Ready::listening(),
            start_timeout: Duration::from_secs(30),
            stop_signal: None,
            stop_grace: Duration::from_secs(5),
            pipe_stdin: false,
            log_dir: log_dir.map(PathBuf::from),
        };
        ServerBuilder { config, lease: None }
    }

    /// What the server is called in errors and logs. The default is its program's file name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.config.name = Some(name.into());
        self
    }

    /// Leases a port, and tells it to the server by the environment variable `name`. Of this,
    /// [`report_port`](ServerBuilder::report_port) and [`observe_port`](ServerBuilder::observe_port),
    /// the last one counts.
    pub fn env_port(mut self, name: impl Into<String>) -> Self {
        self.config.way = Some(Way::Variable(name.into()));
        self
    }

    /// Lets the server choose its port (it binds port 0), and takes it from what it prints, on either
    /// stream.
    ///
    /// Understood are, from the most to the least certain: `PORT=40123`; a line of JSON with a `port`
    /// or an address; an `http` URL; phrases such as `listening on 127.0.0.1:40123` and `started on
    /// port 40123`. Lines of debuggers, metrics and admin interfaces do not count. A port is taken
    /// once the server listens on it; all forms but the first wait 150 ms for a better answer.
    ///
    /// If the server listens on one port, and has said nothing of it for half a second, that port is
    /// taken, and the test's output says so: Python's and C's programs hold back what they print to
    /// a pipe, unless they flush it.
    pub fn report_port(mut self) -> Self {
        self.config.way = Some(Way::Report(None));
        self
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
        mut self,
        port: impl Fn(&str) -> Option<u16> + Send + Sync + 'static,
    ) -> Self {
        self.config.way = Some(Way::Report(Some(Own(Arc::new(port)))));
        self
    }

    /// Lets the server choose its port, and looks on which one it listens. If it is more than one for
    /// 150 ms, that is an error.
    pub fn observe_port(mut self) -> Self {
        self.config.way = Some(Way::Observe);
        self
    }

    /// Uses this lease, instead of taking one. For a program whose port is fixed, there is nothing to
    /// tell: `Server::with(|_| command).lease(lease)`.
    pub fn lease(mut self, lease: Lease) -> Self {
        self.lease = Some(lease);
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
    /// `postgres`, `SIGQUIT` for `nginx`.
    pub fn stop_signal(mut self, signal: Signal) -> Self {
        self.config.stop_signal = Some(signal);
        self
    }

    /// How long the server may take to end after that signal; then comes `SIGKILL`. The default is
    /// 5 s. When the test process was killed, it is at most 5 s.
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

    /// Starts the server, and returns when it is ready.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidInput`]: nothing says how the server
    ///   gets its port, or two things say different; or the variable's name cannot be one.
    /// - [`ErrorKind::Spawn`]: the program, or its watchdog, cannot be
    ///   executed.
    /// - [`ErrorKind::Exited`]: it ended before it was ready; at once,
    ///   with the last it printed.
    /// - [`ErrorKind::NotReady`]: it was not ready in time; with what was
    ///   missing, and the last it printed.
    /// - [`ErrorKind::PortTaken`]: another process listens where the
    ///   server's clients would connect; the message names it.
    /// - [`ErrorKind::Io`]: its output cannot be copied to the directory that
    ///   `PORTLEASE_LOG_DIR` names.
    /// - What taking a lease can fail with.
    ///
    /// After an error, nothing of the server is left, unless the message says what would not go.
    pub fn start(self) -> Result<Server> {
        let lease = lease_for(&self.config, self.lease)?;
        Server::start(self.config, lease)
    }
}

/// The lease that a server needs for its way: the one that was `given`, or one that is taken now.
fn lease_for(config: &Config, given: Option<Lease>) -> Result<Option<Lease>> {
    match (&config.way, given) {
        (None, _) => Err(invalid(
            "nothing says how the server gets its port: use `env_port(\"PORT\")` or \
             `report_port()`, or `Server::with` for a port in its arguments; for a program \
             whose port is fixed, `Server::with(|_| command).lease(lease)`",
        )),
        (Some(way), None) if way.is_servers_choice() => Ok(None),
        (Some(way), Some(_)) if way.is_servers_choice() => Err(invalid(
            "a server whose port is reported or observed chooses it itself: use either \
             `report_port()` or `observe_port()`, or `lease(..)`",
        )),
        (Some(Way::Variable(name)), _) if name.is_empty() || name.contains(['=', '\0']) => Err(
            invalid(format!("`env_port({name:?})`: no environment variable can have that name")),
        ),
        (Some(_), Some(lease)) => Ok(Some(lease)),
        (Some(_), None) => {
            let request = Lease::builder();
            let request = match &config.name {
                Some(name) => request.label(name),
                None => request,
            };
            request.lease().map(Some)
        }
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Launch::Command(command) => command.fmt(f),
            Launch::Closure(_) => f.write_str("made by a closure"),
        }
    }
}
