//! A server: a child process with a port, from its start until nothing of it is left.
//!
//! What can be asked for: `builder`. Its processes: `process`, `watchdog`, and the table `stop`.
//! What it prints: `output`, `report`. Whether it is ready: `ready`.

mod builder;
mod output;
mod process;
mod ready;
mod report;
mod stop;
mod watchdog;

use std::ffi::OsStr;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use self::builder::{Launch, Way};
pub use self::builder::{Ports, ServerBuilder};
use self::output::Output;
use self::process::{End, Left, Process};
use crate::error::{Error, ErrorKind, Result};
use crate::lease::Lease;
use crate::sys;

/// The grace for a server that is dropped by a failed test: somebody waits for the test's result.
const PANIC_GRACE: Duration = Duration::from_secs(1);

/// How long the last lines of a server that has ended may be on their way.
const OUTPUT_PATIENCE: Duration = Duration::from_millis(200);

/// The longest pause between two looks at whether a server is ready.
const MAX_PAUSE: Duration = Duration::from_millis(20);

/// A running server, with a port that nobody else has.
///
/// [`start`](ServerBuilder::start) returns when the server accepts connections. Dropping it ends
/// the server with everything it started: `SIGTERM`, the grace ([`ServerBuilder::stop_grace`]; at
/// most 1 s while the test is panicking), `SIGKILL`; the port is freed once all of it is gone. If
/// this process is killed, by `SIGKILL` too, a watchdog does the same, and the port stays leased
/// until it is done.
///
/// The server's standard input is empty. What it prints is always read, the last 64 KiB are kept,
/// and they are in every error.
///
/// # Examples
///
/// ```no_run
/// use std::process::Command;
/// use portlease::Server;
///
/// let server = Server::builder(Command::new("my-server")).env_port("PORT").start()?;
/// let url = server.url("/healthz"); // http://127.0.0.1:20017/healthz
/// # Ok::<(), portlease::Error>(())
/// ```
///
/// # What this does not guarantee
///
/// - A process that leaves the process group (`setsid`; a server that makes itself a daemon) is
///   neither ended by [`stop`](Server::stop) nor by the watchdog.
/// - That the one who accepts connections on the port is this server: on a leased port a stranger
///   who sets `SO_REUSEADDR` and asks for that very number could.
/// - Without `/bin/sh` there is no watchdog.
/// - Values in statics are never dropped; for these, the watchdog is what ends the server.
#[must_use = "the server is stopped as soon as this is dropped; keep it in a variable for as long \
              as the server is needed"]
#[derive(Debug)]
pub struct Server {
    launch: Launch,
    way: Way,
    name: Option<String>,
    start_timeout: Duration,
    stop_grace: Duration,
    lease: Option<Lease>,
    running: Option<Running>,
}

/// One start of it.
#[derive(Debug)]
struct Running {
    name: String,
    port: u16,
    process: Process,
    output: Output,
}

/// How a server ended.
#[derive(Clone, Debug)]
pub struct Stopped {
    status: Option<ExitStatus>,
    forced: bool,
    output: String,
}

impl Stopped {
    /// The exit status of the server's own process; `None` where it cannot be known, because this
    /// process ignores `SIGCHLD` or somebody else reaped it.
    pub fn status(&self) -> Option<ExitStatus> {
        self.status
    }

    /// Whether something of it had to be killed after the grace.
    pub fn forced(&self) -> bool {
        self.forced
    }

    /// The last that it printed, at most 64 KiB.
    pub fn output(&self) -> &str {
        &self.output
    }
}

impl Server {
    /// A server that is started by `command`, each time as it stands.
    ///
    /// Its port goes into an environment variable ([`env_port`](ServerBuilder::env_port)), or comes
    /// from its output ([`report_port`](ServerBuilder::report_port)). For a port in an argument,
    /// use [`Server::with`]. `command`'s standard streams and process group are set by this crate.
    pub fn builder(command: Command) -> ServerBuilder {
        ServerBuilder::new(Launch::Command(Box::new(command)), None)
    }

    /// A server on a leased port, started by the command that `make` returns.
    ///
    /// `make` is called once for each start, because a `Command` cannot lose an argument: a second
    /// start would run `--port 20001 --port 20002`.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::process::Command;
    /// use portlease::Server;
    ///
    /// let redis = Server::with(|ports| {
    ///     let mut command = Command::new("redis-server");
    ///     command.args(["--port", &ports.main().to_string(), "--save", ""]);
    ///     command
    /// })
    /// .start()?;
    /// # Ok::<(), portlease::Error>(())
    /// ```
    pub fn with(make: impl FnMut(&Ports) -> Command + Send + 'static) -> ServerBuilder {
        ServerBuilder::new(Launch::Closure(Mutex::new(Box::new(make))), Some(Way::Closure))
    }

    fn start(builder: ServerBuilder) -> Result<Server> {
        let ServerBuilder { launch, way, lease, name, start_timeout, stop_grace } = builder;
        let lease = match (&way, lease) {
            (None, _) => {
                return Err(invalid(
                    "nothing says how the server gets its port: use `env_port(\"PORT\")` or \
                     `report_port()`, or `Server::with` for a port in its arguments",
                ));
            }
            (Some(Way::Report), None) => None,
            (Some(Way::Report), Some(_)) => {
                return Err(invalid(
                    "a server that reports its port chooses it itself: use either `report_port()` \
                     or `lease(..)`",
                ));
            }
            (Some(_), Some(lease)) => Some(lease),
            (Some(_), None) => {
                let request = Lease::builder();
                let request = match &name {
                    Some(name) => request.label(name),
                    None => request,
                };
                Some(request.lease()?)
            }
        };
        let way = way.unwrap_or(Way::Report);
        let mut server =
            Server { launch, way, name, start_timeout, stop_grace, lease, running: None };
        server.launch()?;
        Ok(server)
    }

    /// Starts the command, and waits until it is ready. After an error, nothing of it is left.
    fn launch(&mut self) -> Result<()> {
        let leased = self.lease.as_ref().map_or(0, Lease::port);
        let lock = match &self.lease {
            Some(lease) => lease.share_lock().map_err(|error| {
                Error::io(ErrorKind::Io, format_args!("share the lock of port {leased}"), error)
            })?,
            None => None,
        };
        let (way, name, grace) = (&self.way, self.name.as_deref(), self.stop_grace);
        let (name, process) = self.launch.with_command(&Ports { main: leased }, |command| {
            if let Way::Variable(variable) = way {
                command.env(variable, leased.to_string());
            }
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let name = name.map_or_else(|| program_name(command.get_program()), str::to_owned);
            let process = Process::spawn(command, lock, grace)
                .map_err(|error| cannot_spawn(&name, command, error));
            (name, process)
        });
        let mut process = process?;
        let (stdout, stderr) = (process.child().stdout.take(), process.child().stderr.take());
        let (output, drained) = Output::drain(stdout, stderr);
        let mut running = Running { name, port: leased, process, output };
        let ready = match drained {
            Ok(()) => running.wait_until_ready(&self.way, self.start_timeout),
            Err(error) => {
                let doing = format_args!("read the output of server `{}`", running.name);
                Err(Error::io(ErrorKind::Io, doing, error))
            }
        };
        self.running = Some(running);
        if let Err(error) = ready {
            let stopped = self.stop_running(self.stop_grace);
            let output = stopped.map_or_else(|error| error.to_string(), |stopped| stopped.output);
            return Err(error.with_output(output));
        }
        Ok(())
    }

    /// The port that the server listens on.
    pub fn port(&self) -> u16 {
        self.running.as_ref().map_or(0, |running| running.port)
    }

    /// `127.0.0.1` with the port.
    pub fn addr(&self) -> SocketAddr {
        loopback(self.port())
    }

    /// `http://127.0.0.1:PORT` with `path`, which may or may not begin with a slash.
    pub fn url(&self, path: &str) -> String {
        let path = path.strip_prefix('/').unwrap_or(path);
        format!("http://{}/{path}", self.addr())
    }

    /// The name by which errors call it: the one that it was given, or its program's file name.
    pub fn name(&self) -> &str {
        self.running.as_ref().map_or("", |running| &running.name)
    }

    /// The process id of the server's own process.
    pub fn pid(&self) -> u32 {
        self.running.as_ref().map_or(0, |running| running.process.pid())
    }

    /// The last that it printed on its standard output and error, at most 64 KiB.
    pub fn output(&self) -> String {
        self.running.as_ref().map_or_else(String::new, |running| running.output.tail())
    }

    /// Stops the server, and starts it again; a leased port stays the same, and stays leased.
    ///
    /// The old one is gone, with all its processes, before the new one is started.
    ///
    /// # Errors
    ///
    /// As [`stop`](Server::stop) and [`start`](ServerBuilder::start). After an error the server is
    /// not running, and its [`port`](Server::port) is 0.
    pub fn restart(&mut self) -> Result<()> {
        self.stop_running(self.stop_grace)?;
        self.launch()
    }

    /// Ends the server as dropping it does, and says how it ended.
    ///
    /// Returns as soon as the last process of its group is gone.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotStopped`]: some processes are still there 5 s after `SIGKILL`. The message
    /// names them. The port stays leased until they are gone.
    pub fn stop(mut self) -> Result<Stopped> {
        self.stop_running(self.stop_grace)
    }

    fn stop_running(&mut self, grace: Duration) -> Result<Stopped> {
        let Some(Running { name, port, process, output }) = self.running.take() else {
            return Ok(Stopped { status: None, forced: false, output: String::new() });
        };
        match process.stop(grace) {
            Ok((End { status }, forced)) => {
                output.has_ended(OUTPUT_PATIENCE);
                Ok(Stopped { status, forced, output: output.tail() })
            }
            Err(Left(pids)) => {
                let leased = self.lease.take().map(Lease::leave).is_some();
                let pids: Vec<_> = pids.iter().map(u32::to_string).collect();
                let consequence =
                    if leased { "; the port stays leased until they are gone" } else { "" };
                let message = format!(
                    "failed to stop server `{name}` on port {port}: still there after SIGKILL: \
                     process {}{consequence}",
                    pids.join(", ")
                );
                let error = Error::new(ErrorKind::NotStopped, message);
                Err(error.with_port(port).with_output(output.tail()))
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        match &self.running {
            // A forked child has copies of all this: it only closes them.
            Some(running) if !running.process.is_ours() => {}
            Some(_) => {
                let impatient = if thread::panicking() { PANIC_GRACE } else { Duration::MAX };
                let _ = self.stop_running(self.stop_grace.min(impatient));
            }
            None => {}
        }
    }
}

impl Running {
    /// Waits until the server accepts connections on its port, which is learned here if it is
    /// reported.
    fn wait_until_ready(&mut self, way: &Way, timeout: Duration) -> Result<()> {
        let start = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(end) = self.process.end() {
                self.output.has_ended(OUTPUT_PATIENCE);
                return Err(self.exited(end));
            }
            if *way == Way::Report {
                self.port = self.output.reported_port(Duration::ZERO).unwrap_or(0);
            }
            if self.port != 0 && ready::accepts(loopback(self.port)) {
                return Ok(());
            }
            if start.elapsed() >= timeout {
                return Err(self.not_ready(timeout));
            }
            // Either wait ends early when there is something to see.
            if self.port == 0 && !self.output.has_ended(Duration::ZERO) {
                self.output.reported_port(pause);
            } else {
                sys::wait_for_exit(&[self.process.pid()], pause);
            }
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    fn exited(&self, end: End) -> Error {
        let how = end.status.map_or("status unknown".to_owned(), |status| status.to_string());
        let message =
            format!("server `{}` ended before it was ready{} ({how})", self.name, self.on_port());
        Error::new(ErrorKind::Exited, message).with_port(self.port)
    }

    fn not_ready(&self, timeout: Duration) -> Error {
        let missing = match self.port {
            0 => {
                "it has not printed a line `PORT=<number>` on its standard output; if it has, and \
                  it is not below, it may have to flush it"
                    .to_owned()
            }
            port => format!("nothing accepts connections at {}", loopback(port)),
        };
        let message = format!(
            "server `{}` was not ready after {:.1} s: {missing}",
            self.name,
            timeout.as_secs_f64()
        );
        Error::new(ErrorKind::NotReady, message).with_port(self.port)
    }

    fn on_port(&self) -> String {
        if self.port == 0 { String::new() } else { format!(" on port {}", self.port) }
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn program_name(program: &OsStr) -> String {
    let file_name = Path::new(program).file_name().unwrap_or(program);
    file_name.to_string_lossy().into_owned()
}

fn cannot_spawn(name: &str, command: &Command, error: io::Error) -> Error {
    let program = command.get_program();
    let hint = match (error.kind(), command.get_current_dir()) {
        (io::ErrorKind::NotFound, Some(dir)) => {
            format!("; there is no such program, or no directory {}", dir.display())
        }
        (io::ErrorKind::NotFound, None) => "; there is no such program".to_owned(),
        (io::ErrorKind::PermissionDenied, _) => "; it may not be executed".to_owned(),
        _ => String::new(),
    };
    Error::io(ErrorKind::Spawn, format_args!("start server `{name}`: {program:?}{hint}"), error)
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}
