//! Text that programs print. Pure: escapes are removed, what may be shown is taken, a number is known
//! from a part of something else, and the [`form`]s of a port are found.

pub(crate) mod form;

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

const ESCAPE: char = '\u{1b}';
const BELL: char = '\u{7}';

/// So many characters stand in the brackets of an address at most: with a zone, `eth0` for instance.
const LONGEST_V6: usize = 64;

/// The words after which a name with a number is an address, and not `main.go:513`.
const BEFORE_A_NAME: &[&str] = &["on", "at", "addr", "address", "bind", "listen", "listening"];

/// The text without the escapes of ECMA-48: colours, moves of the cursor, links.
pub(crate) fn without_escapes(text: &str) -> Cow<'_, str> {
    if !text.contains(ESCAPE) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == ESCAPE {
            skip_escape(&mut chars);
        } else {
            plain.push(c);
        }
    }
    Cow::Owned(plain)
}

/// The text without control characters: a name that somebody chose must not move a terminal's cursor.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    match text.contains(char::is_control) {
        true => text.replace(char::is_control, "\u{fffd}").into(),
        false => text.into(),
    }
}

/// At most so many characters of a line, for a message.
pub(crate) fn kept(line: &str, at_most: usize) -> String {
    line.trim().chars().filter(|c| !c.is_control()).take(at_most).collect()
}

fn skip_escape(chars: &mut std::str::Chars<'_>) {
    match chars.next() {
        // Parameters, then a final byte.
        Some('[') => drop(chars.find(|c| ('@'..='~').contains(c))),
        // A string, up to a bell or an `ESC \`, whose second character is not of the text.
        Some(']') => {
            let end = chars.find(|&c| c == BELL || c == ESCAPE);
            if end == Some(ESCAPE) {
                chars.next();
            }
        }
        // A character set.
        Some('(' | ')') => drop(chars.next()),
        _ => {}
    }
}

/// The port that the whole text is.
pub(crate) fn whole_port(text: &str) -> Option<u16> {
    let (port, rest) = split_port(text)?;
    rest.is_empty().then_some(port)
}

/// The port at the start of the text. Not the start of a time, a version, a range, a percentage, or
/// a number with a unit.
pub(crate) fn leading_port(text: &str) -> Option<u16> {
    let (port, rest) = split_port(text)?;
    let mut after = rest.chars();
    let goes_on = match after.next() {
        Some('.' | ':' | '-') => after.next().is_some_and(|c| c.is_ascii_digit()),
        Some(c) => c.is_alphanumeric() || c == '_' || c == '%',
        None => false,
    };
    (!goes_on).then_some(port)
}

fn split_port(text: &str) -> Option<(u16, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let port = if digits.starts_with('0') { None } else { digits.parse().ok() };
    Some((port?, rest))
}

/// Whether the text, which comes before a colon and a number, ends with a host.
pub(crate) fn ends_with_host(text: &str) -> bool {
    if let Some(inside) = text.strip_suffix(']') {
        // Not from the start of the text: of `]:1]:1]:1`, that would be each time.
        let opens = inside.char_indices().rev().take(LONGEST_V6).find(|&(_, c)| c == '[');
        return opens.and_then(|(at, _)| inside.get(at + 1..)).is_some_and(is_v6);
    }
    let is_of_host = |c: char| c.is_alphanumeric() || "._-*+".contains(c);
    let (before, host) = text.split_at(text.trim_end_matches(is_of_host).len());
    match host {
        "localhost" | "*" | "+" => true,
        "" => ends_with_any_host(before),
        _ if host.parse::<Ipv4Addr>().is_ok() => true,
        _ if before.ends_with(':') => ends_with_full_v6(text),
        _ => host.starts_with(char::is_alphabetic) && BEFORE_A_NAME.contains(&last_word(before)),
    }
}

/// Before `:8080` is nothing of the same word, or the `::` of Node's `:::8080`. A quote may open
/// what follows, but not close a name, as in `"pid":8080`.
fn ends_with_any_host(text: &str) -> bool {
    let mut before = text.strip_suffix("::").unwrap_or(text).chars().rev();
    match before.next() {
        Some('"' | '\'' | '`') => before.next().is_none_or(|c| !c.is_alphanumeric()),
        Some(c) => c.is_whitespace() || "=([{<,/".contains(c),
        None => true,
    }
}

/// Java's `0:0:0:0:0:0:0:1:8080`. With a `::` in it, nobody can tell where the address ends.
fn ends_with_full_v6(text: &str) -> bool {
    const LONGEST: usize = 39;
    let of_v6 = |c: &char| c.is_ascii_hexdigit() || *c == ':';
    let length = text.chars().rev().take(LONGEST + 1).take_while(of_v6).count();
    let address = text.get(text.len() - length..).unwrap_or_default();
    !address.contains("::") && is_v6(address)
}

fn is_v6(text: &str) -> bool {
    let address = text.split_once('%').map_or(text, |(address, _zone)| address);
    address.parse::<Ipv6Addr>().is_ok()
}

/// The last word, which may have a colon, an equals sign or a quote after it.
fn last_word(text: &str) -> &str {
    let text = text.trim_end_matches([' ', ':', '=', '"', '\'', '`']);
    text.split_at(text.trim_end_matches(char::is_alphabetic).len()).1
}
