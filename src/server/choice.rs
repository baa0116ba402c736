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

/// How long an answer has to wait at most for what is printed and not read yet: a better one may be in it,
/// and on a busy machine, who reads may not come to run. Some print without an end.
const UNREAD: Duration = Duration::from_secs(5);

/// Watches one start.
#[derive(Debug, Default)]
pub(super) struct Chooser {
    /// The only good answer so far, and since when it is that.
    candidate: Option<(Candidate, Duration)>,
}

/// What is seen of the server at a time.
#[derive(Debug)]
pub(super) struct Evidence<'a> {
    /// Since its start.
    pub(super) now: Duration,
    /// It has printed something that is not among the reports, because it is not read.
    pub(super) has_unread: bool,
    /// What it says.
    pub(super) reports: &'a Reports,
    /// What it listens on.
    pub(super) listening: &'a BTreeSet<u16>,
    /// These are not the main one, as far as it has not said the contrary.
    pub(super) beside: &'a BTreeSet<u16>,
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
    /// For one that reports its port.
    pub(super) fn reported(&mut self, evidence: &Evidence<'_>) -> Choice {
        let &Evidence { reports, listening, beside, .. } = evidence;
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
        self.settle(candidate, SILENCE, evidence)
    }

    /// For one that need not say anything.
    pub(super) fn observed(&mut self, evidence: &Evidence<'_>) -> Choice {
        match unsaid(evidence.listening, evidence.beside) {
            Some(candidate) => self.settle(candidate, SETTLING, evidence),
            None => self.nothing(&Reports::default(), evidence.listening),
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

    fn settle(
        &mut self,
        candidate: Candidate,
        silence: Duration,
        evidence: &Evidence<'_>,
    ) -> Choice {
        let now = evidence.now;
        let since = match &self.candidate {
            Some((known, since)) if *known == candidate => *since,
            _ => {
                self.candidate = Some((candidate.clone(), now));
                now
            }
        };
        let settling = match candidate {
            _ if evidence.has_unread => UNREAD,
            Candidate::Unsaid(_) => silence,
            Candidate::Said(_) | Candidate::Ambiguous(_) => SETTLING,
        };
        if now.saturating_sub(since) < settling {
            return Choice::Wait(None);
        }
        match candidate {
            Candidate::Said(port) => Choice::Port(port),
            Candidate::Ambiguous(why) => Choice::Ambiguous(why),
            Candidate::Unsaid(ports) => match ports.first() {
                Some(&port) if ports.len() == 1 => Choice::Unsaid(port),
                _ => Choice::Ambiguous(format!("it listens on {}", all(&ports))),
            },
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
        let steps: Vec<_> =
            steps.iter().map(|&(now, lines, ports)| (now, lines, false, ports)).collect();
        check_unread(&steps, expected);
    }

    /// The same, if something may be unread.
    fn check_unread(steps: &[(u64, &[&str], bool, &[u16])], expected: Choice) {
        let (mut chooser, mut reader) = (Chooser::default(), Reader::default());
        let mut last = Choice::Wait(None);
        for (i, (millis, lines, has_unread, listening)) in steps.iter().enumerate() {
            lines.iter().for_each(|line| reader.read(line));
            let (listening, beside) = (listening.iter().copied().collect(), reader.beside());
            last = chooser.reported(&Evidence {
                now: Duration::from_millis(*millis),
                has_unread: *has_unread,
                reports: reader.reports(),
                listening: &listening,
                beside: &beside,
            });
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

    /// On a busy machine, what it has printed may be read late.
    #[test]
    fn what_is_not_read_yet() {
        let debugger = &["Debugger listening on ws://127.0.0.1:9229/4711"];
        let early = [(0, &[][..], true, &[9229][..]), (4999, &[], true, &[9229])];
        check_unread(&early, Choice::Wait(None));
        let said = &["PORT=3000"];
        let late = [early[0], (900, debugger, false, &[9229]), (990, said, false, &[9229, 3000])];
        check_unread(&late, Choice::Port(3000));
        check_unread(&[early[0], (500, &[], false, &[9229])], Choice::Unsaid(9229));
        check_unread(&[(0, URL, true, &[3000]), (150, &[], true, &[3000])], Choice::Wait(None));
        // The form that is meant for us is as good as any that may follow.
        check_unread(&[(0, said, true, &[3000])], Choice::Port(3000));
        // It never stops printing.
        check_unread(&[early[0], (5000, &[], true, &[9229])], Choice::Unsaid(9229));
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
        let mut at = |now| {
            let (reports, listening, beside) = (&reports, &listening, &beside);
            chooser.reported(&Evidence { now, has_unread: false, reports, listening, beside })
        };
        at(Duration::ZERO);
        let choice = at(SETTLING);
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
            chooser.observed(&Evidence {
                now: Duration::from_millis(millis),
                has_unread: false,
                reports: &Reports::default(),
                listening: &ports.iter().copied().collect(),
                beside: &[9229].into(),
            })
        };
        assert_eq!(at(0, &[]), Choice::Wait(None));
        assert_eq!(at(10, &[3000]), Choice::Wait(None));
        assert_eq!(at(100, &[3000, 4000]), Choice::Wait(None));
        assert!(matches!(at(110, &[9229]), Choice::Wait(Some(_))));
        assert_eq!(at(200, &[4000, 9229]), Choice::Wait(None));
        assert_eq!(at(350, &[4000, 9229]), Choice::Unsaid(4000));
    }
}
