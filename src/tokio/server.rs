//! A server that is awaited.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::{ChildStdin, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use ::tokio::runtime::Handle;

use super::background::{InBackground, Retire};
use super::exit::wait_for_exit;
use super::job::{self, Job};
use crate::error::{Error, ErrorKind, Result};
use crate::server::{Line, Lines, PanicLog, Ports, ServerBuilder, Stopped};
use crate::sys::Signal;

/// A running server, as [`portlease::Server`](crate::Server) in all but what is awaited.
///
/// # Dropping
///
/// Outside of a runtime, dropping it waits until the server is gone, as without tokio. Inside, a thread of
/// its own does that, and the runtime's goes on at once; the port is freed once all of the server is gone.
/// If the process ends before, the watchdog takes over: it asks the server to end once more, gives it all of
/// the grace anew (at most 5 s), and kills it. A test that has to know awaits [`stop`](Server::stop).
///
/// # Examples
///
/// ```no_run
/// use std::process::Command;
/// use portlease::tokio::Server;
///
/// # async fn test() -> portlease::Result<()> {
/// let builder = Server::builder(Command::new("my-server")).env_port("PORT");
/// let server = Server::start(builder).await?;
/// let url = server.url("/healthz"); // http://127.0.0.1:20017/healthz
/// # Ok(())
/// # }
/// ```
///
/// # What this does not guarantee
///
/// As [`portlease::Server`](crate::Server); and what only its own drop finds, a process that has left the
/// process group, stays if this process ends before a drop in the background is through. [`reap`](crate::reap)
/// ends it later.
#[must_use = "the server is stopped as soon as this is dropped; keep it in a variable for as long \
              as the server is needed"]
#[derive(Debug)]
pub struct Server {
    state: State,
}

#[derive(Debug)]
enum State {
    Here(InBackground<crate::Server>),
    /// It is being restarted, or that was dropped, and is being undone.
    Away(Job<Option<Restarted>>),
    /// A thread that should have had it could not be started.
    Gone,
}

type Restarted = (InBackground<crate::Server>, thread::Result<Result<()>>);

impl Server {
    /// As [`portlease::Server::builder`](crate::Server::builder).
    pub fn builder(command: Command) -> ServerBuilder {
        crate::Server::builder(command)
    }

    /// As [`portlease::Server::with`](crate::Server::with).
    pub fn with(make: impl FnMut(&Ports) -> Command + Send + 'static) -> ServerBuilder {
        crate::Server::with(make)
    }

    /// As [`portlease::Server::try_with`](crate::Server::try_with).
    pub fn try_with<E>(
        make: impl FnMut(&Ports) -> Result<Command, E> + Send + 'static,
    ) -> ServerBuilder
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        crate::Server::try_with(make)
    }

    /// Starts a server, and returns when it is ready.
    ///
    /// # Errors
    ///
    /// As [`ServerBuilder::start`]; and [`ErrorKind::Io`]: no thread can be started.
    ///
    /// # Panics
    ///
    /// If a closure of the builder does.
    ///
    /// # Cancel safety
    ///
    /// If this is dropped, the start is called off: at the next look at it, the server is asked to end, and
    /// when it has, its port is freed. That is within 20 ms, or 100 ms on a busy machine; but what the start
    /// is in the middle of is waited for first:
    ///
    /// - an answer over HTTP, or a command, that says whether the server is ready ([`Ready::http`] and
    ///   [`Ready::command`]): some 2 s at most;
    /// - a closure of the builder;
    /// - a port, where all are in use of which some may be free in a moment: some 5 s at most.
    ///
    /// [`Ready::http`]: crate::Ready::http
    /// [`Ready::command`]: crate::Ready::command
    pub async fn start(builder: ServerBuilder) -> Result<Server> {
        job::run(move |called_off| builder.called_off_by(called_off).start().map(Server::new))
            .await?
    }

    pub(super) fn new(server: crate::Server) -> Server {
        Server { state: State::Here(InBackground::new(server)) }
    }

    /// As [`portlease::Server::port`](crate::Server::port). This and the next ones answer as for a server
    /// that is not running while a restart that was dropped is being undone, and until it is restarted; its
    /// name and its URL are empty then.
    pub fn port(&self) -> u16 {
        self.here().map_or(0, crate::Server::port)
    }

    /// As [`portlease::Server::port_of`](crate::Server::port_of).
    pub fn port_of(&self, name: &str) -> Option<u16> {
        self.here().ok().and_then(|server| server.port_of(name))
    }

    /// As [`portlease::Server::addr`](crate::Server::addr).
    pub fn addr(&self) -> SocketAddr {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        self.here().map_or(nowhere, crate::Server::addr)
    }

    /// As [`portlease::Server::url`](crate::Server::url).
    pub fn url(&self, path: &str) -> String {
        self.here().map_or_else(|_| String::new(), |server| server.url(path))
    }

    /// As [`portlease::Server::name`](crate::Server::name).
    pub fn name(&self) -> &str {
        self.here().map_or("", crate::Server::name)
    }

    /// As [`portlease::Server::pid`](crate::Server::pid).
    pub fn pid(&self) -> u32 {
        self.here().map_or(0, crate::Server::pid)
    }

    /// As [`portlease::Server::output`](crate::Server::output).
    pub fn output(&self) -> String {
        self.here().map_or_else(|_| String::new(), crate::Server::output)
    }

    /// As [`portlease::Server::lines`](crate::Server::lines). For lines as they come:
    /// [`follow`](Server::follow).
    pub fn lines(&self) -> Vec<Line> {
        self.here().map_or_else(|_| Vec::new(), crate::Server::lines)
    }

    /// Its lines as they come, from the first that is kept: a [`Stream`](futures_core::Stream).
    pub fn follow(&self) -> Lines {
        Lines::of(self.here().ok())
    }

    /// As [`portlease::Server::wait_for_line`](crate::Server::wait_for_line), awaited.
    ///
    /// # Errors
    ///
    /// As there; and [`ErrorKind::Io`]: no thread can be started.
    ///
    /// # Cancel safety
    ///
    /// It changes nothing; the same line is found by the next call, if it is still kept.
    pub async fn wait_for_line(&self, text: &str, at_most: Duration) -> Result<Line> {
        let which = format!("that contains {text:?}");
        let text = text.to_owned();
        self.wait_for_line_where(&which, at_most, move |line| line.contains(&text)).await
    }

    /// As [`portlease::Server::wait_for_line_where`](crate::Server::wait_for_line_where), awaited.
    ///
    /// # Errors
    ///
    /// As [`wait_for_line`](Server::wait_for_line).
    ///
    /// # Panics
    ///
    /// If `matches` does.
    ///
    /// # Cancel safety
    ///
    /// As [`wait_for_line`](Server::wait_for_line).
    pub async fn wait_for_line_where(
        &self,
        which: &str,
        at_most: Duration,
        matches: impl FnMut(&str) -> bool + Send + 'static,
    ) -> Result<Line> {
        let printed = self.here()?.printed()?;
        let which = which.to_owned();
        job::run(move |called_off| printed.wait_for_line(&which, at_most, called_off, matches))
            .await?
    }

    /// As [`portlease::Server::log_on_panic`](crate::Server::log_on_panic).
    pub fn log_on_panic(&self) -> PanicLog {
        PanicLog::of(self.here().ok())
    }

    /// As [`portlease::Server::take_stdin`](crate::Server::take_stdin). `tokio::process::ChildStdin::from_std`
    /// makes it one of tokio's.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.here_mut().ok().and_then(crate::Server::take_stdin)
    }

    /// As [`portlease::Server::signal`](crate::Server::signal).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.here()?.signal(signal)
    }

    /// As [`portlease::Server::try_wait`](crate::Server::try_wait).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        self.here_mut()?.try_wait()
    }

    /// As [`portlease::Server::wait`](crate::Server::wait), awaited.
    ///
    /// # Errors
    ///
    /// As there; and [`ErrorKind::Io`]: no thread can be started.
    ///
    /// # Cancel safety
    ///
    /// It changes nothing.
    pub async fn wait(&mut self, at_most: Duration) -> Result<Option<ExitStatus>> {
        let start = Instant::now();
        loop {
            let left = at_most.saturating_sub(start.elapsed());
            match self.try_wait()? {
                None if !left.is_zero() => {}
                ended => return Ok(ended),
            }
            let pid = self.pid();
            job::run(move |called_off| wait_for_exit(pid, left, called_off)).await?;
        }
    }

    /// As [`portlease::Server::restart`](crate::Server::restart), awaited.
    ///
    /// # Errors
    ///
    /// As there; and [`ErrorKind::Io`]: no thread can be started; then the server is stopped.
    ///
    /// # Panics
    ///
    /// If a closure of the builder does.
    ///
    /// # Cancel safety
    ///
    /// If this is dropped, the restart is called off: the old one is stopped, and of the new one nothing
    /// stays. The server is not running then, as after a restart that failed, and can be restarted: that
    /// waits until the one before is undone.
    pub async fn restart(&mut self) -> Result<()> {
        self.settle().await;
        let mut server = self.take().ok_or_else(gone)?;
        self.state = State::Away(Job::start(move |called_off| {
            let restarted = catch_unwind(AssertUnwindSafe(|| {
                let server = server.get_mut().ok_or_else(gone)?;
                server.called_off_by(called_off);
                server.restart()
            }));
            Some((server, restarted))
        })?);
        let undo = Undo(&mut self.state);
        let State::Away(job) = &mut *undo.0 else { return Err(gone()) };
        let (server, restarted) = job.end().await?.ok_or_else(gone)?;
        *undo.0 = State::Here(server);
        restarted.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// As [`portlease::Server::stop`](crate::Server::stop), awaited. To stop several at the same time, join
    /// their futures.
    ///
    /// # Errors
    ///
    /// As there; and [`ErrorKind::Io`]: no thread can be started; then it was dropped.
    ///
    /// # Cancel safety
    ///
    /// If this is dropped, the server is stopped all the same.
    pub async fn stop(mut self) -> Result<Stopped> {
        self.settle().await;
        let server = self.take().ok_or_else(gone)?;
        job::run(|_| server.take().ok_or_else(gone)?.stop()).await?
    }

    /// Waits until a restart that was dropped is undone.
    pub(super) async fn settle(&mut self) {
        if let State::Away(job) = &mut self.state {
            let server = job.end().await.ok().flatten();
            self.state = server.map_or(State::Gone, |(server, _)| State::Here(server));
        }
    }

    fn take(&mut self) -> Option<InBackground<crate::Server>> {
        match std::mem::replace(&mut self.state, State::Gone) {
            State::Here(server) => Some(server),
            State::Away(_) | State::Gone => None,
        }
    }

    /// The server itself. Waits on this thread until a restart that was dropped is undone.
    pub(super) fn into_inner(mut self) -> Option<crate::Server> {
        let server = match std::mem::replace(&mut self.state, State::Gone) {
            State::Here(server) => Some(server),
            State::Away(job) => job.wait().flatten().map(|(server, _)| server),
            State::Gone => None,
        };
        server.and_then(InBackground::take)
    }

    /// As that of what it holds; there is something to wait for also while a restart is being undone.
    pub(super) fn retire(&mut self) -> bool {
        match &mut self.state {
            State::Here(server) => server.get_mut().is_some_and(Retire::retire),
            State::Away(_) => true,
            State::Gone => false,
        }
    }

    fn here(&self) -> Result<&crate::Server> {
        match &self.state {
            State::Here(server) => server.get().ok_or_else(gone),
            State::Away(_) | State::Gone => Err(gone()),
        }
    }

    fn here_mut(&mut self) -> Result<&mut crate::Server> {
        match &mut self.state {
            State::Here(server) => server.get_mut().ok_or_else(gone),
            State::Away(_) | State::Gone => Err(gone()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Inside a runtime, the thread that undoes the restart ends the server too.
        let is_away = matches!(self.state, State::Away(_));
        if is_away && Handle::try_current().is_err() {
            if let State::Away(job) = std::mem::replace(&mut self.state, State::Gone) {
                drop(job.wait());
            }
        }
    }
}

/// Undoes a restart that is dropped before its end was seen; it may have come all the same, and with it a
/// server that runs.
struct Undo<'a>(&'a mut State);

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if !matches!(self.0, State::Away(_)) {
            return;
        }
        let State::Away(job) = std::mem::replace(self.0, State::Gone) else { return };
        let undone = Job::start(move |_| {
            let (mut server, restarted) = job.wait().flatten()?;
            server.get_mut().into_iter().for_each(crate::Server::halt);
            Some((server, restarted))
        });
        *self.0 = undone.map_or(State::Gone, State::Away);
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Exited, "the server is not running, since its last restart was dropped")
}
