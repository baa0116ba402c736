//! One start, as a test does it: pick, wait for the server to come up, ask it, stop it.
//!
//! Server and client are one thread: a connection is complete once it is in the server's queue, so the
//! client connects first and the server accepts afterwards. The server answers everybody, and closes first,
//! as HTTP/1.0 does; so what is left in TIME_WAIT is on its port, where real servers leave it too.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use portlease_peers::crew;
use portlease_peers::peers::Peer;

use crate::count::Count;

/// How long a client waits for an answer. Long, since on a busy machine nobody may come to run for a second.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whom the client heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Own,
    Stranger,
    Nobody,
}

/// What became of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    NoPort,
    NotBound(Answer),
    Bound(Answer),
}

/// The role of a process that starts many, one after the other, and prints how often what happened.
pub(crate) fn many(arguments: &[&str]) {
    let [name, picks, millis, alive] = arguments else { panic!("start {arguments:?}") };
    let number = |text: &str| text.parse::<u64>().expect("a number");
    let (peer, picks) = (Peer::named(name), number(picks));
    let (at_most, alive) = (Duration::from_millis(number(millis)), number(alive));
    crew::wait_for_go();
    let begin = Instant::now();
    let mut count = Count::default();
    while count.starts < picks && begin.elapsed() < at_most {
        count.add(one(peer, &format!("{} {}", process::id(), count.starts), alive));
    }
    println!("{count}");
}

fn one(peer: Peer, own_name: &str, alive: u64) -> Outcome {
    let Some(picked) = peer.pick() else { return Outcome::NoPort };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, picked.port));
    thread::sleep(Duration::from_millis(20 + chance(31)));
    // std sets SO_REUSEADDR, as servers do.
    match TcpListener::bind(address) {
        Ok(listener) => Outcome::Bound(serve(&listener, address, own_name, alive)),
        // The test does not know, and waits for its server to answer; whoever does.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Outcome::NotBound(ask(address, own_name, || {}))
        }
        Err(error) => panic!("bind {address}: {error}"),
    }
}

/// Asks the server, and lets it live on for so many milliseconds, in which it answers others.
fn serve(listener: &TcpListener, address: SocketAddr, own_name: &str, alive: u64) -> Answer {
    listener.set_nonblocking(true).expect("a mode");
    let answer_all = || {
        while let Ok((mut client, _)) = listener.accept() {
            let _ = client.write_all(own_name.as_bytes()); // it may be gone
        }
    };
    let answer = ask(address, own_name, answer_all);
    for _ in 0..alive {
        thread::sleep(Duration::from_millis(1));
        answer_all();
    }
    answer
}

/// Connects, and hears who is there; meanwhile does `work`.
fn ask(address: SocketAddr, own_name: &str, work: impl Fn()) -> Answer {
    let deadline = Instant::now() + PATIENCE;
    let Ok(mut client) = TcpStream::connect_timeout(&address, PATIENCE) else {
        return Answer::Nobody;
    };
    if client.local_addr().is_ok_and(|own| own == address) {
        return Answer::Nobody; // connected to itself, which TCP allows
    }
    client.set_nonblocking(true).expect("a mode");
    let mut heard = Vec::new();
    loop {
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

/// A number below `bound`, any.
fn chance(bound: u64) -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock");
    u64::from(now.subsec_nanos()) / 7 % bound
}
