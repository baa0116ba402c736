//! One start, as a test does it: pick, ask until the server has come up, stop it.
//!
//! Server and client are one thread: until the server binds, it has nothing to do, and the client asks; then a
//! connection is complete once it is in the server's queue, so the client connects first and the server accepts
//! afterwards.
//!
//! Whoever answers is taken for the test's server, as by all who wait for a port by connecting to it. So the first
//! answer counts, though the server may have its port later.
//!
//! A server that closes first, as HTTP/1.0 does, leaves its port in TIME_WAIT for a minute. At hundreds of starts
//! in a second nearly all ports are in it soon, and `bind(0)`, which avoids them, finds the same few for
//! everybody: 7 % of its servers could not bind, where else 0.1 % cannot. No CI job is so fast. So that is
//! measured for itself, by `--time-wait`; else the client resets the connection, and nothing is left of it.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use portlease_peers::crew;
use portlease_peers::peers::Peer;
use socket2::SockRef;

use crate::count::Count;

/// How long a client waits for an answer. Long, since on a busy machine nobody may come to run for a second.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long it lets pass between two attempts.
const PAUSE: Duration = Duration::from_millis(5);

/// Whom the client heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Own,
    Stranger,
    Nobody,
}

impl Answer {
    /// The first one counts: who was answered asks no more.
    fn or_else(self, late: impl FnOnce() -> Answer) -> Answer {
        if self == Answer::Nobody { late() } else { self }
    }
}

/// What became of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    NoPort,
    NotBound(Answer),
    Bound(Answer),
}

/// How a process starts its servers.
#[derive(Debug)]
struct Starts {
    peer: Peer,
    /// How long a server lives on after it was asked, in milliseconds.
    alive: u64,
    time_wait: bool,
}

/// The role of a process that starts many, one after the other, and prints how often what happened.
pub(crate) fn many(arguments: &[&str]) {
    let [name, picks, millis, alive, time_wait] = arguments else { panic!("start {arguments:?}") };
    let number = |text: &str| text.parse::<u64>().expect("a number");
    let (picks, at_most) = (number(picks), Duration::from_millis(number(millis)));
    let time_wait = time_wait.parse().expect("true or false");
    let starts = Starts { peer: Peer::named(name), alive: number(alive), time_wait };
    crew::wait_for_go();
    let begin = Instant::now();
    let mut count = Count::default();
    while count.starts < picks && begin.elapsed() < at_most {
        count.add(starts.one(&format!("{} {}\n", process::id(), count.starts)));
    }
    println!("{count}");
}

impl Starts {
    /// Of a server that answers with `own_name`, a line.
    fn one(&self, own_name: &str) -> Outcome {
        let Some(picked) = self.peer.pick() else { return Outcome::NoPort };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, picked.port));
        let up_at = Instant::now() + Duration::from_millis(20 + chance(31));
        let early = self.poll(address, own_name, up_at);
        // std sets SO_REUSEADDR, as servers do.
        match TcpListener::bind(address) {
            Ok(listener) => {
                let late = self.serve(&listener, own_name);
                Outcome::Bound(early.or_else(|| late))
            }
            // The test does not know, and waits for its server to answer; whoever does.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let deadline = Instant::now() + PATIENCE;
                Outcome::NotBound(early.or_else(|| self.ask(address, own_name, deadline, || {})))
            }
            Err(error) => panic!("bind {address}: {error}"),
        }
    }

    /// What the client does until the server is up.
    fn poll(&self, address: SocketAddr, own_name: &str, up_at: Instant) -> Answer {
        let left = || up_at.saturating_duration_since(Instant::now());
        let mut answer = Answer::Nobody;
        while !left().is_zero() {
            thread::sleep(PAUSE.min(left()));
            answer = answer.or_else(|| self.ask(address, own_name, up_at, || {}));
        }
        answer
    }

    /// The server is asked, and lives on for a while, in which it answers others.
    fn serve(&self, listener: &TcpListener, own_name: &str) -> Answer {
        listener.set_nonblocking(true).expect("a mode");
        let clients = RefCell::new(Vec::new());
        let answer_all = || {
            while let Ok((mut client, _)) = listener.accept() {
                let _ = client.write_all(own_name.as_bytes()); // it may be gone
                if !self.time_wait {
                    clients.borrow_mut().push(client); // who ends the connection
                }
            }
        };
        let address = listener.local_addr().expect("an address");
        let answer = self.ask(address, own_name, Instant::now() + PATIENCE, answer_all);
        for _ in 0..self.alive {
            thread::sleep(Duration::from_millis(1));
            answer_all();
        }
        answer
    }

    /// The client connects, and hears who is there; meanwhile does `work`.
    fn ask(
        &self,
        address: SocketAddr,
        own_name: &str,
        deadline: Instant,
        work: impl Fn(),
    ) -> Answer {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Answer::Nobody;
        }
        let Ok(mut client) = TcpStream::connect_timeout(&address, left) else {
            return Answer::Nobody;
        };
        if !self.time_wait {
            let _ = SockRef::from(&client).set_linger(Some(Duration::ZERO));
        }
        if client.local_addr().is_ok_and(|own| own == address) {
            return Answer::Nobody; // connected to itself, which TCP allows
        }
        client.set_nonblocking(true).expect("a mode");
        let mut heard = Vec::new();
        while !heard.ends_with(b"\n") {
            work();
            let mut part = [0; 64];
            match client.read(&mut part) {
                Ok(0) => break,
                Ok(length) => heard.extend_from_slice(&part[..length]),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => break,
                Err(_) if Instant::now() > deadline => break,
                Err(_) => thread::sleep(Duration::from_micros(50)),
            }
        }
        match &heard[..] {
            [] => Answer::Nobody,
            heard if heard == own_name.as_bytes() => Answer::Own,
            _ => Answer::Stranger,
        }
    }
}

/// A number below `bound`, any.
fn chance(bound: u64) -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock");
    u64::from(now.subsec_nanos()) / 7 % bound
}
