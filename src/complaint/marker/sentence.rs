//! Free sentences: `Port 3000 is already in use`. The port has to be the subject, and to be in use must
//! be the trouble.

use std::ops::Range;

use super::{Word, fails};
use crate::text::ends_with_host;

/// Words between a subject and what is said of it.
#[rustfmt::skip] // it would give each word a line
const BETWEEN: &[&str] = &[
    "already", "appears", "are", "be", "been", "being", "could", "currently", "has", "is", "may",
    "might", "must", "seems", "still", "tcp", "to", "udp", "was",
];

/// Those that make it a sentence, and not a heading: `ports in use: 3`.
const VERBS: &[&str] = &["are", "be", "been", "being", "is", "was"];

/// Those that make it a trouble.
const TROUBLE: &[&str] = &["already", "being"];

/// Ports of another kind.
const OTHER_PORTS: &[&str] = &["com", "debug", "gpio", "midi", "parallel", "serial", "usb"];

/// Who uses it, if the program does not know, and so did not expect it.
#[rustfmt::skip] // it would give each word a line
const SOMEBODY: &[&str] = &[
    "another", "application", "different", "other", "pid", "process", "program", "somebody",
    "someone", "something", "unknown",
];

/// What comes after them is not said to be so.
#[rustfmt::skip] // it would give each word a line
const UNREAL: &[&str] = &[
    "case", "check", "checking", "checks", "ensure", "if", "sure", "unless", "until", "when",
    "whether",
];

/// So many words may stand between `on` and what is said: `Port 80 on 127.0.0.1 is in use`.
const LONGEST_HOST: usize = 6;

/// From the subject to the end of what is said.
pub(super) fn in_use(lower: &str, words: &[Word<'_>]) -> Option<Range<usize>> {
    let places = 0..words.len();
    let found = places.filter_map(|at| is_used(lower, words, at).or_else(|| running(words, at)));
    found.into_iter().find(|at| !is_after(lower, words, at.start, UNREAL))
}

/// `Port 80 requires elevated privileges`
pub(super) fn privileged(lower: &str, words: &[Word<'_>]) -> Option<Range<usize>> {
    let at = words.windows(3).position(|three| {
        three.iter().map(|word| word.text).eq(["requires", "elevated", "privileges"])
    })?;
    let start = subject(lower, words, at)?;
    Some(words.get(start)?.at..words.get(at + 2)?.end())
}

/// Whether one of the words stands before this place, in the same sentence.
pub(super) fn is_after(lower: &str, words: &[Word<'_>], place: usize, texts: &[&str]) -> bool {
    let before = lower.get(..place).unwrap_or_default();
    let ends = [". ", "; ", "? ", "! "].iter().filter_map(|end| before.rfind(end));
    let start = ends.max().unwrap_or(0);
    words.iter().any(|word| (start..place).contains(&word.at) && word.is_one_of(texts))
}

/// What is said begins with this word: `in use`, `taken`.
fn is_used(lower: &str, words: &[Word<'_>], at: usize) -> Option<Range<usize>> {
    let next = |count| words.get(at + count).copied();
    let (length, is_strict) = match (next(0)?.text, next(1).map(|word| word.text)) {
        ("in", Some("use")) => (2, false),
        ("taken" | "occupied" | "busy", _) => (1, false),
        ("used" | "allocated" | "bound", _) => (1, true),
        _ => return None,
    };
    let between = words.get(..at)?.iter().rev().take_while(|word| word.is_one_of(BETWEEN));
    let is_trouble = between.clone().any(|word| word.is_one_of(TROUBLE));
    let is_sentence = between.clone().any(|word| word.is_one_of(VERBS)) || fails(words);
    let is_expected = match next(length).map(|word| word.text) {
        Some("by") => !is_somebody(words.get(at + length + 1..)?),
        Some(word) => ["for", "from", "into", "over"].contains(&word),
        None => false,
    };
    if !is_trouble && (is_strict || !is_sentence || is_expected) {
        return None;
    }
    let subject = subject(lower, words, at - between.count())?;
    Some(words.get(subject)?.at..words.get(at + length - 1)?.end())
}

fn is_somebody(words: &[Word<'_>]) -> bool {
    let name = words.iter().find(|word| !word.is_one_of(&["a", "an", "the"]));
    name.is_some_and(|word| word.is_one_of(SOMEBODY))
}

/// The port that ends before this word, with or without a number.
fn subject(lower: &str, words: &[Word<'_>], end: usize) -> Option<usize> {
    port(lower, words, end).or_else(|| {
        let from = end.saturating_sub(LONGEST_HOST);
        let on = words.get(from..end)?.iter().rposition(|word| word.text == "on")?;
        port(lower, words, from + on)
    })
}

fn port(lower: &str, words: &[Word<'_>], end: usize) -> Option<usize> {
    let last = end.checked_sub(1)?;
    let word = words.get(last)?;
    let is_port = |at: usize| {
        let before = at.checked_sub(1).and_then(|before| words.get(before));
        words.get(at)?.text.eq("port").then_some(())?;
        (!before.is_some_and(|before| before.is_one_of(OTHER_PORTS))).then_some(at)
    };
    if word.text.parse::<u16>().is_err() {
        return is_port(last);
    }
    let before = lower.get(..word.at)?;
    let is_address = before.strip_suffix(':').is_some_and(is_host);
    let named = last.checked_sub(1).and_then(|at| match words.get(at)?.text {
        "number" | "tcp" | "udp" => is_port(at.checked_sub(1)?),
        _ => is_port(at),
    });
    named.or(is_address.then_some(last))
}

fn is_host(text: &str) -> bool {
    let host = text.trim_end_matches(|c: char| c.is_alphanumeric() || "-._".contains(c));
    host.ends_with("://") || ends_with_host(text)
}

/// `Something is already running on port 3000`, from `running` to the number.
fn running(words: &[Word<'_>], at: usize) -> Option<Range<usize>> {
    let is = |place: usize, texts: &[&str]| words.get(place).is_some_and(|it| it.is_one_of(texts));
    let runs = is(at, &["running"]) && is(at + 1, &["on", "at"]) && is(at + 2, &["port"]);
    let number = words.get(at + 3).filter(|word| word.text.parse::<u16>().is_ok())?;
    let before = words.get(at.saturating_sub(LONGEST_HOST)..at)?;
    let is_another = before.iter().any(|word| word.is_one_of(&["already", "another"]));
    if runs && is_another { Some(words.get(at)?.at..number.end()) } else { None }
}
