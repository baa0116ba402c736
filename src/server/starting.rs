//! From the spawn of a server until it is ready.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::choice::{Choice, Chooser, Evidence};
use super::complaining::Complaining;
use super::config::Config;
use super::identity::{self, Listening};
use super::inherit::Probes;
use super::look::Look;
use super::output::LAST_LINES;
use super::process::End;
use super::ready::{self, Passed, Seen, Who};
use super::report::{Found, Rank, Reports};
use super::running::Running;
use super::slow::Slow;
use super::way::{Source, Way};
use super::{failure, say};
use crate::diagnose;
use crate::diagnosis::Diagnosis;
use crate::error::{Error, Result};
use crate::sys::{self, Protocol};

/// The shortest and the longest pause between two looks, and which part of the time that has passed
/// it is: who starts fast is looked at often, and nobody costs more than some percent of a CPU.
const MIN_PAUSE: Duration = Duration::from_micros(500);
const MAX_PAUSE: Duration = Duration::from_millis(20);
const PAUSE_PART: u32 = 50;

/// A pause is as long as the look before it, up to this: a hundred starts at once would keep a machine
/// busy by looking, and so keep their servers from starting.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// How long a stranger must be seen in the server's place. A process of ours may look like one while
/// it is between two parents.
const STRANGER_PATIENCE: Duration = Duration::from_millis(250);

/// Why a server is not ready.
enum Missing {
    /// In words.
    This(String),
    /// What takes a file descriptor to be seen, of which none is left. In words.
    Blind(String),
    /// It does not listen where it should. In words.
    Listener(String),
    /// What waiting does not mend. In words.
    Certainly(String),
    Stranger(String),
}

impl Running {
    /// Waits until the server is ready. A port that it chooses itself is learned here.
    pub(super) fn wait_until_ready(&mut self, config: &Config) -> Result<()> {
        let mut passed = Passed::none_of(&config.ready);
        let mut chooser = Chooser::default();
        let mut probes = Probes::default();
        let mut complaining = Complaining::default();
        let start = Instant::now();
        let mut slow = Slow::default();
        let mut stranger_since = None;
        loop {
            let seen = self.output.progress();
            if let Some(end) = self.process.end() {
                return Err(self.ended(config, end));
            }
            let before = start.elapsed();
            let chosen = self.look_for_port(config, &mut chooser, before);
            let left = config.start_timeout.saturating_sub(before);
            let looked = chosen.and_then(|()| self.look(config, &mut probes, &mut passed, left));
            let missing = match looked {
                Ok(()) => {
                    self.reports = self.said(config);
                    self.output.read_for_nothing();
                    // A daemon's first process may have ended meanwhile.
                    return self.process.end().map_or(Ok(()), |end| Err(self.ended(config, end)));
                }
                Err(missing) => missing,
            };
            let elapsed = start.elapsed();
            let missing = match missing {
                Missing::Certainly(why) => return Err(failure::ambiguous(&self.name, &why)),
                Missing::This(missing) | Missing::Blind(missing) => {
                    stranger_since = None;
                    missing
                }
                Missing::Listener(missing) => {
                    stranger_since = None;
                    // Only where it is said: it is a look at all processes.
                    let is_said = slow.is_due(elapsed) || elapsed >= config.start_timeout;
                    missing + &if is_said { self.listens_elsewhere(config) } else { String::new() }
                }
                Missing::Stranger(who) => {
                    let since = *stranger_since.get_or_insert(elapsed);
                    if elapsed - since >= STRANGER_PATIENCE {
                        let diagnosis = self.whose_port();
                        return Err(failure::stranger(&self.name, &who, diagnosis));
                    }
                    format!("another listens there, process {who}")
                }
            };
            // The socket that it inherits is in its own way, if it does not take it.
            if !config.inherits() {
                let Running { ports, process, output, .. } = self;
                let output_is_open = !output.has_ended(Duration::ZERO);
                let others_on = |port| identity::others_on(process, port, output_is_open);
                let complained = complaining.look(output, ports, elapsed, others_on);
                if let Some(diagnosis) = complained {
                    return Err(failure::complained(&self.name, diagnosis));
                }
            }
            if config.called_off.load(Ordering::Relaxed) {
                return Err(failure::called_off(&self.name, self.ports.main));
            }
            if elapsed >= config.start_timeout {
                let (name, port, timeout) = (&self.name, self.ports.main, config.start_timeout);
                let output_is_open = !self.output.has_ended(Duration::ZERO);
                let others = identity::others_on(&mut self.process, port, output_is_open);
                return Err(failure::not_ready(name, port, timeout, &missing, others));
            }
            if slow.is_due(elapsed) {
                slow.said(elapsed);
                let seconds = elapsed.as_secs_f64();
                let name = &self.name;
                say(&format!("server `{name}` is not ready after {seconds:.0} s: {missing}"));
            }
            let look = (elapsed - before).min(LONGEST_PAUSE);
            let pause = (elapsed / PAUSE_PART).clamp(MIN_PAUSE, MAX_PAUSE).max(look);
            // Most servers print something when they listen, or end.
            self.output.wait_for_progress(seen, pause.min(config.start_timeout - elapsed));
        }
    }

    /// Whether what its readiness asks for holds now, but for lines, which may be forgotten by now, and
    /// connections that it has taken once.
    ///
    /// # Errors
    ///
    /// What is missing, in words.
    pub(super) fn is_still_ready(&mut self, config: &Config) -> Result<(), String> {
        let looked = self.look_at_all(config);
        let looked = looked.and_then(|()| {
            let mut passed = Passed::again(&config.ready);
            passed.look(&self.seen(Duration::MAX)).map_err(Missing::This)
        });
        match looked {
            Ok(()) | Err(Missing::Blind(_)) => Ok(()), // it was ready, and nothing else is known
            Err(Missing::This(what) | Missing::Listener(what) | Missing::Certainly(what)) => {
                Err(what)
            }
            Err(Missing::Stranger(who)) => Err(format!("another listens there, process {who}")),
        }
    }

    /// Learns the port that the server has chosen, if it has one that it chooses.
    fn look_for_port(
        &mut self,
        config: &Config,
        chooser: &mut Chooser,
        now: Duration,
    ) -> Result<(), Missing> {
        let chooses = config.way.as_ref().is_some_and(Way::is_servers_choice);
        if !chooses || self.ports.main != 0 {
            return Ok(());
        }
        let has_unread = self.output.has_unread(); // before what was read, or it may be in neither
        let reports = self.said(config);
        // Who cannot look, or shall not, believes what is said.
        let listening = match config.ready.who {
            Who::Server => self.listened_on(config, &reports),
            Who::Anybody | Who::Nobody => None,
        };
        let is_blind = listening.is_none();
        let listening = listening.unwrap_or_else(|| reports.all_main());
        let beside = self.output.beside();
        let reports = &reports;
        let evidence =
            Evidence { now, has_unread, reports, listening: &listening, beside: &beside };
        let choice = match config.way {
            Some(Way::Observe) => chooser.observed(&evidence),
            _ => chooser.reported(&evidence),
        };
        match choice {
            Choice::Port(port) => self.ports.main = port,
            Choice::Unsaid(port) => {
                self.ports.main = port;
                if !matches!(config.way, Some(Way::Observe)) {
                    let name = &self.name;
                    say(&format!(
                        "server `{name}` listens on port {port}, and has not said so; that port is \
                         taken. It may have to flush its output"
                    ));
                }
            }
            Choice::Ambiguous(why) => return Err(Missing::Certainly(why)),
            Choice::Wait(said) => {
                let nothing = match config.way {
                    Some(Way::Observe) if is_blind => failure::CANNOT_OBSERVE,
                    Some(Way::Observe) => failure::NOTHING_OBSERVED,
                    Some(Way::Report(Source::File(_))) => failure::NOTHING_IN_FILE,
                    _ => failure::NOTHING_REPORTED,
                };
                return Err(Missing::Listener(said.unwrap_or_else(|| nothing.to_owned())));
            }
        }
        Ok(())
    }

    /// What it has said of ports.
    fn said(&self, config: &Config) -> Reports {
        match &config.way {
            Some(Way::Report(Source::File(path))) => {
                Reports::of_file(&config.dir.name().join(path))
            }
            _ => self.output.reports(),
        }
    }

    /// The ports on which the server listens, but for those that it was told; `None` if that cannot be
    /// looked at.
    fn listened_on(&mut self, config: &Config, reports: &Reports) -> Option<BTreeSet<u16>> {
        let protocol = *config.transport.protocols().first()?;
        let mut listeners = identity::new_listeners(protocol, config.host, &self.before).ok()?;
        listeners.retain(|socket| !self.ports.contain(socket.local.port()));
        let own = identity::ports_of_child(&self.process, &listeners);
        // Said in the surest form, and the child's own: no need to look at others.
        if let Found::Port { rank: Rank::Variable, .. } = reports.main(|port| own.contains(&port)) {
            return Some(own);
        }
        let output_is_open = !self.output.has_ended(Duration::ZERO);
        identity::ports_of_all(&mut self.process, &listeners, output_is_open).ok()
    }

    /// In words, if there is something to say: it may have moved to the next port, or be for the
    /// clients of IPv6 alone.
    fn listens_elsewhere(&mut self, config: &Config) -> String {
        let ports: Vec<u16> = self.ports.all().collect();
        let chooses = config.way.as_ref().is_some_and(Way::is_servers_choice);
        let chooses = chooses && self.ports.main == 0;
        let output_is_open = !self.output.has_ended(Duration::ZERO);
        let (process, host) = (&mut self.process, config.host);
        let seen = identity::elsewhere(process, host, &ports, chooses, output_is_open);
        let ports = if chooses { &[] } else { &ports[..] };
        failure::listens_elsewhere(host, ports, &seen.unwrap_or_default())
    }

    fn look(
        &mut self,
        config: &Config,
        probes: &mut Probes,
        passed: &mut Passed<'_>,
        left: Duration,
    ) -> Result<(), Missing> {
        self.look_at_all(config)?;
        if config.ready.who != Who::Nobody {
            probes.look(config, &self.ports).map_err(Missing::This)?;
        }
        passed.look(&self.seen(left)).map_err(Missing::This)
    }

    fn seen(&self, left: Duration) -> Seen<'_> {
        Seen { ports: &self.ports, output: &self.output, cookie: self.process.cookie(), left }
    }

    /// Whether it serves on all of its ports.
    fn look_at_all(&mut self, config: &Config) -> Result<(), Missing> {
        let ports: Vec<u16> = self.ports.named.iter().map(|&(_, port)| port).collect();
        if self.ports.main != 0 {
            for &protocol in config.transport.protocols() {
                self.look_at(protocol, self.ports.main, config)?;
            }
        }
        for port in ports {
            self.look_at(Protocol::Tcp, port, config)?;
        }
        Ok(())
    }

    /// Whether the server, or whoever shall do, serves on `port`.
    fn look_at(&mut self, protocol: Protocol, port: u16, config: &Config) -> Result<(), Missing> {
        let addr = SocketAddr::new(config.host, port);
        match config.ready.who {
            Who::Server => self.look_who_serves(protocol, addr),
            Who::Anybody => accepts(protocol, addr),
            Who::Nobody => Ok(()),
        }
    }

    fn look_who_serves(&mut self, protocol: Protocol, addr: SocketAddr) -> Result<(), Missing> {
        let output_is_open = !self.output.has_ended(Duration::ZERO);
        let seen = identity::look(&mut self.process, protocol, addr, &self.before, output_is_open);
        match seen {
            Ok(Listening::Ours) => Ok(()),
            Ok(Listening::Stranger(who)) => Err(Missing::Stranger(who)),
            Ok(Listening::Nobody(beside)) => {
                Err(Missing::Listener(failure::nobody_listens(protocol, addr, beside.as_deref())))
            }
            Ok(Listening::CannotTell(seen)) => Err(Missing::This(format!(
                "{seen} listens, which cannot be told to be the server; if it serves the port for \
                     the server, as a proxy does, use `Ready::connects()`"
            ))),
            Err(error) if sys::is_out_of_descriptors(&error) => {
                let what = "no file descriptor is left to look who listens (`ulimit -n`)";
                Err(Missing::Blind(what.to_owned()))
            }
            // No `/proc`, or that of another pid namespace.
            Err(_) => accepts(protocol, addr),
        }
    }

    /// The child has ended before it was ready. What it left behind is stopped by whoever gets this
    /// error.
    fn ended(&mut self, config: &Config, end: End) -> Error {
        let deadline = Instant::now() + LAST_LINES;
        let may_be_daemon = end.status.is_some_and(|status| status.success());
        let step = if may_be_daemon { MAX_PAUSE } else { LAST_LINES };
        loop {
            // Who makes itself a daemon forks and ends several times, and one look may miss it.
            let output_ended = self.output.has_ended(step);
            // Asked before a look, which may take longer than that on a busy machine: one is made since.
            let is_over = output_ended || Instant::now() >= deadline;
            if may_be_daemon {
                let look = Look::now().ok();
                let left = self.process.left(look.as_ref(), !output_ended, false).living;
                if !left.is_empty() {
                    return failure::daemon(
                        &self.name,
                        self.ports.main,
                        self.process.program(),
                        &left,
                    );
                }
            }
            if is_over {
                break;
            }
        }
        let Running { name, ports, process, output, .. } = self;
        let output_is_open = !output.has_ended(Duration::ZERO);
        let others_on = |port| identity::others_on_after_end(process, port, output_is_open);
        failure::exited(name, ports, config.inherits(), end, &output.tail(), others_on)
    }

    /// Who is on its port, now that somebody else is.
    fn whose_port(&mut self) -> Diagnosis {
        let output_is_open = !self.output.has_ended(Duration::ZERO);
        let seen = diagnose::look_beside_hold(self.ports.main);
        identity::with_own(&mut self.process, seen, output_is_open)
    }
}

/// A UDP server cannot be asked without a message that it understands.
fn accepts(protocol: Protocol, addr: SocketAddr) -> Result<(), Missing> {
    if protocol == Protocol::Udp {
        return Ok(());
    }
    let missing = || Missing::This(format!("nothing accepts connections at {addr}"));
    ready::accepts(addr).then_some(()).ok_or_else(missing)
}
