//! Which port a server has that chooses it itself: what it says, against what it listens on. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use super::report::{Found, Rank, Reports};

/// How long a port must be the only good answer, unless it came in the one form that is meant for us:
/// others may be listened on, or printed, a moment later.
const SETTLING: Duration = Duration::from_millis(150);

/// How long a server that listens may say nothing, before its one port is taken all the same: on a
/// pipe, the output of Python's and C's programs may be held back in a buffer for ever.
const SILENCE: Duration = Duration::from_millis(500);

/// Watches one start.
#[derive(Debug, Default)]
pub(super) struct Chooser {
    /// The only good answer so far, and since when it is that.
    candidate: Option<(Candidate, Duration)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Candidate {
    Said(u16),
    Ambiguous(String),
    Unsaid(BTreeSet<u16>),
}

/// What is known of the port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// Not enough. In words, if there is something to say.
    Wait(Option<String>),
    Port(u16),
    /// It listens on this one alone, and has not said so.
    Unsaid(u16),
    /// More than one is as good as the other. In words.
    Ambiguous(String),
}

impl Chooser {
    /// For one that reports its port: at `now`, it has said `reports`, and listens on these. Those
    /// `beside` are not the main one, as far as it has not said the contrary.
    pub(super) fn reported(
        &mut self,
        reports: &Reports,
        listening: &BTreeSet<u16>,
        beside: &BTreeSet<u16>,
        now: Duration,
    ) -> Choice {
        let candidate = match reports.main(|port| listening.contains(&port)) {
            Found::Port { port, rank: Rank::Variable, .. } => return Choice::Port(port),
            Found::Port { port, .. } => Candidate::Said(port),
            Found::Ambiguous { ports: [one, two], lines: [first, second] } => {
                Candidate::Ambiguous(format!(
                    "it reports {one} and {two}, and listens on both, in the lines {first:?} and \
                     {second:?}"
                ))
            }
            Found::Nothing => match unsaid(listening, beside) {
                Some(candidate) => candidate,
                None => return self.nothing(reports, listening),
            },
        };
        self.settle(candidate, SILENCE, now)
    }

    /// For one that need not say anything: at `now`, it listens on these. Those `beside` are not the main
    /// one.
    pub(super) fn observed(
        &mut self,
        listening: &BTreeSet<u16>,
        beside: &BTreeSet<u16>,
        now: Duration,
    ) -> Choice {
        match unsaid(listening, beside) {
            Some(candidate) => self.settle(candidate, SETTLING, now),
            None => self.nothing(&Reports::default(), listening),
        }
    }

    fn nothing(&mut self, reports: &Reports, listening: &BTreeSet<u16>) -> Choice {
        self.candidate = None;
        Choice::Wait(match reports.main(|_| true) {
            Found::Port { port, line, .. } => Some(format!(
                "it reports port {port} ({line:?}), where it does not listen for its clients"
            )),
            Found::Ambiguous { ports: [one, two], lines: [first, second] } => Some(format!(
                "it reports {one} and {two} (in the lines {first:?} and {second:?}), and listens on \
                 neither for its clients"
            )),
            Found::Nothing if listening.is_empty() => None,
            Found::Nothing => Some(format!(
                "it listens on {}, which by what it prints is not its main port; if it is, say so with \
                 `report_port_where`",
                all(listening)
            )),
        })
    }

    fn settle(&mut self, candidate: Candidate, silence: Duration, now: Duration) -> Choice {
        let since = match &self.candidate {
            Some((known, since)) if *known == candidate => *since,
            _ => {
                self.candidate = Some((candidate.clone(), now));
                now
            }
        };
        let age = now.saturating_sub(since);
        match candidate {
            Candidate::Said(port) if age >= SETTLING => Choice::Port(port),
            Candidate::Ambiguous(why) if age >= SETTLING => Choice::Ambiguous(why),
            Candidate::Unsaid(ports) if age >= silence => match ports.first() {
                Some(&port) if ports.len() == 1 => Choice::Unsaid(port),
                _ => Choice::Ambiguous(format!("it listens on {}", all(&ports))),
            },
            _ => Choice::Wait(None),
        }
    }
}

/// Those that may be the main port though nothing says so.
fn unsaid(listening: &BTreeSet<u16>, beside: &BTreeSet<u16>) -> Option<Candidate> {
    let ports: BTreeSet<u16> = listening.difference(beside).copied().collect();
    (!ports.is_empty()).then_some(Candidate::Unsaid(ports))
}

fn all(ports: &BTreeSet<u16>) -> String {
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::super::report::Reader;
    use super::*;

    /// What comes of lines and ports, at the milliseconds at which they are looked at.
    fn check(steps: &[(u64, &[&str], &[u16])], expected: Choice) {
        let (mut chooser, mut reader) = (Chooser::default(), Reader::default());
        let mut last = Choice::Wait(None);
        for (i, (millis, lines, listening)) in steps.iter().enumerate() {
            lines.iter().for_each(|line| reader.read(line));
            let (listening, beside) = (listening.iter().copied().collect(), reader.beside());
            let now = Duration::from_millis(*millis);
            last = chooser.reported(reader.reports(), &listening, &beside, now);
            let waits = matches!(last, Choice::Wait(_));
            assert!(waits || i + 1 == steps.len(), "too early, at {millis}: {last:?}");
        }
        assert_eq!(last, expected, "{steps:?}");
    }

    const URL: &[&str] = &["Local: http://127.0.0.1:3000/"];

    #[test]
    fn what_is_said_and_listened_on() {
        let wait = || Choice::Wait(None);
        check(&[(0, &[], &[])], wait());
        check(&[(0, &["PORT=3000"], &[3000])], Choice::Port(3000));
        check(&[(0, &["PORT=3000"], &[]), (900, &[], &[3000])], Choice::Port(3000));
        let elsewhere =
            "it reports port 3000 (\"PORT=3000\"), where it does not listen for its clients";
        check(&[(0, &["PORT=3000"], &[])], Choice::Wait(Some(elsewhere.to_owned())));
        // Other forms wait for a better one.
        check(&[(0, URL, &[3000])], wait());
        check(&[(0, URL, &[3000]), (149, &[], &[3000])], wait());
        check(&[(0, URL, &[3000]), (150, &[], &[3000])], Choice::Port(3000));
        check(&[(0, URL, &[3000]), (99, &["PORT=4000"], &[3000, 4000])], Choice::Port(4000));
        // Another's port is none.
        let database = &["listening to the database at 127.0.0.1:5432"];
        check(&[(0, database, &[]), (400, URL, &[3000]), (550, &[], &[3000])], Choice::Port(3000));
        // What is not listened on any more is none either.
        check(&[(0, URL, &[3000]), (100, &[], &[]), (200, &[], &[3000])], wait());
    }

    #[test]
    fn what_is_not_said() {
        check(&[(0, &[], &[3000]), (499, &[], &[3000])], Choice::Wait(None));
        check(&[(0, &[], &[3000]), (500, &[], &[3000])], Choice::Unsaid(3000));
        check(
            &[(0, &[], &[3000]), (400, &[], &[3000, 4000]), (600, &[], &[3000, 4000])],
            Choice::Wait(None),
        );
        let both = Choice::Ambiguous("it listens on 3000 and 4000".to_owned());
        check(&[(0, &[], &[3000, 4000]), (500, &[], &[3000, 4000])], both);
    }

    /// It has listened for its debugger long before it listens for its clients.
    #[test]
    fn what_is_beside_the_main_one() {
        let debugger = &["Debugger listening on ws://127.0.0.1:9229/4711"];
        let beside = "it listens on 9229, which by what it prints is not its main port; if it is, say \
                      so with `report_port_where`";
        let beside = || Choice::Wait(Some(beside.to_owned()));
        check(&[(0, debugger, &[9229]), (900, &[], &[9229])], beside());
        let late = &[3000, 9229];
        check(&[(0, debugger, &[9229]), (900, &[], late)], Choice::Wait(None));
        let unsaid = Choice::Unsaid(3000);
        check(&[(0, debugger, &[9229]), (900, &[], late), (1400, &[], late)], unsaid);
        let said = Choice::Port(3000);
        check(&[(0, debugger, &[9229]), (900, URL, late), (1050, &[], late)], said);
        let named = &["GRPC_PORT=4000"];
        let both = &[3000, 4000];
        check(&[(0, named, &[4000]), (900, &["PORT=3000"], both)], Choice::Port(3000));
        // The main one all the same, by who says so.
        check(&[(0, debugger, &[9229]), (900, &["PORT=9229"], &[9229])], Choice::Port(9229));
    }

    #[test]
    fn two_of_a_kind() {
        let lines = &["Local: http://127.0.0.1:3000/", "Network: http://127.0.0.1:4000/"];
        let (ports, text) = (&[3000, 4000], "it reports 3000 and 4000, and listens on both");
        check(&[(0, lines, ports)], Choice::Wait(None));
        let mut chooser = Chooser::default();
        let mut reports = Reports::default();
        lines.iter().for_each(|line| reports.add(line));
        let (listening, beside) = (ports.iter().copied().collect(), BTreeSet::new());
        chooser.reported(&reports, &listening, &beside, Duration::ZERO);
        let choice = chooser.reported(&reports, &listening, &beside, SETTLING);
        assert!(matches!(&choice, Choice::Ambiguous(why) if why.starts_with(text)), "{choice:?}");
        check(&[(0, lines, &[4000]), (150, &[], &[4000])], Choice::Port(4000));
        let neither = format!(
            "it reports 3000 and 4000 (in the lines {:?} and {:?}), and listens on neither for its \
             clients",
            lines[0], lines[1]
        );
        check(&[(0, lines, &[])], Choice::Wait(Some(neither)));
    }

    #[test]
    fn what_is_observed() {
        let mut chooser = Chooser::default();
        let mut at = |millis, ports: &[u16]| {
            let beside = [9229].into();
            let now = Duration::from_millis(millis);
            chooser.observed(&ports.iter().copied().collect(), &beside, now)
        };
        assert_eq!(at(0, &[]), Choice::Wait(None));
        assert_eq!(at(10, &[3000]), Choice::Wait(None));
        assert_eq!(at(100, &[3000, 4000]), Choice::Wait(None));
        assert!(matches!(at(110, &[9229]), Choice::Wait(Some(_))));
        assert_eq!(at(200, &[4000, 9229]), Choice::Wait(None));
        assert_eq!(at(350, &[4000, 9229]), Choice::Unsaid(4000));
    }
}
