//! When a server is ready: what can be asked for, and one look at whether it holds.

use std::collections::VecDeque;
use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::output::Output;
use super::ports::Ports;
use crate::cookie::{self, Cookie};
use crate::sys::{self, Signal};

/// How long one attempt at a connection, or one command, may take.
const ATTEMPT: Duration = Duration::from_secs(2);

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
    Line { what: String, matches: Arc<dyn Fn(&str) -> bool + Send + Sync> },
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
        let what = format!("that contains {text:?}");
        Ready::line_where(what, move |line| line.contains(&text))
    }

    /// It has printed a line about which `matches` is true. `which` completes "a line" in the error:
    /// "that ends in a number".
    pub fn line_where(
        which: impl Into<String>,
        matches: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> Ready {
        let check = Check::Line { what: which.into(), matches: Arc::new(matches) };
        Ready::new(Who::Server, Some(check))
    }

    /// There is a file, or a socket, of that name. A relative one is in the server's directory,
    /// [`Ports::dir`].
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
}

/// Which checks of one start have passed: each has to once.
#[derive(Debug)]
pub(super) struct Passed<'a> {
    /// Those that have not.
    checks: VecDeque<&'a Check>,
}

impl<'a> Passed<'a> {
    pub(super) fn none_of(ready: &'a Ready) -> Passed<'a> {
        Passed { checks: ready.checks.iter().collect() }
    }

    /// For one that was ready before: lines were printed then.
    pub(super) fn again(ready: &'a Ready) -> Passed<'a> {
        let is_line = |check: &&Check| matches!(check, Check::Line { .. });
        Passed { checks: ready.checks.iter().filter(|check| !is_line(check)).collect() }
    }

    /// Looks at those that have not passed, in their order, up to the first that does not pass now.
    ///
    /// # Errors
    ///
    /// What is missing, in words.
    pub(super) fn look(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        while let Some(check) = self.checks.front() {
            check.look(seen)?;
            self.checks.pop_front();
        }
        Ok(())
    }
}

impl Check {
    fn look(&self, Seen { ports, output, cookie }: &Seen<'_>) -> Result<(), String> {
        match self {
            Check::Http { path, status } => http(ports.addr(), path, *status),
            Check::Line { what, matches } => {
                let printed = output.lines().iter().any(|line| matches(line.text()));
                printed.then_some(()).ok_or_else(|| format!("it has not printed a line {what}"))
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
                run(&mut command)
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
            Check::Line { what, .. } => write!(f, "Line({what})"),
            Check::File(path) => write!(f, "File({path:?})"),
            Check::Command(_) => f.write_str("Command"),
            Check::When { what, .. } => write!(f, "When({what})"),
        }
    }
}

/// Whether somebody accepts connections at `addr`.
///
/// A connection whose ends are the same is the kernel's answer to a poll of a closed ephemeral
/// port: it had chosen that very port for our end.
pub(super) fn accepts(addr: SocketAddr) -> bool {
    connect(addr).is_some()
}

fn connect(addr: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect_timeout(&addr, Duration::from_millis(200)).ok()?;
    stream.local_addr().is_ok_and(|local| local != addr).then_some(stream)
}

/// How long the rest of an answer is waited for, and how much of it is read.
const REST: Duration = Duration::from_millis(50);
const MAX_REST: usize = 64 * 1024;

/// One request. Of the answer, only the status counts.
fn http(addr: SocketAddr, path: &str, expected: Option<u16>) -> Result<(), String> {
    let missing = |why: String| format!("GET http://{addr}{path}: {why}");
    let mut stream = connect(addr).ok_or_else(|| missing("no connection".to_owned()))?;
    let mut ask = || {
        stream.set_read_timeout(Some(ATTEMPT))?;
        stream.set_write_timeout(Some(ATTEMPT))?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {addr}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let mut start = [0; 12]; // "HTTP/1.1 200"
        stream.read_exact(&mut start)?;
        drain(&mut stream);
        Ok::<_, std::io::Error>(start)
    };
    let start = ask().map_err(|error| missing(error.to_string()))?;
    let status = std::str::from_utf8(&start).ok().and_then(|start| start.strip_prefix("HTTP/1."));
    let status = status.and_then(|rest| rest.get(2..)).filter(|rest| !rest.starts_with('+'));
    let status = status.and_then(|rest| rest.parse().ok());
    match (status, expected) {
        (Some(status), Some(expected)) if status == expected => Ok(()),
        (Some(200..=399), None) => Ok(()),
        (Some(status), Some(expected)) => Err(missing(format!("status {status}, not {expected}"))),
        (Some(status), None) => Err(missing(format!("status {status}"))),
        (None, _) => Err(missing("an answer that is not HTTP".to_owned())),
    }
}

/// Reads the rest of an answer: who closes before resets the connection, which not every server bears.
fn drain(stream: &mut TcpStream) {
    let start = Instant::now();
    let mut chunk = [0; 4 * 1024];
    let mut count = 0;
    while count < MAX_REST && stream.set_read_timeout(Some(REST)).is_ok() && start.elapsed() < REST
    {
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(size) => count += size,
        }
    }
}

/// Whether a command succeeds.
fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_owned();
    let missing = |why: String| format!("the command {program:?} {why}");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    sys::lead_own_group(command); // to end what it started, too
    let mut child = command.spawn().map_err(|error| missing(format!("does not start: {error}")))?;
    sys::wait_for_exit(&[child.id()], ATTEMPT);
    match child.try_wait() {
        Ok(Some(status)) if status.success() => Ok(()),
        Ok(Some(status)) => Err(missing(format!("ended with {status}"))),
        Ok(None) | Err(_) => {
            // Not reaped yet, its number still means its group.
            let _ = sys::signal_group(child.id(), Signal::Kill);
            sys::wait_for_exit(&[child.id()], ATTEMPT);
            let _ = child.try_wait();
            Err(missing(format!("has not ended within {ATTEMPT:?}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn a_listener_accepts_and_a_closed_port_does_not() {
        let lease = crate::lease().expect("lease");
        assert!(!accepts(lease.addr()));
        let _listener = lease.bind().expect("listen");
        assert!(accepts(lease.addr()));
    }

    fn check_http(answer: &'static [u8], expected: Option<u16>, missing: Option<&str>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let addr = listener.local_addr().expect("address");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accept");
            let mut request = [0; 1024];
            let size = stream.read(&mut request).expect("a request");
            stream.write_all(answer).expect("answer");
            String::from_utf8_lossy(&request[..size]).into_owned()
        });
        let result = http(addr, "/a?b", expected);
        let request = server.join().expect("server");
        assert!(
            request.starts_with(&format!("GET /a?b HTTP/1.1\r\nHost: {addr}\r\n")),
            "{request}"
        );
        let answer = String::from_utf8_lossy(answer);
        match (result, missing) {
            (Ok(()), None) => {}
            (Err(text), Some(missing)) => assert!(text.contains(missing), "{answer:?}: {text}"),
            (result, missing) => panic!("{answer:?}: {result:?} instead of {missing:?}"),
        }
    }

    #[test]
    fn answers_over_http() {
        check_http(b"HTTP/1.1 200 OK\r\n\r\n", None, None);
        check_http(b"HTTP/1.0 399 ?\r\n\r\n", None, None);
        check_http(b"HTTP/1.1 204 No Content\r\n\r\n", Some(204), None);
        check_http(b"HTTP/1.1 200 OK\r\n\r\n", Some(204), Some("status 200, not 204"));
        check_http(b"HTTP/1.1 503 Busy\r\n\r\n", None, Some("/a?b: status 503"));
        check_http(b"SSH-2.0-OpenSSH_9.2\r\n", None, Some("not HTTP"));
        check_http(b"HTTP/1.1 2", None, Some("fail"));
        check_http(b"HTTP/1.1 +20", None, Some("not HTTP"));
    }

    #[test]
    fn an_answer_is_read_to_its_end() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let addr = listener.local_addr().expect("address");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accept");
            let size = stream.read(&mut [0; 1024]).expect("a request");
            let answer = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(size * 100));
            stream.write_all(answer.as_bytes()).expect("answer");
            stream.shutdown(std::net::Shutdown::Write).expect("the end");
            stream.read(&mut [0; 1])
        });
        http(addr, "/", None).expect("an answer");
        assert_eq!(server.join().expect("server").expect("the connection was reset"), 0);
    }

    fn shell(script: &str) -> Result<(), String> {
        let (program, argument) = if cfg!(windows) { ("cmd", "/c") } else { ("/bin/sh", "-c") };
        let mut command = Command::new(program);
        command.args([argument, script]);
        run(&mut command)
    }

    #[test]
    fn commands() {
        assert_eq!(shell("exit 0"), Ok(()));
        let status = if cfg!(windows) { "exit code: 3" } else { "exit status: 3" };
        assert!(shell("exit 3").is_err_and(|why| why.contains(status)));
        assert!(run(&mut Command::new("/no/such")).is_err_and(|why| why.contains("not start")));
    }

    #[cfg(target_os = "linux")] // where somebody looks whether it is gone
    #[test]
    fn a_command_that_hangs_is_ended_with_what_it_started() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("pid");
        let both = format!("sleep 1000 & echo $! >{}; sleep 1000", file.display());
        assert!(shell(&both).is_err_and(|why| why.contains("has not ended within 2s")));
        let worker = std::fs::read_to_string(file).expect("a file").trim().parse().expect("a pid");
        sys::wait_for_exit(&[worker], Duration::from_secs(60));
        let state = std::fs::read_to_string(format!("/proc/{worker}/stat")).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "its worker lives: {state}");
    }
}
