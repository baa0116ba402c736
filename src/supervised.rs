//! Supervision, for who asks: a server that dies, or is no longer ready, is started again.
//!
//! A thread looks after the server, and has it only while it looks or starts it again; the test has it
//! at other times. What the thread did is on record.

use std::net::SocketAddr;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use crate::error::{Error, ErrorKind, Result};
use crate::server::{Server, ServerBuilder, Stopped, say};
use crate::sys;

/// A pause is cut to what the clock can express.
const MAX_PAUSE: Duration = Duration::from_secs(365 * 24 * 3600);

/// When a server is started again, and how often; for [`ServerBuilder::supervise`].
#[derive(Clone, Debug)]
#[must_use = "it says when a server is started again; give it to `ServerBuilder::supervise`"]
pub struct Supervision {
    restarts: usize,
    check_every: Duration,
    unready_for: Duration,
}

impl Supervision {
    /// So many times at most, in all. After that, the server is left as it is.
    pub fn restarts(at_most: usize) -> Supervision {
        Supervision {
            restarts: at_most,
            check_every: Duration::from_secs(1),
            unready_for: Duration::from_secs(5),
        }
    }

    /// How often is looked whether what [`Ready`](crate::Ready) asks for still holds, but for lines in the
    /// output. The default is each second. That the server has died is seen at once.
    pub fn check_every(mut self, pause: Duration) -> Self {
        self.check_every = pause.clamp(Duration::from_millis(1), MAX_PAUSE);
        self
    }

    /// For how long it must not hold at any look. The default is 5 s.
    pub fn unready_for(mut self, time: Duration) -> Self {
        self.unready_for = time;
        self
    }
}

/// A server that is started again on its port when it dies, or is no longer ready; the old one is gone
/// before. Made by [`ServerBuilder::supervise`].
///
/// A test that wants to know whether its server is well asks [`restarts`](Supervised::restarts) in the
/// end: a server that dies now and then, and is always up again, hides a fault.
///
/// # Examples
///
/// ```no_run
/// use std::process::Command;
/// use portlease::{Server, Supervision};
///
/// let builder = Server::builder(Command::new("my-server")).env_port("PORT");
/// let supervised = builder.supervise(Supervision::restarts(3))?;
/// let url = supervised.url("/healthz");
/// // the test
/// assert_eq!(supervised.restarts().len(), 0);
/// # Ok::<(), portlease::Error>(())
/// ```
///
/// # What this does not guarantee
///
/// - A port that the server chooses itself is another one after a restart.
/// - A server that hangs is noticed only if it is [`ready`](ServerBuilder::ready) by an answer, over HTTP
///   for instance: its socket listens all the same.
#[must_use = "the server is stopped as soon as this is dropped; keep it in a variable for as long \
              as the server is needed"]
#[derive(Debug)]
pub struct Supervised {
    shared: Arc<Shared>,
    /// `None`: it is over.
    thread: Option<JoinHandle<()>>,
    /// A child that was forked from this process must not touch it.
    started_by: u32,
}

#[derive(Debug)]
struct Shared {
    /// Known without the server, which may be in use.
    name: String,
    policy: Supervision,
    server: Mutex<Server>,
    record: Mutex<Record>,
    changed: Condvar,
    /// Ends a restart that is under way, too.
    is_over: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Record {
    restarts: Vec<Restart>,
    given_up: Option<String>,
}

/// One time that a server was started again.
#[derive(Clone, Debug)]
pub struct Restart {
    at: SystemTime,
    why: String,
    error: Option<String>,
}

impl Restart {
    /// When the reason was seen.
    pub fn at(&self) -> SystemTime {
        self.at
    }

    /// Why: `it ended (signal: 9 (SIGKILL))`, for instance.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// Why it did not come up, if it did not. That is a reason for the next restart.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }
}

impl ServerBuilder {
    /// Starts the server, as [`start`](ServerBuilder::start) does, and starts it again when it dies, or is
    /// no longer ready.
    ///
    /// # Errors
    ///
    /// As [`start`](ServerBuilder::start); and [`ErrorKind::Io`]: no thread could be started for it.
    pub fn supervise(self, policy: Supervision) -> Result<Supervised> {
        let is_over = Arc::default();
        let server = self.called_off_by(&is_over).start()?;
        let shared = Arc::new(Shared {
            name: server.name().to_owned(),
            policy,
            server: Mutex::new(server),
            record: Mutex::default(),
            changed: Condvar::new(),
            is_over,
        });
        let for_thread = Arc::clone(&shared);
        let thread = thread::Builder::new().name("portlease-supervision".to_owned());
        let thread = thread.spawn(move || for_thread.look_after()).map_err(|error| {
            Error::io(ErrorKind::Io, "start a thread that looks after a server", error)
        })?;
        Ok(Supervised { shared, thread: Some(thread), started_by: process::id() })
    }
}

impl Supervised {
    /// Does something with the server, which is not started again meanwhile. Waits while it is being
    /// started again; so neither this nor another wait of this value can be used in `act`.
    pub fn with<T>(&self, act: impl FnOnce(&mut Server) -> T) -> T {
        act(&mut self.shared.server())
    }

    /// As [`Server::port`]. This and the next ones wait while the server is being started again.
    pub fn port(&self) -> u16 {
        self.with(|server| server.port())
    }

    /// As [`Server::addr`].
    pub fn addr(&self) -> SocketAddr {
        self.with(|server| server.addr())
    }

    /// As [`Server::url`].
    pub fn url(&self, path: &str) -> String {
        self.with(|server| server.url(path))
    }

    /// As [`Server::pid`]: of the one that is running now.
    pub fn pid(&self) -> u32 {
        self.with(|server| server.pid())
    }

    /// Each time that it was started again, the first one first.
    pub fn restarts(&self) -> Vec<Restart> {
        self.shared.record().restarts.clone()
    }

    /// Why it is not started again any more: it was so often already, or a closure of its own panicked.
    pub fn gave_up(&self) -> Option<String> {
        self.shared.record().given_up.clone()
    }

    /// Waits until it was started again so many times in all, and is up, or did not come up.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotReady`]: it was not, within `at_most`; or, at once, it is not started again any
    /// more.
    pub fn wait_for_restarts(&self, count: usize, at_most: Duration) -> Result<()> {
        let start = Instant::now();
        let mut record = self.shared.record();
        while record.restarts.len() < count {
            let left = at_most.saturating_sub(start.elapsed());
            if left.is_zero() || record.given_up.is_some() {
                let (name, times) = (&self.shared.name, record.restarts.len());
                let why = match &record.given_up {
                    Some(why) => format!("; it is not started again any more: {why}"),
                    None => String::new(),
                };
                let message = format!(
                    "server `{name}` was started again {times} times in {:.1} s, and not {count}{why}",
                    start.elapsed().as_secs_f64()
                );
                return Err(Error::new(ErrorKind::NotReady, message));
            }
            let woken = self.shared.changed.wait_timeout(record, left);
            record = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// Stops the server, as [`Server::stop`]; a restart that is under way is called off.
    ///
    /// # Errors
    ///
    /// As [`Server::stop`]; and [`ErrorKind::Exited`]: it is not running, since its last restart failed.
    pub fn stop(mut self) -> Result<Stopped> {
        self.end(Server::end)
    }

    /// Ends the server by `end`, and waits for the thread, which sees at once that it is gone; so its
    /// leases are freed here.
    fn end<T>(&mut self, end: impl FnOnce(&mut Server) -> T) -> T {
        self.shared.is_over.store(true, Ordering::Relaxed);
        let ended = end(&mut self.shared.server());
        let _ = self.thread.take().map(JoinHandle::join);
        ended
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        if self.started_by != process::id() {
            // Its thread is not here, and may have had the locks.
            std::mem::forget(Arc::clone(&self.shared));
        } else if self.thread.is_some() {
            self.end(Server::end_as_dropped);
        }
    }
}

/// Gives the server up if the thread panics, in a check of the test's own for instance: else those who
/// wait for it would not know.
struct GiveUp<'a>(&'a Shared);

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.give_up("the thread that looks after it panicked".to_owned());
        }
    }
}

impl Shared {
    /// What the thread does.
    fn look_after(&self) {
        let _if_it_panics = GiveUp(self);
        let mut unready_since = None;
        loop {
            let pid = {
                let server = self.server();
                if self.is_over.load(Ordering::Relaxed) {
                    return;
                }
                server.pid()
            };
            if pid != 0 {
                sys::wait_for_exit(&[pid], self.policy.check_every);
            }
            let mut server = self.server();
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            let Some(why) = self.why(&mut server, &mut unready_since) else { continue };
            unready_since = None;
            if !self.start_again(&mut server, why) {
                return;
            }
        }
    }

    /// Why it has to be started again, if it has to.
    fn why(&self, server: &mut Server, unready_since: &mut Option<Instant>) -> Option<String> {
        match server.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => return Some(format!("it ended ({status})")),
            Err(error) => return Some(error.to_string()), // nobody knows how; or a restart failed
        }
        match server.is_still_ready() {
            Ok(()) => *unready_since = None,
            Err(missing) => {
                let since = unready_since.get_or_insert_with(Instant::now).elapsed();
                if since >= self.policy.unready_for {
                    let seconds = since.as_secs_f64();
                    return Some(format!(
                        "it was not ready any more for {seconds:.1} s: {missing}"
                    ));
                }
            }
        }
        None
    }

    /// Whether it was not too often. That it failed is on record, and a reason for the next time.
    fn start_again(&self, server: &mut Server, why: String) -> bool {
        let name = &self.name;
        let at = SystemTime::now();
        let (times, at_most) = (self.record().restarts.len(), self.policy.restarts);
        if times >= at_most {
            say(&format!("server `{name}` is not started again after {times} times: {why}"));
            self.give_up(why);
            return false;
        }
        say(&format!("server `{name}` is started again ({} of {at_most}): {why}", times + 1));
        let error = server.restart().err().map(|error| error.to_string());
        self.record().restarts.push(Restart { at, why, error });
        self.changed.notify_all();
        true
    }

    fn give_up(&self, why: String) {
        self.record().given_up = Some(why);
        self.changed.notify_all();
    }

    fn server(&self) -> MutexGuard<'_, Server> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
