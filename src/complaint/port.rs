//! Which port a complaint is about.

use std::ops::Range;

use super::marker::{fails, listens, words};
use crate::text::form::{addresses, numbered, pairs, urls};
use crate::text::{leading_port, whole_port};

/// The lowest number that is a port without a word or an address: `EADDRINUSE 3000`.
const LOWEST_BARE: u16 = 1024;

/// The port that stands next to these bytes of the line, if possible in the same sentence.
pub(super) fn nearest(line: &str, at: &Range<usize>) -> Option<u16> {
    let sentence = sentence(line, at);
    let away = |place: usize| match place {
        _ if place < at.start => at.start - place,
        _ => place.saturating_sub(at.end),
    };
    let following = following(line.get(at.end..)?).map(|port| (at.end, port));
    let all = all(line).chain(following);
    let found = all.min_by_key(|&(place, _)| (!sentence.contains(&place), away(place)));
    found.map(|(_, port)| port)
}

/// The sentence in which these bytes are.
fn sentence(line: &str, at: &Range<usize>) -> Range<usize> {
    const ENDS: &[&str] = &[". ", "; ", "? ", "! "];
    let before = ENDS.iter().filter_map(|end| line.get(..at.start)?.rfind(end)).max();
    let after = ENDS.iter().filter_map(|end| line.get(at.end..)?.find(end)).min();
    before.unwrap_or(0)..after.map_or(line.len() + 1, |after| at.end + after)
}

/// The port at which the program was about to listen: `Opening ipv4 listen socket on port 1883.`
pub(super) fn tried(line: &str) -> Option<u16> {
    if listens(line) { all(line).last().map(|(_, port)| port) } else { None }
}

/// The port at which it says that it failed to listen, whatever the cause.
pub(super) fn failed(line: &str) -> Option<u16> {
    if fails(&words(&line.to_ascii_lowercase())) { tried(line) } else { None }
}

/// The port of a line that says nothing else, as a part of a value that is printed:
/// `  port: 3000,`, `"port": 3000`, `{port,3000},`
pub(super) fn property(line: &str) -> Option<u16> {
    let line = line.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let number = line.strip_prefix("port")?;
    whole_port(number.trim_start_matches([' ', ':', '=', ',', '"', '\'']))
}

fn all(line: &str) -> impl Iterator<Item = (usize, u16)> {
    addresses(line).chain(urls(line)).chain(pairs(line)).chain(numbered(line)).chain(terms(line))
}

/// Erlang's `{port,8088}`.
fn terms(line: &str) -> impl Iterator<Item = (usize, u16)> {
    line.match_indices("{port,").filter_map(|(at, mark)| {
        Some((at, leading_port(line.get(at + mark.len()..)?.trim_start())?))
    })
}

/// The port of the word that follows an error's name, whatever its host: `:::3000`, `null:3001`,
/// `(Bind failed) <null>:8080`, `3000`.
fn following(rest: &str) -> Option<u16> {
    let rest = rest.trim_start_matches([':', ' ']);
    let rest = rest.strip_prefix("(Bind failed) ").unwrap_or(rest);
    let word = rest.split([' ', ',', '"', '\'', '\\']).next()?.trim_end_matches(['.', ';', ')']);
    match word.rsplit_once(':') {
        Some((_, port)) => whole_port(port),
        None => whole_port(word).filter(|&port| port >= LOWEST_BARE),
    }
}
