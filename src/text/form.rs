//! The forms that a port has in free text: each with where it stands, from left to right.

use std::net::IpAddr;

use super::{ends_with_host, leading_port, whole_port};

/// The lowest port of `listening on 3000`: lower numbers count threads and cores.
const LOWEST_BARE: u16 = 1024;

/// `PORT=40123` and `GRPC_PORT=40124`, anywhere in the text: the part before `_PORT` in lower case.
pub(crate) fn variables(text: &str) -> impl Iterator<Item = (usize, Option<String>, u16)> {
    text.match_indices("PORT=").filter_map(|(at, variable)| {
        let value = text.get(at + variable.len()..)?.trim_start_matches(['"', '\'']);
        let port = leading_port(value)?;
        let before = text.get(..at)?;
        let of_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        let (before, name) = before.split_at(before.trim_end_matches(of_name).len());
        if before.ends_with(|c: char| c.is_alphanumeric() || c == '-') {
            return None;
        }
        match (name, name.strip_suffix('_')) {
            ("", _) => Some((at, None, port)),
            (_, Some(name)) if !name.is_empty() => Some((at, Some(name.to_lowercase()), port)),
            _ => None,
        }
    })
}

/// `http://host:port`. A URL without a port is none: 80 is not what a test's server listens on.
pub(crate) fn urls(text: &str) -> impl Iterator<Item = (usize, u16)> {
    text.match_indices("://").filter_map(|(at, mark)| {
        let before = text.get(..at)?;
        let scheme_at = before.trim_end_matches(|c: char| c.is_ascii_alphanumeric()).len();
        let scheme = before.get(scheme_at..)?;
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return None;
        }
        let ends = |c: char| c.is_whitespace() || "/?#\"'`<>(),;|\\".contains(c);
        let authority = text.get(at + mark.len()..)?.split(ends).next()?;
        let (host, port) = match authority.split_once(']') {
            Some((host, rest)) => (host, rest.strip_prefix(':')?),
            None => {
                authority.rsplit_once('@').map_or(authority, |(_, host)| host).split_once(':')?
            }
        };
        // `http://:::8080` is what one gets from Node without brackets.
        let port = port.strip_prefix("::").filter(|_| host.is_empty()).unwrap_or(port);
        Some((scheme_at, leading_port(port)?))
    })
}

/// `127.0.0.1:8080`, `:8080`, `[::]:8080`, `*:8080`, `on name:8080`.
pub(crate) fn addresses(text: &str) -> impl Iterator<Item = (usize, u16)> {
    text.match_indices(':').filter_map(|(at, _)| {
        let port = leading_port(text.get(at + 1..)?)?;
        ends_with_host(text.get(..at)?).then_some((at, port))
    })
}

/// Python's `('127.0.0.1', 8080)`.
pub(crate) fn pairs(text: &str) -> impl Iterator<Item = (usize, u16)> {
    text.match_indices("('").filter_map(|(at, mark)| {
        let (host, rest) = text.get(at + mark.len()..)?.split_once('\'')?;
        let port = leading_port(rest.strip_prefix(", ")?)?;
        (host.is_empty() || host.parse::<IpAddr>().is_ok()).then_some((at, port))
    })
}

/// `port 8080`, `port: 8080`, `port=8080`, `port(s) 8080`, `port number 8080`, `localport=8080`, in any
/// case.
pub(crate) fn numbered(text: &str) -> Vec<(usize, u16)> {
    let lower = text.to_ascii_lowercase();
    let numbered = lower.match_indices("port").filter_map(|(at, word)| {
        let before = lower.get(..at)?;
        let before = before.strip_suffix("local").unwrap_or(before);
        if before.ends_with(|c: char| c.is_alphanumeric() || "_.$".contains(c)) {
            return None;
        }
        let after = lower.get(at + word.len()..)?;
        let after = after.strip_prefix("(s)").or(after.strip_prefix('s')).unwrap_or(after);
        let after = after.strip_prefix(" number").unwrap_or(after);
        let number = after.trim_start_matches([' ', ':', '=', '"', '\'', '[', '(', '#']);
        if number.len() == after.len() { None } else { Some((at, leading_port(number)?)) }
    });
    numbered.collect()
}

/// `dt_socket at address: 5005`: Java's debugger. Nobody else says it so, and means a port.
pub(crate) fn debuggers(text: &str) -> Option<(usize, u16)> {
    const BEFORE: &str = "dt_socket at address: ";
    let at = text.find(BEFORE)?;
    Some((at, leading_port(text.get(at + BEFORE.len()..)?)?))
}

/// The port of a line that says nothing else: `port: 8080`, `>> port=8080`.
pub(crate) fn only_numbered(text: &str) -> Option<(usize, u16)> {
    let text = text.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let text = text.strip_prefix("port").or(text.strip_prefix("Port"))?;
    let number = text.trim_start_matches([' ', '\t', ':', '=', '"', '\'']);
    if number.len() == text.len() { None } else { Some((0, whole_port(number)?)) }
}

/// `listening on 3000`: a number by itself.
pub(crate) fn bare(text: &str) -> impl Iterator<Item = (usize, u16)> {
    const LISTENING: &[&str] = &["listening", "running", "started", "serving", "ready", "up"];
    [" on", " at"].into_iter().flat_map(move |word| {
        text.match_indices(word).filter_map(move |(at, word)| {
            let before = text.get(..at)?;
            let start = before.trim_end_matches(|c: char| c.is_alphanumeric()).len();
            let verb = before.get(start..)?.to_ascii_lowercase();
            let after = text.get(at + word.len()..)?;
            let number = after.trim_start_matches([':', ' ']);
            let port = leading_port(number)?;
            let is_v6 = number.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with(':');
            let fits = LISTENING.contains(&verb.as_str()) && number.len() < after.len() && !is_v6;
            (fits && port >= LOWEST_BARE).then_some((at, port))
        })
    })
}
