//! A line that is a JSON object, of which the names that tell a port are known. It need not be well
//! formed: it is looked through from left to right, once, whatever it is.

use crate::text::{ends_with_host, leading_port, whole_port};

/// Names of an address with a port, in lower case and without `_`, `-` and `.`.
const ADDRESSES: &[&str] = &[
    "actualaddress",
    "addr",
    "address",
    "bind",
    "bindaddr",
    "bindaddress",
    "boundaddress",
    "endpoint",
    "host",
    "httpaddr",
    "listen",
    "listenaddr",
    "listenaddress",
    "listener",
    "listening",
    "localaddr",
    "localaddress",
    "serveraddr",
    "serveraddress",
];

/// The fields of the object and of those right inside it are looked at.
const MAX_DEPTH: usize = 2;

/// The ports of the object, with their names.
pub(super) fn ports(text: &str) -> impl Iterator<Item = (Option<String>, u16)> {
    let text = text.trim();
    let is_object = text.starts_with('{') && text.ends_with('}');
    let fields = Fields { rest: if is_object { text } else { "" }, depth: 0 };
    fields.filter_map(|(key, value)| port(key, value))
}

fn port(key: &str, value: &str) -> Option<(Option<String>, u16)> {
    if key.eq_ignore_ascii_case("port") {
        return Some((None, whole_port(value)?));
    }
    let key = key.to_lowercase();
    if let Some(name) = key.strip_suffix("_port") {
        return Some((Some(name.to_owned()), whole_port(value)?));
    }
    let key = key.replace(['_', '-', '.'], "");
    if !ADDRESSES.contains(&key.as_str()) {
        return None;
    }
    let (host, port) = value.rsplit_once(':')?;
    let is_name = host.starts_with(char::is_alphabetic) && !host.contains([':', ' ']);
    if is_name || ends_with_host(host) { Some((None, leading_port(port)?)) } else { None }
}

/// The names and values, strings without their quotes and with their escapes.
struct Fields<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let at = self.rest.find(['{', '[', '}', ']', '"'])?;
            let (mark, rest) = (self.rest.get(at..=at)?, self.rest.get(at + 1..)?);
            self.rest = rest;
            match mark {
                "{" | "[" => self.depth += 1,
                "}" | "]" => self.depth = self.depth.saturating_sub(1),
                _ => {
                    let (key, rest) = string(rest)?;
                    self.rest = rest;
                    let value = rest.trim_start().strip_prefix(':').and_then(value);
                    match value {
                        Some(value) if self.depth <= MAX_DEPTH => return Some((key, value)),
                        _ => {}
                    }
                }
            }
        }
    }
}

/// The string or the number with which the text starts.
fn value(text: &str) -> Option<&str> {
    let text = text.trim_start();
    if let Some(text) = text.strip_prefix('"') {
        return Some(string(text)?.0);
    }
    Some(text.split([',', '}', ']', '{', '[', '"', ' ']).next()?.trim_end())
}

/// What comes before the next quote that is not escaped, and what after it.
fn string(text: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    let end = text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    Some((text.get(..end)?, text.get(end + 1..)?))
}
