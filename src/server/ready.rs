//! When a server is ready: what can be asked for, and one look at whether it holds.

mod command;
mod http;

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub(super) use self::http::accepts;

use super::line::Awaited;
use super::output::Output;
use super::ports::Ports;
use crate::cookie::{self, Cookie};

/// How long one answer, or one command, may take; and how long it may take at least, though the start has
/// less time left: what is wrong with it says more than that it is too late.
const ATTEMPT: Duration = Duration::from_secs(2);
const LAST_ATTEMPT: Duration = Duration::from_millis(200);

/// When a server is ready; for [`ServerBuilder::ready`](crate::ServerBuilder::ready).
///
/// Whatever is asked for here, a server that has a port must listen on it, with all its sockets and
/// nobody else's: that is [`listening`](Ready::listening), the default, and comes first, so that no
/// stranger is ever talked to. Only [`connects`](Ready::connects) and [`at_once`](Ready::at_once) do
/// without.
///
/// # Examples
///
/// ```no_run
/// use std::process::Command;
/// use portlease::{Ready, Server};
///
/// let server = Server::builder(Command::new("my-server"))
///     .env_port("PORT")
///     .ready(Ready::http("/healthz").and(Ready::line("cache is warm")))
///     .start()?;
/// # Ok::<(), portlease::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "it says when a server is ready; give it to `ServerBuilder::ready`"]
pub struct Ready {
    pub(super) who: Who,
    checks: Vec<Check>,
}

/// What is asked about who listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// That it is the server.
    Server,
    /// That somebody accepts connections.
    Anybody,
    Nobody,
}

#[derive(Clone)]
enum Check {
    Http { path: String, status: Option<u16> },
    Line(Arc<Awaited>),
    File(PathBuf),
    Command(Arc<Mutex<MakeCommand>>),
    When { what: String, holds: Arc<dyn Fn(&Ports) -> bool + Send + Sync> },
}

type MakeCommand = dyn FnMut(&Ports) -> Command + Send;

impl Ready {
    fn new(who: Who, check: Option<Check>) -> Ready {
        Ready { who, checks: check.into_iter().collect() }
    }

    /// It listens where its clients will connect, and nobody else does. Without a connection: the
    /// kernel's tables tell. Where they cannot be looked at, as [`connects`](Ready::connects).
    pub fn listening() -> Ready {
        Ready::new(Who::Server, None)
    }

    /// Somebody accepts a connection on its port, whoever that is: for servers whose port another
    /// process serves, as a container engine's proxy does.
    pub fn connects() -> Ready {
        Ready::new(Who::Anybody, None)
    }

    /// As soon as it is started: for programs that serve nothing.
    pub fn at_once() -> Ready {
        Ready::new(Who::Nobody, None)
    }

    /// It answers `GET path` on its main port with a status from 200 to 399.
    pub fn http(path: impl Into<String>) -> Ready {
        Ready::new(Who::Server, Some(Check::Http { path: path.into(), status: None }))
    }

    /// It answers `GET path` on its main port with this status.
    pub fn http_status(path: impl Into<String>, status: u16) -> Ready {
        Ready::new(Who::Server, Some(Check::Http { path: path.into(), status: Some(status) }))
    }

    /// It has printed a line that contains `text`, on either stream.
    pub fn line(text: impl Into<String>) -> Ready {
        let text = text.into();
        let which = format!("that contains {text:?}");
        Ready::line_where(which, move |line| line.contains(&text))
    }

    /// It has printed a line about which `matches` is true. `which` completes "a line" in the error:
    /// "that ends in a number".
    ///
    /// Each line is asked about when it is read, by the thread that reads it; a panic of `matches` is printed,
    /// and counts as no.
    pub fn line_where(
        which: impl Into<String>,
        matches: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> Ready {
        let line = Awaited { which: which.into(), matches: Box::new(matches) };
        Ready::new(Who::Server, Some(Check::Line(Arc::new(line))))
    }

    /// There is a file, or a socket, of that name. A relative one is in the server's directory,
    /// [`Ports::dir`].
    ///
    /// One that was there before counts as well, and at a [restart](crate::Server::restart) the one of the
    /// last start, if the server does not remove it: then the closure of
    /// [`Server::with`](crate::Server::with) should.
    pub fn file(path: impl Into<PathBuf>) -> Ready {
        Ready::new(Who::Server, Some(Check::File(path.into())))
    }

    /// A command ends with exit status 0, `pg_isready` for instance. It is run again and again, and
    /// killed if it takes over 2 s; its output is not shown. If this process is killed meanwhile, it goes
    /// on until it ends by itself, or [`reap`](crate::reap) ends it. On Windows, what it started is not
    /// killed with it.
    pub fn command(make: impl FnMut(&Ports) -> Command + Send + 'static) -> Ready {
        Ready::new(Who::Server, Some(Check::Command(Arc::new(Mutex::new(make)))))
    }

    /// `holds` is true. `what` completes "it is not ready until" in the error: "the table exists".
    /// It is asked again and again, and must not take long.
    pub fn when(
        what: impl Into<String>,
        holds: impl Fn(&Ports) -> bool + Send + Sync + 'static,
    ) -> Ready {
        let check = Check::When { what: what.into(), holds: Arc::new(holds) };
        Ready::new(Who::Server, Some(check))
    }

    /// The lines that have to be printed.
    pub(super) fn lines(&self) -> Vec<Arc<Awaited>> {
        let line = |check: &Check| match check {
            Check::Line(line) => Some(Arc::clone(line)),
            _ => None,
        };
        self.checks.iter().filter_map(line).collect()
    }

    /// Both.
    pub fn and(mut self, other: Ready) -> Ready {
        // Who asks for less than the default asks for it on purpose.
        if self.who == Who::Server {
            self.who = other.who;
        }
        self.checks.extend(other.checks);
        self
    }
}

/// What is looked at.
pub(super) struct Seen<'a> {
    pub(super) ports: &'a Ports,
    pub(super) output: &'a Output,
    /// By which a command that is run is known as the server's, if this process is killed meanwhile.
    pub(super) cookie: Option<&'a Cookie>,
    /// How much time is left to look.
    pub(super) left: Duration,
}

/// Which checks of one start have passed: each has to once.
#[derive(Debug)]
pub(super) struct Passed<'a> {
    /// Those that have not.
    checks: VecDeque<&'a Check>,
    /// What the first of them said last.
    said: Option<String>,
}

impl<'a> Passed<'a> {
    pub(super) fn none_of(ready: &'a Ready) -> Passed<'a> {
        Passed { checks: ready.checks.iter().collect(), said: None }
    }

    /// For one that was ready before: lines were printed then.
    pub(super) fn again(ready: &'a Ready) -> Passed<'a> {
        let is_line = |check: &&Check| matches!(check, Check::Line(_));
        let checks = ready.checks.iter().filter(|check| !is_line(check)).collect();
        Passed { checks, said: None }
    }

    /// Looks at those that have not passed, in their order, up to the first that does not pass now.
    ///
    /// # Errors
    ///
    /// What is missing, in words. If the time ran out that the start had left for the answer, what was
    /// missing before: that there was no answer in 0.2 s says less.
    pub(super) fn look(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        while let Some(check) = self.checks.front() {
            let start = Instant::now();
            if let Err(missing) = check.look(seen) {
                let time = seen.left.max(LAST_ATTEMPT);
                let was_cut_short = time < ATTEMPT && start.elapsed() >= time;
                return Err(match &self.said {
                    Some(said) if was_cut_short => said.clone(),
                    _ => self.said.insert(missing).clone(),
                });
            }
            self.checks.pop_front();
            self.said = None;
        }
        Ok(())
    }
}

impl Check {
    fn look(&self, Seen { ports, output, cookie, left }: &Seen<'_>) -> Result<(), String> {
        let at_most = (*left).clamp(LAST_ATTEMPT, ATTEMPT);
        match self {
            Check::Http { path, status } => http::get(ports.addr(), path, *status, at_most),
            Check::Line(line) => {
                let missing = || format!("it has not printed a line {}", line.which);
                output.has_printed(line).then_some(()).ok_or_else(missing)
            }
            Check::File(path) => {
                let path = ports.dir.name().join(path);
                path.exists().then_some(()).ok_or_else(|| format!("there is no {}", path.display()))
            }
            Check::Command(make) => {
                let mut make = make.lock().unwrap_or_else(PoisonError::into_inner);
                let mut command = make(ports);
                if let Some(cookie) = cookie {
                    command.env(cookie::VARIABLE, cookie.value());
                }
                command::run(&mut command, at_most)
            }
            Check::When { what, holds } => {
                holds(ports).then_some(()).ok_or_else(|| format!("it is not so that {what}"))
            }
        }
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Check::Http { path, status } => write!(f, "Http({path:?}, {status:?})"),
            Check::Line(line) => line.fmt(f),
            Check::File(path) => write!(f, "File({path:?})"),
            Check::Command(_) => f.write_str("Command"),
            Check::When { what, .. } => write!(f, "When({what})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    use super::super::dir::Dir;
    use super::*;

    #[test]
    fn who_has_to_answer_is_asked_of_either() {
        let who = |ready: Ready| ready.who;
        assert_eq!(who(Ready::listening().and(Ready::http("/"))), Who::Server);
        assert_eq!(who(Ready::connects().and(Ready::http("/"))), Who::Anybody);
        assert_eq!(who(Ready::http("/").and(Ready::connects())), Who::Anybody);
    }

    #[test]
    fn what_was_answered_is_said_when_there_is_no_time_for_another_answer() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen");
        let addr = listener.local_addr().expect("address");
        let dir = Arc::new(Dir::new());
        let ports = Ports { host: addr.ip(), main: addr.port(), named: Vec::new(), dir };
        let output = Output::new();
        let look = |passed: &mut Passed<'_>, left| {
            let seen = Seen { ports: &ports, output: &output, cookie: None, left };
            passed.look(&seen).expect_err("never ready")
        };
        let ready = Ready::http("/");
        let (mut never, mut once) = (Passed::none_of(&ready), Passed::none_of(&ready));
        let late = look(&mut never, Duration::ZERO);
        assert!(late.ends_with("no answer within 0.2 s"), "{late}");
        // After a connection that nobody answered.
        let answers = |listener: TcpListener, answer: &'static [u8]| {
            thread::spawn(move || {
                let (first, _) = listener.accept().expect("a connection");
                let (mut stream, _) = listener.accept().expect("another");
                let _ = stream.read(&mut [0; 1024]);
                stream.write_all(answer).expect("write");
                (listener, first)
            })
        };
        let server = answers(listener, b"HTTP/1.1 503 \r\n\r\n");
        let answered = look(&mut once, Duration::from_secs(60));
        assert!(answered.ends_with("status 503"), "{answered}");
        let (listener, _open) = server.join().expect("the server");
        assert_eq!(look(&mut once, Duration::ZERO), answered);
        let server = answers(listener, b"HTTP/1.1 404 \r\n\r\n");
        let later = look(&mut once, Duration::from_secs(60));
        assert!(later.ends_with("status 404"), "{later}");
        drop(server.join().expect("the server"));
    }
}
