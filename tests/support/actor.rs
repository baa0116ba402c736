//! A process of the adversity campaign (`tests/adversity`): a random program of leases and servers. While it
//! has a port it says so, and waits to be answered: meanwhile others look.
//!
//! Descriptors may be short, and system calls fail, so nothing of its own may fail it: what it says and
//! counts, it tries again.

use std::env;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpListener;
use std::ops::RangeInclusive;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use portlease::{Error, Group, Lease, LeaseBuilder, Registry, Server, ServerBuilder};

use super::dice::Dice;

/// For what has to happen.
const DEADLINE: Duration = Duration::from_secs(60);

/// Both ends of the talk with who started this process. Not std's own, whose buffer a failed write
/// leaves in any state.
pub(super) struct Talk {
    out: File,
    answers: BufReader<File>,
}

impl Talk {
    pub(super) fn new() -> Talk {
        let out = again(|| io::stdout().as_fd().try_clone_to_owned());
        let answers = again(|| io::stdin().as_fd().try_clone_to_owned());
        Talk { out: File::from(out), answers: BufReader::new(File::from(answers)) }
    }

    pub(super) fn say(&mut self, line: impl Display) {
        let line = format!("{line}\n");
        again(|| match self.out.write_all(line.as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => process::exit(0), // nobody listens
            written => written,
        });
    }

    /// Waits for the answer to what was said.
    pub(super) fn answer(&mut self) -> String {
        let mut line = String::new();
        if again(|| self.answers.read_line(&mut line)) == 0 {
            process::exit(0); // nobody will answer
        }
        line.trim_end().to_owned()
    }

    /// Says that it failed, and how. Whether it may have, is judged elsewhere.
    pub(super) fn error(&mut self, operation: &str, error: &Error) {
        let text = format!("{error:?}").replace('\n', " | ");
        self.say(format_args!("error {operation} {:?} {text}", error.kind()));
    }
}

/// What a failing system call cannot prevent for ever.
fn again<T>(mut f: impl FnMut() -> io::Result<T>) -> T {
    let start = Instant::now();
    loop {
        match f() {
            Ok(result) => return result,
            Err(error) => assert!(start.elapsed() < DEADLINE, "{error}"),
        }
    }
}

/// What this process has open, and its threads.
pub(super) fn belongings() -> (usize, usize) {
    let count = |dir| again(|| fs::read_dir(dir)).count();
    (count("/proc/self/fd"), count("/proc/self/task"))
}

/// Says so if there is more than there was: threads that read a server's output may take a moment.
pub(super) fn check_belongings(talk: &mut Talk, before: (usize, usize)) {
    let start = Instant::now();
    while belongings() != before {
        if start.elapsed() > DEADLINE {
            let left = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
            let left: Vec<_> = left.map(|link| fs::read_link(link.path())).collect();
            let after = belongings();
            return talk.say(format_args!("left {before:?} became {after:?}: {left:?}"));
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Where it leases ports.
pub(super) struct Place<'a> {
    pub(super) dir: &'a Path,
    pub(super) ports: RangeInclusive<u16>,
}

/// Does `steps` things by `seed`, and gives a server `patience` to start.
pub(super) fn act(place: Place<'_>, seed: u64, steps: u32, patience: Duration) {
    let mut talk = Talk::new();
    talk.say(format_args!("actor {}", process::id()));
    let before = belongings();
    let mut dice = Dice::new(seed);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        if dice.one_in(4) {
            // Its children have copies of all that is open, until they exec.
            let spawns = || {
                while !is_over.load(Ordering::Relaxed) {
                    let _ = Command::new("/bin/true").stderr(Stdio::null()).status();
                    thread::sleep(Duration::from_millis(1));
                }
            };
            let _ = thread::Builder::new().spawn_scoped(scope, spawns);
        }
        match Registry::open(place.dir) {
            Ok(registry) => {
                let ports = place.ports;
                let mut actor = Actor { registry, ports, patience, dice, talk: &mut talk };
                (0..steps).for_each(|_| actor.step());
            }
            Err(error) => talk.error("open", &error),
        }
        is_over.store(true, Ordering::Relaxed);
    });
    check_belongings(&mut talk, before);
    talk.say("done");
}

struct Actor<'a> {
    registry: Registry,
    ports: RangeInclusive<u16>,
    patience: Duration,
    dice: Dice,
    talk: &'a mut Talk,
}

impl Actor<'_> {
    fn step(&mut self) {
        match self.dice.below(16) {
            0..6 => self.leases("lease", |request, _| request.lease().map(|lease| vec![lease])),
            6..8 => self.leases("exact", |request, ports| request.lease_exact(&ports[..1])),
            8 => self.leases("exact", |request, ports| request.lease_exact(ports)),
            9 => self.leases("lease", |request, ports| request.lease_many(ports.len())),
            10 => self.leases("lease", |request, ports| request.lease_block(ports.len() as u16)),
            11..14 => self.server(),
            14 => self.group(),
            _ => self.look(),
        }
    }

    /// `None`: there is none, and it was said why.
    fn had<T>(&mut self, operation: &str, result: Result<T, Error>) -> Option<T> {
        match &result {
            Ok(_) => self.talk.say(format_args!("did {operation}")),
            Err(error) => self.talk.error(operation, error),
        }
        result.ok()
    }

    fn request(&mut self) -> LeaseBuilder {
        let mut request = Lease::builder().registry(&self.registry).range(self.ports.clone());
        if self.dice.one_in(4) {
            request = request.wait(self.dice.millis(50));
        }
        if self.dice.one_in(4) {
            request = request.label("adversity");
        }
        if self.dice.one_in(8) { request.udp() } else { request }
    }

    /// Some different ones.
    fn some_ports(&mut self) -> Vec<u16> {
        let mut ports: Vec<u16> = self.ports.clone().collect();
        let count = 1 + self.dice.below(3) as usize;
        for place in 0..count {
            let rest = (ports.len() - place) as u64;
            ports.swap(place, place + self.dice.below(rest) as usize);
        }
        ports.truncate(count);
        ports
    }

    fn leases(
        &mut self,
        operation: &str,
        take: impl Fn(LeaseBuilder, &[u16]) -> Result<Vec<Lease>, Error>,
    ) {
        let (request, ports) = (self.request(), self.some_ports());
        let Some(leases) = self.had(operation, take(request, &ports)) else { return };
        self.hold(&leases);
        for lease in leases {
            match self.dice.one_in(2) {
                true => drop(lease),
                false => _ = self.had("release", lease.release()),
            }
        }
    }

    /// Has the ports, and then listens on them as a server would, each time until somebody has looked.
    fn hold(&mut self, leases: &[Lease]) {
        let ports: Vec<_> = leases.iter().map(Lease::to_string).collect();
        let ports = ports.join(" ");
        self.talk.say(format_args!("holds {ports}"));
        self.talk.answer();
        let mut listeners = Vec::new();
        for lease in leases {
            listeners.extend(self.had("bind", lease.bind()));
        }
        if listeners.len() == leases.len() {
            self.talk.say(format_args!("listens {ports}"));
            if self.talk.answer() == "who" {
                // Who asked is connected already.
                listeners.iter().for_each(|listener| self.tell_who(listener));
            }
        }
        thread::sleep(self.dice.millis(20));
    }

    /// Somebody else may come too, who looks for one that was killed while it had the port.
    fn tell_who(&mut self, listener: &TcpListener) {
        let question = format!("who {}\n", process::id());
        loop {
            let mut stream = again(|| listener.accept()).0;
            let mut asked = String::new();
            let _ = BufReader::new(&stream).read_line(&mut asked);
            if asked == question {
                let _ = stream.write_all(format!("{}\n", process::id()).as_bytes());
                self.talk.say("told");
                self.talk.answer(); // read: and reset, or this end is the first to be closed
                return;
            }
        }
    }

    fn server(&mut self) {
        let way = *self.dice.one_of(&["told", "stubborn", "reported", "observed", "inherited"]);
        let mut builder = match way {
            "told" => Server::with(|ports| {
                ports.write_file("in/a/directory", "of its own");
                serves(&["serve", &ports.main().to_string()])
            }),
            "stubborn" => {
                Server::builder(shell("trap '' TERM; exec \"$0\" serve")).env_port("PORT")
            }
            "reported" => Server::builder(serves(&["serve"])).report_port(),
            "observed" => Server::builder(serves(&["serve"])).observe_port(),
            _ => Server::builder(shell("exec \"$0\" serve-inherited <&3")).inherit_port(),
        };
        let is_leased = matches!(way, "told" | "stubborn" | "inherited");
        if is_leased {
            let request = self.request();
            let Some(lease) = self.had("lease", request.lease()) else { return };
            builder = builder.lease(lease);
        }
        if self.dice.one_in(2) {
            builder = builder.stop_grace(self.dice.millis(200));
        }
        let Some(mut server) = self.start(builder) else { return };
        self.serves(&[&server], is_leased);
        if self.dice.one_in(4) {
            if self.had("restart", server.restart()).is_none() {
                return;
            }
            self.serves(&[&server], is_leased);
        }
        match self.dice.one_in(4) {
            true => drop(server),
            false => _ = self.had("stop", server.stop()),
        }
    }

    fn start(&mut self, builder: ServerBuilder) -> Option<Server> {
        let started = builder.start_timeout(self.patience).start();
        self.had("start", started)
    }

    fn serves(&mut self, servers: &[&Server], is_leased: bool) {
        let how = if is_leased { "leased" } else { "chosen" };
        let each = servers.iter().map(|server| format!("{}:{}", server.port(), server.pid()));
        self.talk.say(format_args!("serves {how} {}", each.collect::<Vec<_>>().join(" ")));
        self.talk.answer();
    }

    fn group(&mut self) {
        let patience = self.patience;
        let serves = move || {
            let builder = Server::builder(serves(&["serve"])).report_port();
            Ok(builder.start_timeout(patience))
        };
        let group = Group::builder().server("db", &[], move |_| serves());
        let group = group.server("api", &["db"], move |_| serves()).start();
        let Some(group) = self.had("start", group) else { return };
        let servers: Vec<_> = group.servers().map(|(_, server)| server).collect();
        self.serves(&servers, false);
        self.had("stop", group.stop());
    }

    fn look(&mut self) {
        match self.dice.below(3) {
            0 => _ = self.had("list", self.registry.list()),
            1 => _ = self.had("orphans", portlease::orphans()),
            _ => _ = self.had("reap", portlease::reap()),
        }
    }
}

pub(super) fn serves(role: &[&str]) -> Command {
    let mut command = Command::new(again(env::current_exe));
    command.args(role);
    command
}

/// A script in which `"$0"` is this program.
pub(super) fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).arg(again(env::current_exe));
    command
}
