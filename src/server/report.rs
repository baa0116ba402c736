//! Which ports a server says it has. Pure, but for the file that is read: lines in, ports out.
//!
//! Nobody agreed on a form, so four are understood, from the most to the least certain
//! ([`Rank`]). What is found may still be another's port, of a database for instance; whoever asks
//! says which ports the server listens on, and only those count.
//!
//! Lines of debuggers, metrics, admin interfaces and the like, and those that tell of a failure,
//! never report the main port. `node --inspect` prints its debugger's first, and listens on it; so
//! what is said to be beside the main port is remembered, too.

mod json;
mod wording;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use wording::Wording;

use crate::text::{self, form};

/// A line reports no more ports than these.
const MAX_PER_LINE: usize = 16;

/// So many reports of one start are remembered.
const MAX_REPORTS: usize = 64;

/// So many characters of a line are kept for a message.
const MAX_KEPT: usize = 300;

/// So many bytes of a file are read.
const MAX_FILE: u64 = 64 * 1024;

/// What a line says about a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) rank: Rank,
    pub(super) role: Role,
    pub(super) port: u16,
}

/// What a port is for, according to its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Main,
    /// `grpc` of `GRPC_PORT=40124`, in lower case.
    Named(String),
    /// A debugger's, metrics, an admin interface's: not the main one, whatever else.
    Beside,
}

/// The form of a report, from the most to the least certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// `PORT=40123`, in capitals, anywhere in the line.
    Variable,
    /// The line is a JSON object with a `port`, or an address with one.
    Json,
    /// An `http` or `https` URL with a port.
    Url,
    /// Words: `listening on 127.0.0.1:8080`, `started on port 8080`.
    Phrase,
}

/// All that a line says, the most certain first, and each port once for each name.
pub(super) fn read(line: &str) -> Vec<Report> {
    let mut reports = Vec::new();
    if !line.contains(|c: char| c.is_ascii_digit()) {
        return reports;
    }
    let line = text::without_escapes(line);
    let wording = Wording::of(&line);
    let mut add = |rank, at, name: Option<String>, port| {
        let role = match name {
            Some(name) => Role::Named(name),
            None if wording.fails() => return,
            None if wording.is_beside(at) => Role::Beside,
            None => Role::Main,
        };
        let is_new = !reports.iter().any(|known: &Report| known.role == role && known.port == port);
        if is_new && reports.len() < MAX_PER_LINE {
            reports.push(Report { rank, role, port });
        }
    };
    for (at, name, port) in form::variables(&line) {
        add(Rank::Variable, at, name, port);
    }
    if !wording.only_connects() {
        // The fields of an object have no order: every word is about all of them.
        json::ports(&line).for_each(|(name, port)| add(Rank::Json, line.len(), name, port));
    }
    for (at, port) in form::urls(&line).filter(|&(at, _)| !wording.connects(at)) {
        add(Rank::Url, at, None, port);
    }
    let phrases = form::addresses(&line)
        .chain(form::pairs(&line))
        .chain(form::numbered(&line))
        .chain(form::bare(&line))
        .filter(|&(at, _)| wording.listens(at))
        .chain(form::debuggers(&line));
    for (at, port) in phrases.chain(form::only_numbered(&line)) {
        add(Rank::Phrase, at, None, port);
    }
    reports
}

/// Reads the lines of one start.
#[derive(Clone, Debug, Default)]
pub(super) struct Reader {
    /// By the usual forms.
    usual: Reports,
    own: Option<(Own, Reports)>,
}

impl Reader {
    /// By what somebody says who knows the server; by default, by the usual forms.
    pub(super) fn new(own: Option<Own>) -> Reader {
        Reader { usual: Reports::default(), own: own.map(|own| (own, Reports::default())) }
    }

    /// Takes a whole line.
    pub(super) fn read(&mut self, line: &str) {
        self.usual.add(line);
        if let Some((Own(port), reports)) = &mut self.own {
            // A panic, which has been printed by then, would end the thread that reads the output.
            let port = catch_unwind(AssertUnwindSafe(|| port(line.trim_end()))).unwrap_or(None);
            if let Some(port) = port.filter(|&port| port != 0) {
                reports.insert(Report { rank: Rank::Variable, role: Role::Main, port }, line);
            }
        }
    }

    /// What was reported, by who knows best.
    pub(super) fn reports(&self) -> &Reports {
        self.own.as_ref().map_or(&self.usual, |(_, reports)| reports)
    }

    /// The ports that are not the main one, by the usual forms.
    pub(super) fn beside(&self) -> BTreeSet<u16> {
        self.usual.beside()
    }
}

/// What port a line reports, according to somebody who knows the server.
#[derive(Clone)]
pub(super) struct Own(pub(super) Arc<PortOfLine>);

type PortOfLine = dyn Fn(&str) -> Option<u16> + Send + Sync;

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Own")
    }
}

/// What was reported so far, of one start: fed line by line, asked at any time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reports {
    /// Each with its line, in the order of the lines.
    all: Vec<(Report, String)>,
}

/// The main port, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    Nothing,
    Port {
        port: u16,
        rank: Rank,
        line: &'a str,
    },
    /// Two ports, each as good as the other. The lines may be the same.
    Ambiguous {
        ports: [u16; 2],
        lines: [&'a str; 2],
    },
}

impl Reports {
    /// What a file says: each line as usual, or a number alone. Nothing, if it cannot be read.
    pub(super) fn of_file(path: &Path) -> Reports {
        let mut reports = Reports::default();
        // A FIFO would keep us waiting.
        if path.metadata().is_ok_and(|metadata| metadata.is_file()) {
            let mut bytes = Vec::new();
            let file = File::open(path).map(|file| file.take(MAX_FILE));
            let _ = file.and_then(|mut file| file.read_to_end(&mut bytes));
            String::from_utf8_lossy(&bytes).lines().for_each(|line| reports.add_of_file(line));
        }
        reports
    }

    fn add_of_file(&mut self, line: &str) {
        match line.trim().parse() {
            Ok(0) => {}
            Ok(port) => self.insert(Report { rank: Rank::Variable, role: Role::Main, port }, line),
            Err(_) => self.add(line),
        }
    }

    /// Takes a whole line.
    pub(super) fn add(&mut self, line: &str) {
        for report in read(line) {
            self.insert(report, line);
        }
    }

    fn insert(&mut self, report: Report, line: &str) {
        if self.all.iter().any(|(known, _)| *known == report) || !self.make_room(report.rank) {
            return;
        }
        let line = text::without_escapes(line);
        self.all.push((report, text::kept(&line, MAX_KEPT)));
    }

    /// Forgets the last of the least certain for one that is more certain. Whether there is room.
    fn make_room(&mut self, rank: Rank) -> bool {
        if self.all.len() < MAX_REPORTS {
            return true;
        }
        let ranks = self.all.iter().map(|(report, _)| report.rank).enumerate();
        match ranks.max_by_key(|&(at, rank)| (rank, at)) {
            Some((at, worst)) if worst > rank => drop(self.all.remove(at)),
            _ => return false,
        }
        true
    }

    /// The main port: of those for which `listens` is true, the most certain one.
    pub(super) fn main(&self, mut listens: impl FnMut(u16) -> bool) -> Found<'_> {
        let main = self.all.iter().filter(|(report, _)| report.role == Role::Main);
        let main: Vec<_> = main.filter(|(report, _)| listens(report.port)).collect();
        let Some((first, line)) = main.iter().min_by_key(|(report, _)| report.rank) else {
            return Found::Nothing;
        };
        let rival = |(report, _): &&&(Report, String)| {
            report.rank == first.rank && report.port != first.port
        };
        match main.iter().find(rival) {
            Some((second, other)) => {
                Found::Ambiguous { ports: [first.port, second.port], lines: [line, other] }
            }
            None => Found::Port { port: first.port, rank: first.rank, line },
        }
    }

    /// All ports that were reported as the main one.
    pub(super) fn all_main(&self) -> BTreeSet<u16> {
        self.ports(|role| *role == Role::Main)
    }

    /// All ports that no line reports as the main one, and one as another.
    fn beside(&self) -> BTreeSet<u16> {
        let others = self.ports(|role| *role != Role::Main);
        others.difference(&self.all_main()).copied().collect()
    }

    fn ports(&self, wanted: impl Fn(&Role) -> bool) -> BTreeSet<u16> {
        let reports = self.all.iter().map(|(report, _)| report);
        reports.filter(|report| wanted(&report.role)).map(|report| report.port).collect()
    }

    /// The port that was reported first under this name, in whatever case, and with `-` for `_`: no
    /// variable has the former.
    pub(super) fn named(&self, name: &str) -> Option<u16> {
        let plain = |name: &str| name.to_ascii_lowercase().replace('-', "_");
        let name = plain(name);
        let is_it =
            |report: &&Report| matches!(&report.role, Role::Named(known) if plain(known) == name);
        self.all.iter().map(|(report, _)| report).find(is_it).map(|report| report.port)
    }
}

/// Reads lines of any bytes, and checks what must hold for each.
#[cfg(fuzzing)]
#[doc(hidden)]
pub fn fuzz_report(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut reports = Reports::default();
    for line in text.split('\n') {
        let found = read(line);
        assert!(found.len() <= MAX_PER_LINE);
        let plain = text::without_escapes(line);
        let numbers = plain.split(|c: char| !c.is_ascii_digit());
        let said = |port: u16| numbers.clone().any(|number| number.parse() == Ok(port));
        assert!(found.iter().all(|report| report.port != 0 && said(report.port)));
        reports.add(line);
    }
    assert!(reports.all.len() <= MAX_REPORTS);
    let _ = (reports.main(|port| port % 2 == 0), reports.main(|_| true), reports.named("grpc"));
}
