//! Whether a program's trouble is a port. Pure: what it printed in, a complaint out.
//!
//! Exit codes do not tell (0, 1, 3, 71 and 255 were seen), so words have to. Three kinds are known,
//! from the most to the least certain ([`marker`]): names of the error, which nobody prints otherwise
//! (`EADDRINUSE`); the sentences of C libraries and runtimes; and free sentences, of which the port
//! must be the subject (`Port 3000 is already in use`).
//!
//! The border: what a program says of its own failure counts, also if it went on with another port.
//! What it says of memory, files, socket files or others' ports does not, nor that a port serves
//! somebody, nor what would be if. A failed `connect` is none: its port is a client's.

mod marker;
mod port;

#[cfg(test)]
mod tests;

use crate::text;
use marker::{Kind, Marker};

/// So many bytes of a line are looked at. Servers' own lines are cut at 8 KiB before that.
const LONGEST: usize = 4096;

/// So many characters of a line are kept for a message.
const MAX_KEPT: usize = 300;

/// So many lines after it may tell the port: Node prints it below the stack.
const BELOW: usize = 24;

/// So many lines before it a program may have said what it was about to do, and after it what failed.
const NEAR: usize = 4;

/// So many lines before it another exception may have failed to listen: Java prints the cause below
/// the stack.
const CAUSED_ABOVE: usize = 60;

/// The lines around so many are looked at, of an output that repeats one for ever.
const MAX_LOOKS_AROUND: usize = 64;

/// The lowest port that everybody may listen on.
const UNPRIVILEGED: u16 = 1024;

/// What a program says about a port that it did not get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Complaint {
    pub(crate) what: What,
    /// `None`: it does not say which.
    pub(crate) port: Option<u16>,
    /// The line that says so.
    pub(crate) line: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Another has it.
    InUse,
    /// The system gives it to nobody: on Windows, it is in a range that is excluded.
    Excluded,
    /// It takes a privilege: it is below 1024.
    NotPermitted,
}

/// How much a complaint says, from the least on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// It went on with another port.
    WentOn,
    NoPort,
    Port,
}

/// The complaint in what a program printed, a line or all of it: the first that names a port, or else
/// the first. One after which the program went on counts only if there is no other.
pub(crate) fn complaint(output: &str) -> Option<Complaint> {
    let lines: Vec<&str> = output.lines().collect();
    let mut best: Option<(Rank, Complaint)> = None;
    let (mut no_port_until, mut looks) = (0, 0);
    for (at, line) in lines.iter().enumerate() {
        let line = readable(line);
        let Some(marker) = marker::find(&line) else { continue };
        if marker.is_of_file {
            no_port_until = at + BELOW;
        }
        // The error's properties, printed below it.
        let is_property = line.trim_start().starts_with("code:") && at < no_port_until;
        if marker.is_of_file || is_property {
            continue;
        }
        looks += 1;
        let around: &[&str] = if looks <= MAX_LOOKS_AROUND { &lines } else { &[] };
        if !marker.is_certain && !is_explained(around, at) {
            continue;
        }
        let port = port::nearest(&line, &marker.at).or_else(|| port_around(around, at));
        let rank = match port {
            _ if marker.went_on => Rank::WentOn,
            None => Rank::NoPort,
            Some(_) => Rank::Port,
        };
        if best.as_ref().is_none_or(|&(known, _)| known < rank) {
            best = Some((
                rank,
                Complaint { what: what(&marker, port), port, line: text::kept(&line, MAX_KEPT) },
            ));
        }
        if rank == Rank::Port {
            break;
        }
    }
    best.map(|(_, complaint)| complaint)
}

fn what(marker: &Marker, port: Option<u16>) -> What {
    match marker.kind {
        Kind::InUse => What::InUse,
        Kind::Excluded => What::Excluded,
        // Node and others have one word for both.
        Kind::Denied if port.is_some_and(|port| port >= UNPRIVILEGED) => What::Excluded,
        Kind::Denied => What::NotPermitted,
    }
}

/// Whether the lines around it say that what was denied is to listen.
fn is_explained(lines: &[&str], at: usize) -> bool {
    above(lines, at, NEAR).chain(below(lines, at, NEAR)).any(|line| marker::listens(&line))
}

fn port_around(lines: &[&str], at: usize) -> Option<u16> {
    let tried = || above(lines, at, NEAR).find_map(|line| port::tried(&line));
    let failed = || above(lines, at, CAUSED_ABOVE).find_map(|line| port::failed(&line));
    let also_failed = || below(lines, at, NEAR).find_map(|line| port::failed(&line));
    let property = below(lines, at, BELOW).find_map(|line| port::property(&line));
    property.or_else(tried).or_else(also_failed).or_else(failed)
}

/// The nearest first.
fn above<'a>(lines: &'a [&str], at: usize, count: usize) -> impl Iterator<Item = String> + 'a {
    lines.iter().take(at).rev().take(count).map(|line| readable(line))
}

fn below<'a>(lines: &'a [&str], at: usize, count: usize) -> impl Iterator<Item = String> + 'a {
    lines.iter().skip(at + 1).take(count).map(|line| readable(line))
}

/// The part of a line that is looked at, without escapes.
fn readable(line: &str) -> String {
    let mut end = line.len().min(LONGEST);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    text::without_escapes(line.get(..end).unwrap_or_default()).into_owned()
}

/// Reads a text of any bytes, and checks what must hold for each.
#[cfg(fuzzing)]
#[doc(hidden)]
pub fn fuzz_complaint(bytes: &[u8]) {
    let output = String::from_utf8_lossy(bytes);
    let Some(found) = complaint(&output) else { return };
    assert!(found.line.chars().count() <= MAX_KEPT);
    let plain: String = output.lines().map(|line| readable(line) + "\n").collect();
    let said =
        |port: u16| plain.split(|c: char| !c.is_ascii_digit()).any(|it| it.parse() == Ok(port));
    assert!(found.port.is_none_or(|port| port != 0 && said(port)));
}
