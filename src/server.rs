//! A server: a child process with a port, from its start until nothing of it is left.
//!
//! - What can be asked for: `builder`, kept in `config`: `way`, `command`, `ports`, `dir`.
//! - Starts and stops, and what becomes of the leases: `launch`.
//! - One start: `spawn`, `inherit`, `running`; what can go wrong: `failure`, `complaining`, `daemon`.
//! - Whether it is ready: `starting`, `ready`; whether it is the one who listens: `identity`; which port
//!   it chose: `choice`.
//! - What it prints: `output`, `line`, `printed`, `report`, `panic_log`.
//! - Its processes: `process`, `watchdog`; which ones these are: `look`, `tree`, `escape`; the mark of each
//!   is in `crate::cookie`.
//! - How they are ended: `stopping`, with the table `stop`, and `stopped`; those of dead harnesses:
//!   `orphan`.

mod builder;
mod choice;
mod command;
mod complaining;
mod config;
mod daemon;
mod dir;
mod escape;
mod failure;
mod identity;
mod inherit;
mod launch;
mod line;
mod look;
mod orphan;
mod output;
mod panic_log;
mod ports;
mod printed;
mod process;
mod ready;
mod report;
mod running;
mod slow;
mod spawn;
mod starting;
mod stop;
mod stopped;
mod stopping;
mod tree;
mod way;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::process::{ChildStdin, Command, ExitStatus};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

pub use self::builder::ServerBuilder;
use self::command::Launch;
pub(crate) use self::config::CalledOff;
use self::config::Config;
pub use self::inherit::socket_activated;
use self::launch::not_running;
pub use self::line::{Line, Stream};
pub use self::orphan::{Orphan, orphans, reap};
#[cfg(feature = "tokio")]
pub use self::output::Lines;
pub use self::panic_log::PanicLog;
pub use self::ports::Ports;
pub(crate) use self::printed::Printed;
pub use self::ready::Ready;
#[cfg(fuzzing)]
pub use self::report::fuzz_report;
use self::running::Running;
pub use self::stopped::Stopped;
pub use self::way::Handoff;
use self::way::Way;
use crate::error::Result;
use crate::lease::Lease;
use crate::sys::Signal;
use crate::url::url;

/// A running server, with a port that nobody else has.
///
/// [`start`](ServerBuilder::start) returns when the server, and nobody else, listens on its port, and
/// what [`Ready`] asks for beside holds. Dropping it ends the server with everything it started:
/// `SIGTERM`, the grace ([`ServerBuilder::stop_grace`]; at most 1 s while the test is panicking),
/// `SIGKILL`; the port is freed once all of it is gone. If this process is killed, by `SIGKILL` too, a
/// watchdog does the same for the process group, and the port stays leased until it is done.
///
/// The server's standard input is empty. What it prints is always read. The last 64 KiB are kept, and
/// are in the errors about its start, its lines and its stop; of these, the last 200 lines are
/// printed when a panic drops the server. If the environment variable `PORTLEASE_LOG_DIR` names a
/// directory, all of it is copied to a file there, `NAME-PID.log`.
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
/// - If this process was killed, nobody reads the server's output any more: one that prints while it
///   shuts down may be ended by `SIGPIPE` before it is done.
/// - A process that leaves the process group (`setsid`; a server that makes itself a daemon) is not
///   ended by the watchdog; [`reap`] does it later. [`stop`](Server::stop) ends it if its parents show
///   where it comes from, or the variable `PORTLEASE_COOKIE` of its environment; if it has the
///   server's output; or if it listens on the leased port under the name of the program that was
///   started.
/// - That the one who accepts connections on the port stays this server: `start` checks it, but on a
///   leased port a stranger who sets `SO_REUSEADDR` and asks for that very number could come later.
/// - One that forks faster than `/proc` can be looked at, and leaves group and session each time, may
///   get away.
/// - Without `/bin/sh` there is no watchdog.
/// - Values in statics are never dropped; for these, the watchdog is what ends the server.
///
/// # On macOS, FreeBSD and Windows
///
/// Nobody can look who listens, nor who left the process group: that one is not ended, and a server is ready
/// when somebody accepts connections on its port. On macOS and FreeBSD, what is left in the group once the
/// server itself has ended is killed without a grace. On Windows, a stop asks by Ctrl-Break, and all that the
/// server started is a job: if this process is killed, the system ends the job, and frees the port, at the same
/// time, and the server gets no grace.
///
/// [All of it in one table](crate::guide::platforms).
#[must_use = "the server is stopped as soon as this is dropped; keep it in a variable for as long \
              as the server is needed"]
pub struct Server {
    config: Config,
    /// The main one first, if there is one.
    leases: Vec<Lease>,
    running: Option<Running>,
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
    /// start would run `--port 20001 --port 20002`. If it may fail, use [`try_with`](Server::try_with).
    ///
    /// For who only needs the server's directory ([`Ports::dir`]): with
    /// [`report_port`](ServerBuilder::report_port) and its like, no port is leased.
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
    pub fn with(mut make: impl FnMut(&Ports) -> Command + Send + 'static) -> ServerBuilder {
        ServerBuilder::new(Launch::by(move |ports| Ok(make(ports))), Some(Way::Lease))
    }

    /// The same, for a command that may fail to be made: a database whose data has to be prepared, for
    /// instance. The error is the [source](std::error::Error::source) of that of
    /// [`start`](ServerBuilder::start).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::process::Command;
    /// use portlease::Server;
    ///
    /// let server = Server::try_with(|ports| {
    ///     std::fs::copy("tests/seed.db", ports.dir().join("db"))?;
    ///     let mut command = Command::new("my-server");
    ///     command.arg(ports.dir().join("db")).env("PORT", ports.main().to_string());
    ///     Ok::<_, std::io::Error>(command)
    /// })
    /// .start()?;
    /// # Ok::<(), portlease::Error>(())
    /// ```
    pub fn try_with<E>(
        mut make: impl FnMut(&Ports) -> Result<Command, E> + Send + 'static,
    ) -> ServerBuilder
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let make = move |ports: &Ports| make(ports).map_err(io::Error::other);
        ServerBuilder::new(Launch::by(make), Some(Way::Lease))
    }

    /// The main port, on which the server listens; 0 if it has none.
    pub fn port(&self) -> u16 {
        self.running.as_ref().map_or(0, |running| running.ports.main)
    }

    /// A further port, of [`ServerBuilder::port`] or [`ServerBuilder::env_port_named`]; or one that the
    /// server reported under this name before it was ready: for `grpc`, in a line `GRPC_PORT=40124`.
    pub fn port_of(&self, name: &str) -> Option<u16> {
        let running = self.running.as_ref()?;
        running.ports.get(name).or_else(|| running.reports.named(name))
    }

    /// Where its clients connect: [`ServerBuilder::host`], by default `127.0.0.1`, with the main port.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::new(self.config.host, self.port())
    }

    /// `http://127.0.0.1:PORT` with `path`, which may or may not begin with a slash.
    pub fn url(&self, path: &str) -> String {
        url(self.addr(), path)
    }

    /// The name by which errors call it: the one that it was given, or its program's file name.
    pub fn name(&self) -> &str {
        let given = self.config.name.as_deref().unwrap_or_default();
        self.running.as_ref().map_or(given, |running| &running.name)
    }

    /// The process id of the server's own process.
    pub fn pid(&self) -> u32 {
        self.running.as_ref().map_or(0, |running| running.process.pid())
    }

    /// The last that it printed on its standard output and error, at most 64 KiB. The two are read
    /// separately: a line of one may stand before an earlier one of the other.
    pub fn output(&self) -> String {
        self.running.as_ref().map_or_else(String::new, |running| running.output.tail())
    }

    /// The last lines that it printed, at most 64 KiB of them, each with its stream and the time at
    /// which it was read. A line without its newline is not among them yet. The two streams are read
    /// separately: a line of one may stand before an earlier one of the other.
    pub fn lines(&self) -> Vec<Line> {
        self.running.as_ref().map_or_else(Vec::new, |running| running.output.lines())
    }

    /// Waits until a line that contains `text` has been printed, by either stream, and returns it.
    /// Lines that were printed before the call count, as far as they are kept.
    ///
    /// # Errors
    ///
    /// With the last it printed:
    ///
    /// - [`ErrorKind::Exited`](crate::ErrorKind::Exited): the server's output ended without such a line.
    /// - [`ErrorKind::NotReady`](crate::ErrorKind::NotReady): there was none within `at_most`.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use std::{process::Command, time::Duration};
    /// # let server = portlease::Server::builder(Command::new("x")).report_port().start()?;
    /// server.wait_for_line("cache is warm", Duration::from_secs(10))?;
    /// # Ok::<(), portlease::Error>(())
    /// ```
    pub fn wait_for_line(&self, text: &str, at_most: Duration) -> Result<Line> {
        self.wait_for_line_where(&format!("that contains {text:?}"), at_most, |line| {
            line.contains(text)
        })
    }

    /// The same, for a line about which `matches` is true. `which` completes "a line" in the error:
    /// "that ends in a number".
    ///
    /// # Errors
    ///
    /// As [`wait_for_line`](Server::wait_for_line).
    pub fn wait_for_line_where(
        &self,
        which: &str,
        at_most: Duration,
        matches: impl FnMut(&str) -> bool,
    ) -> Result<Line> {
        self.printed()?.wait_for_line(which, at_most, &AtomicBool::new(false), matches)
    }

    /// Prints the last of the output on this thread's standard error if the returned guard is
    /// dropped while the thread is panicking. For servers in statics, which are never dropped; a
    /// server that is dropped by a panic does it by itself. At most 200 lines; after a
    /// [`restart`](Server::restart), the guard still shows the old start.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use std::process::Command;
    /// use std::sync::LazyLock;
    /// use portlease::Server;
    ///
    /// static API: LazyLock<Server> = LazyLock::new(|| {
    ///     Server::builder(Command::new("my-server")).env_port("PORT").start().unwrap()
    /// });
    ///
    /// # fn test() {
    /// let _log = API.log_on_panic();
    /// // what may fail
    /// # }
    /// ```
    pub fn log_on_panic(&self) -> PanicLog {
        PanicLog::of(Some(self))
    }

    /// The writing end of the server's standard input, once, if
    /// [`pipe_stdin`](ServerBuilder::pipe_stdin) asked for it.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.running.as_mut().and_then(|running| running.process.child().stdin.take())
    }

    /// Sends a signal to the server's own process, not to others of its group; but a Ctrl-Break on Windows, for
    /// which [`Signal`] says what stands for what, gets to all of it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Exited`](crate::ErrorKind::Exited): it has ended, and [`wait`](Server::wait) or
    /// [`try_wait`](Server::try_wait) saw it; a signal to one that has just ended is lost.
    /// [`ErrorKind::Io`](crate::ErrorKind::Io): this process may not send it signals.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.running()?.signal(signal)
    }

    /// The exit status of the server's own process, if it has ended. Does not wait.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io): it has ended, and its status is unknown, because this
    /// process ignores `SIGCHLD` or somebody else reaped it.
    /// [`ErrorKind::Exited`](crate::ErrorKind::Exited): its last restart failed.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        self.wait(Duration::ZERO)
    }

    /// Waits until the server's own process ends by itself, for at most so long. `None`: it has not.
    ///
    /// The server stays what it is: others of its group may live, and its port is still leased.
    ///
    /// # Errors
    ///
    /// As [`try_wait`](Server::try_wait).
    pub fn wait(&mut self, at_most: Duration) -> Result<Option<ExitStatus>> {
        match &mut self.running {
            Some(running) => running.wait(at_most),
            None => Err(not_running()),
        }
    }

    /// Stops the server, and starts it again; a leased port stays the same, and stays leased.
    ///
    /// The old one is gone, with all its processes, before the new one is started.
    ///
    /// # Errors
    ///
    /// As [`stop`](Server::stop) and [`start`](ServerBuilder::start). After an error the server is
    /// not running, its port and pid are 0 and its output is empty; it can be restarted again, unless
    /// it could not be stopped.
    pub fn restart(&mut self) -> Result<()> {
        if self.running.is_some() {
            self.stop_running(self.config.stop_grace)?;
        }
        self.launch()
    }

    /// Ends the server as dropping it does, and says how it ended.
    ///
    /// Returns as soon as the last of its processes is gone.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotStopped`](crate::ErrorKind::NotStopped): some processes are still there 5 s after
    /// `SIGKILL`. The message names them. The port stays leased until they are gone, by the watchdog; where there is none,
    /// until this process ends.
    pub fn stop(mut self) -> Result<Stopped> {
        self.end()
    }

    /// What its present start prints.
    pub(crate) fn printed(&self) -> Result<Printed> {
        self.running().map(Running::printed)
    }

    fn running(&self) -> Result<&Running> {
        self.running.as_ref().ok_or_else(not_running)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut server = f.debug_struct("Server");
        server.field("name", &self.name()).field("addr", &self.addr()).field("pid", &self.pid());
        server.finish_non_exhaustive()
    }
}

/// Prints to the log of the test. The only place that does: libtest captures what goes through this
/// macro, and shows it with the failed test; it does not capture `stderr()`.
#[allow(clippy::print_stderr)]
pub(crate) fn say(message: &str) {
    eprintln!("{message}");
}
