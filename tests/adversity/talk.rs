//! What a process says, and whether it is so. It keeps what it has until it is answered: so what is seen
//! meanwhile has to be as it said, on however slow a machine, unless it was killed.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use portlease::{Cause, Holder};
use socket2::SockRef;

use crate::kinds::{Amiss, may_be};
use crate::lot::Lot;
use crate::plot::Victim;
use crate::support::dice::Dice;
use crate::support::{DEADLINE, OwnRegistry, TestChild};
use crate::tally::Tally;
use crate::witness;
use crate::world::World;

/// A server that a process has said to have.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) port: u16,
    pub(crate) pid: u32,
    pub(crate) is_leased: bool,
}

/// What is not as it should be, if the process was not killed.
pub(crate) type Problem = String;

pub(crate) struct Talk<'a> {
    pub(crate) world: &'a World,
    pub(crate) own: &'a OwnRegistry,
    pub(crate) lot: Lot,
    pub(crate) child: &'a mut TestChild,
    pub(crate) victim: &'a Arc<Victim>,
    pub(crate) says: Sender<()>,
    pub(crate) dice: &'a mut Dice,
    pub(crate) tally: &'a Tally,
}

impl Talk<'_> {
    /// The servers that it had when it ended, and what was wrong.
    pub(crate) fn listen(&mut self) -> (Vec<Served>, Result<(), Problem>) {
        let mut served = Vec::new();
        loop {
            let outcome = match self.line() {
                Ok(line) if line == "done" => return (Vec::new(), Ok(())),
                Ok(line) => self.hear(&line, &mut served),
                Err(problem) => Err(problem),
            };
            if outcome.is_err() {
                return (served, outcome);
            }
        }
    }

    fn line(&mut self) -> Result<String, Problem> {
        let line = self.child.line().ok_or("it ended, or said nothing for too long")?;
        let _ = self.says.send(()); // nobody listens any more once it is doomed
        Ok(line)
    }

    fn answer(&mut self, word: &str) -> Result<(), Problem> {
        let stdin = self.child.stdin.as_mut().ok_or("it has no standard input")?;
        writeln!(stdin, "{word}").map_err(|error| format!("it hears nothing: {error}"))
    }

    fn hear(&mut self, line: &str, served: &mut Vec<Served>) -> Result<(), Problem> {
        let (word, rest) = line.split_once(' ').ok_or(line)?;
        served.clear(); // it has gone on
        match word {
            "did" => self.tally.count(format!("{rest}: done")),
            "error" => self.judge(rest)?,
            "holds" => {
                let ports = parse_ports(rest);
                self.claim(&ports)?;
                self.tally.add("leases, looked at while they were held", ports.len() as u64);
                let over = ports.iter().filter(|&&port| witness::is_in_time_wait(port));
                self.tally.add("leases over TIME_WAIT", over.count() as u64);
                self.look_all_along(|talk| talk.look_at_leases(&ports))?;
                if !self.killed_now() {
                    self.let_go_on("go")?;
                }
            }
            "listens" => {
                let ports = parse_ports(rest);
                self.claim(&ports)?;
                self.ask_who(&ports)?;
            }
            "serves" => {
                *served = parse_served(rest);
                self.claim_of_servers(served)?;
                self.tally.add("servers that said who they are", served.len() as u64);
                let ends = served.iter().map(|server| End::drawn(self.dice, server.port));
                let servers: Vec<_> = served.iter().zip(ends.collect::<Vec<_>>()).collect();
                let look = |talk: &Talk<'_>| {
                    servers.iter().try_for_each(|&(server, end)| talk.look_at_server(server, end))
                };
                self.look_all_along(look)?;
                if !(self.world.is_harsh() && self.killed_now()) {
                    self.let_go_on("go")?;
                }
            }
            _ => return Err(line.to_owned()),
        }
        Ok(())
    }

    fn claim(&self, ports: &[u16]) -> Result<(), Problem> {
        ports.iter().try_for_each(|&port| self.world.claims.claim(port, self.victim, None))
    }

    /// Of those that are leased; where the lock is kept, until the server is gone.
    fn claim_of_servers(&self, servers: &[Served]) -> Result<(), Problem> {
        servers.iter().filter(|server| server.is_leased).try_for_each(|server| {
            let keeper = self.world.keeps_orphans().then_some(server.pid);
            self.world.claims.claim(server.port, self.victim, keeper)
        })
    }

    /// Answers, after which it may have no port any more.
    fn let_go_on(&mut self, word: &str) -> Result<(), Problem> {
        self.world.claims.give_up(self.victim);
        self.answer(word)
    }

    fn judge(&mut self, error: &str) -> Result<(), Problem> {
        let mut words = error.splitn(3, ' ');
        let (operation, kind) = (words.next().unwrap(), words.next().unwrap());
        self.tally.count(format!("{operation}: failed, {kind}"));
        match may_be(operation, kind, self.lot.amiss(self.world)) {
            true => Ok(()),
            false => Err(format!("`{operation}` may not fail so: {error}")),
        }
    }

    /// Kills it now and then, while it has something.
    fn killed_now(&mut self) -> bool {
        let now = self.dice.one_in(16);
        if now {
            self.victim.kill();
            self.tally.count("SIGKILL of a holder");
        }
        now
    }

    /// Looks once; or one time in eight, again and again while it is stopped.
    fn look_all_along(
        &mut self,
        look: impl Fn(&Self) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        if !self.dice.one_in(8) {
            return look(self);
        }
        let end = Instant::now() + Duration::from_millis(50) + self.dice.millis(250);
        self.victim.while_stopped(|| {
            let mut looks = 0;
            while looks == 0 || Instant::now() < end {
                look(self)?;
                looks += 1;
                thread::sleep(Duration::from_millis(5));
            }
            self.tally.count("SIGSTOP of a holder, looked at all along");
            self.tally.add("looks at a holder that is stopped", looks);
            Ok(())
        })
    }

    /// By the registry, and from outside.
    fn look_at_leases(&self, ports: &[u16]) -> Result<(), Problem> {
        let leased = self.leased();
        for &port in ports {
            let holder = leased.iter().find(|holder| holder.port() == port);
            match holder {
                None if self.world.keeps_slots() => return Err(format!("{port} is not leased")),
                Some(holder) if self.is_on_record() && holder.pid() != Some(self.victim.pid) => {
                    return Err(format!("{port} is said to be leased by {holder}"));
                }
                _ => {}
            }
            self.look_from_outside(port)?;
        }
        Ok(())
    }

    /// Who has which port, if the registry can be relied on.
    fn leased(&self) -> Vec<Holder> {
        if self.world.keeps_slots() { self.own.registry.list().unwrap() } else { Vec::new() }
    }

    /// By the slot's lock, and by exclusive binds.
    fn look_from_outside(&self, port: u16) -> Result<(), Problem> {
        if self.world.keeps_slots() {
            witness::is_locked(&self.own.path(), port)?;
        }
        witness::is_refused(port, true)
    }

    /// Whether it wrote down for sure that it took its leases.
    fn is_on_record(&self) -> bool {
        self.world.is_sound() && !matches!(self.lot, Lot::Failing(..))
    }

    /// Asks on each port who is there.
    fn ask_who(&mut self, ports: &[u16]) -> Result<(), Problem> {
        let diagnosis = portlease::diagnose(ports[0]);
        if diagnosis.cause() != Cause::Listening {
            return Err(format!("it listens on {}, but: {diagnosis}", ports[0]));
        }
        // Which takes a descriptor, and calls that may not fail.
        if self.lot.lacks_something() {
            return self.let_go_on("go");
        }
        let refused = |error| format!("{ports:?}: it does not listen: {error}");
        let question = format!("who {}\n", self.victim.pid);
        let ends: Vec<_> = ports.iter().map(|&port| End::drawn(self.dice, port)).collect();
        let asked = ports.iter().zip(&ends);
        let streams: io::Result<Vec<_>> =
            asked.map(|(&port, &end)| connect(port, &question, end)).collect();
        let streams = streams.map_err(refused)?;
        self.answer("who")?;
        let last = ports.last();
        for ((port, stream), end) in ports.iter().zip(streams).zip(ends) {
            let mut who = String::new();
            let read = BufReader::new(&stream).read_line(&mut who);
            read.map_err(|error| format!("nobody answers at {port}: {error}"))?;
            if who.trim_end() != self.victim.pid.to_string() {
                return Err(format!("{who:?} answers at {port}"));
            }
            match self.line()?.as_str() {
                "told" => {}
                other => return Err(other.to_owned()),
            }
            self.tally.count("listeners that said who they are");
            let usual = match end {
                End::Reset => None, // as it is dropped
                End::Usual => Some(stream),
            };
            match Some(port) == last {
                true => self.let_go_on("read")?,
                false => self.answer("read")?,
            }
            if let Some(mut stream) = usual {
                let _ = stream.read(&mut [0]); // until its other end is closed
            }
        }
        Ok(())
    }

    fn look_at_server(&self, server: &Served, end: End) -> Result<(), Problem> {
        let Served { port, is_leased, .. } = *server;
        let is_known = || self.leased().iter().any(|holder| holder.port() == port);
        if is_leased && self.world.keeps_slots() && !is_known() {
            return Err(format!("{server:?} has no lease"));
        }
        // One that found its port in use, by the server of one who was killed, was started again without the hold.
        if is_leased && self.world.amiss() != Amiss::Everything {
            self.look_from_outside(port)?;
        }
        server.answers(end)
    }
}

impl Served {
    /// That it, and nobody else, answers on its port.
    pub(crate) fn answers(&self, end: End) -> Result<(), Problem> {
        let who = who_serves(self.port, end)
            .map_err(|error| format!("{self:?} does not answer: {error}"))?;
        match who == self.pid.to_string() {
            true => Ok(()),
            false => Err(format!("{who:?} answers in the place of {self:?}")),
        }
    }
}

pub(crate) fn parse_ports(text: &str) -> Vec<u16> {
    text.split(' ').map(|port| port.parse().unwrap()).collect()
}

/// `leased 20000:4242 20001:4243`
pub(crate) fn parse_served(text: &str) -> Vec<Served> {
    let (how, servers) = text.split_once(' ').unwrap();
    let server = |server: &str| {
        let (port, pid) = server.split_once(':').unwrap();
        Served {
            port: port.parse().unwrap(),
            pid: pid.parse().unwrap(),
            is_leased: how == "leased",
        }
    };
    servers.split(' ').map(server).collect()
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By a reset: no TIME_WAIT is left of it.
    Reset,
    /// As usual, the other end first: on that, which is on the port, TIME_WAIT is left for a minute.
    Usual,
}

impl End {
    /// Of ports with an odd number, no TIME_WAIT is ever left, for else it would soon be on all of them.
    fn drawn(dice: &mut Dice, port: u16) -> End {
        if port % 2 == 0 && dice.one_in(4) { End::Usual } else { End::Reset }
    }
}

/// A connection on which that is asked.
fn connect(port: u16, question: &str, end: End) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.write_all(question.as_bytes())?;
    stream.set_read_timeout(Some(DEADLINE))?;
    let linger = (end == End::Reset).then_some(Duration::ZERO);
    SockRef::from(&stream).set_linger(linger)?;
    Ok(stream)
}

/// As `support::who_answers`, of a server that may be killed meanwhile.
fn who_serves(port: u16, end: End) -> io::Result<String> {
    let mut stream = connect(port, "GET / HTTP/1.0\r\n\r\n", end)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.rsplit('\n').next().unwrap_or_default().to_owned())
}
