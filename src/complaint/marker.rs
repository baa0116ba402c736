//! Which words of a line complain about a port.

mod sentence;

use std::ops::Range;

/// The words of a complaint.
#[derive(Debug)]
pub(super) struct Marker {
    pub(super) kind: Kind,
    pub(super) at: Range<usize>,
    /// It is about a socket file, or a pipe.
    pub(super) is_of_file: bool,
    /// Otherwise it counts only if the lines around it say that something listens.
    pub(super) is_certain: bool,
    /// The program says that it takes another port.
    pub(super) went_on: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    InUse,
    Excluded,
    Denied,
}

/// Names and sentences that mean nothing else.
const IN_USE: &[&str] = &[
    "eaddrinuse",
    "wsaeaddrinuse",
    "addrinuse",                             // Rust, Deno
    "addressinuseexception",                 // .NET
    "addressalreadyinuse",                   // .NET, Java
    "portinuseexception",                    // Spring Boot
    "address already in use",                // glibc, the BSDs, Windows in Go and others
    "address in use",                        // musl
    "addr already in use",                   // MongoDB
    "connection in use: ('",                 // gunicorn
    "only one usage of each socket address", // Windows
];

/// Those of Windows' HTTP service, which says the same of files.
const IN_USE_URL: &[&str] = &["conflicts with an existing registration", "used by another process"];

const EXCLUDED: &[&str] = &["forbidden by its access permissions"];

/// What is said of files more often than of ports.
const DENIED: &[&str] = &["permission denied", "eacces", "permissiondenied", "access is denied"];

/// The same, where the port is in the words.
const PORT_DENIED: &[&str] = &["permission to access that port", "cannot expose privileged port"];

/// Windows' numbers, which are all that a translated text leaves.
const IN_USE_NUMBER: &str = "10048";
const EXCLUDED_NUMBER: &str = "10013";

/// The words before such a number. `[10048]` alone is a process.
const BEFORE_A_NUMBER: &[&str] = &["code", "errno", "error", "socketexception", "winerror"];

/// It is about a socket of its own.
#[rustfmt::skip] // it would give each word a line
const LISTENS: &[&str] = &[
    "bind", "bind0", "bindexception", "binding", "listen", "listener", "listening", "listentcp",
];

/// It goes somewhere as a client.
const CONNECTS: &[&str] = &["connect", "connecting", "dial", "dialing", "establish"];

#[rustfmt::skip] // it would give each word a line
const FAILS: &[&str] = &[
    "aborting", "cannot", "can", "could", "couldn", "error", "exception", "fail", "failed",
    "failure", "fatal", "severe", "unable",
];

/// Addresses that have no port.
#[rustfmt::skip] // it would give each word a line
const OTHER_ADDRESSES: &[&str] = &[
    "bus", "device", "email", "hardware", "ip", "ipv4", "ipv6", "mac", "mail", "memory",
];

/// What comes after them did not happen.
const UNREAL: &[&str] = &["avoid", "avoids", "handle", "handles", "if", "prevent", "prevents"];

/// A word in lower case, and where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word<'a> {
    pub(super) at: usize,
    pub(super) text: &'a str,
}

impl Word<'_> {
    pub(super) fn is_one_of(self, texts: &[&str]) -> bool {
        texts.contains(&self.text)
    }

    fn end(self) -> usize {
        self.at + self.text.len()
    }
}

/// The words of a text in lower case, from left to right.
pub(super) fn words(lower: &str) -> Vec<Word<'_>> {
    let place = |word: &str| word.as_ptr() as usize - lower.as_ptr() as usize;
    let words = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(|text| Word { at: place(text), text }).collect()
}

/// What a line complains about.
pub(super) fn find(line: &str) -> Option<Marker> {
    let lower = line.to_ascii_lowercase();
    if !may_complain(&lower) {
        return None;
    }
    let words = words(&lower);
    let (kind, at, is_certain) = in_use(&lower, &words)
        .or_else(|| excluded(&lower, &words))
        .or_else(|| Some((Kind::InUse, sentence::in_use(&lower, &words)?, true)))
        .or_else(|| denied(&lower, &words))?;
    let before = || words.iter().filter(|word| word.at < at.start);
    let is_clients = before().any(|word| word.is_one_of(CONNECTS)) && !any(&words, LISTENS);
    if is_clients || sentence::is_after(&lower, &words, at.start, UNREAL) {
        return None;
    }
    let went_on = |word: &Word<'_>| word.at >= at.end && word.is_one_of(&["trying", "instead"]);
    Some(Marker {
        kind,
        is_of_file: is_of_file(&lower, &words, &at),
        is_certain,
        went_on: words.iter().any(went_on),
        at,
    })
}

/// Whether it says that something listens, or was about to.
pub(super) fn listens(line: &str) -> bool {
    any(&words(&line.to_ascii_lowercase()), &["bind", "binding", "listen"])
}

/// Whether it says that something failed.
pub(super) fn fails(words: &[Word<'_>]) -> bool {
    any(words, FAILS)
}

fn any(words: &[Word<'_>], texts: &[&str]) -> bool {
    words.iter().any(|word| word.is_one_of(texts))
}

/// Spares the lines that say nothing of the kind the rest of the work.
#[rustfmt::skip] // it would give each word a line
fn may_complain(lower: &str) -> bool {
    const PARTS: &[&str] = &[
        " use", "10013", "10048", "allocated", "already", "another", "bound", "busy", "conflicts",
        "denied", "eacces", "forbidden", "inuse", "occupied", "only one", "permission", "privilege",
        "taken",
    ];
    PARTS.iter().any(|part| lower.contains(part))
}

type Found = (Kind, Range<usize>, bool);

fn in_use(lower: &str, words: &[Word<'_>]) -> Option<Found> {
    let is_port = |at: &Range<usize>| {
        let previous = words.iter().take_while(|word| word.at < at.start).last();
        !previous.is_some_and(|word| word.is_one_of(OTHER_ADDRESSES)) || any(words, LISTENS)
    };
    let named = phrase(lower, IN_USE).filter(is_port);
    let url = || phrase(lower, IN_USE_URL).filter(|_| lower.contains("http"));
    let at = named.or_else(|| number(words, IN_USE_NUMBER)).or_else(url)?;
    Some((Kind::InUse, at, true))
}

fn excluded(lower: &str, words: &[Word<'_>]) -> Option<Found> {
    let at = phrase(lower, EXCLUDED).or_else(|| number(words, EXCLUDED_NUMBER))?;
    Some((Kind::Excluded, at, true))
}

fn denied(lower: &str, words: &[Word<'_>]) -> Option<Found> {
    let of_port = phrase(lower, PORT_DENIED).or_else(|| sentence::privileged(lower, words));
    if let Some(at) = of_port {
        return Some((Kind::Denied, at, true));
    }
    let at = phrase(lower, DENIED)?;
    // A file's name, or what was to be done with it, would stand behind.
    let rest = lower.get(at.end..)?.replace("(os error 13)", "");
    let is_certain = any(words, LISTENS) || lower.contains("register url");
    let is_bare = !rest.contains(['/', ',', '\'', '"']);
    let is_mount = any(words, &["mount", "mounting", "volume"]);
    if is_mount || !(is_certain || is_bare) { None } else { Some((Kind::Denied, at, is_certain)) }
}

/// The last of the phrases, as words of their own and not as part of a path. Behind the last, Node says
/// where: `listen EADDRINUSE: address already in use 127.0.0.1:3000`.
fn phrase(lower: &str, phrases: &[&str]) -> Option<Range<usize>> {
    let stands_alone = |at: &Range<usize>| {
        let before = lower.get(..at.start).and_then(|before| before.chars().next_back());
        let mut after = lower.get(at.end..).unwrap_or_default().chars();
        let goes_on = match after.next() {
            _ if lower.get(..at.end).is_some_and(|it| it.ends_with('\'')) => false, // no word
            Some('.' | '-') => after.next().is_some_and(char::is_alphanumeric),
            Some(c) => c.is_alphanumeric() || c == '_',
            None => false,
        };
        !goes_on && !before.is_some_and(|c| c.is_alphanumeric() || "/-".contains(c))
    };
    let all = phrases.iter().flat_map(|phrase| lower.match_indices(phrase));
    let all = all.map(|(at, phrase)| at..at + phrase.len());
    all.filter(stands_alone).max_by_key(|at| at.end)
}

fn number(words: &[Word<'_>], number: &str) -> Option<Range<usize>> {
    let is_it = |pair: &&[Word<'_>]| match pair {
        [before, it] => it.text == number && before.is_one_of(BEFORE_A_NUMBER),
        _ => false, // cannot be
    };
    let found = words.windows(2).find(is_it)?.last()?;
    Some(found.at..found.end())
}

/// A socket file, or a pipe: the port is none.
fn is_of_file(lower: &str, words: &[Word<'_>], at: &Range<usize>) -> bool {
    let rest = lower.get(at.end..).unwrap_or_default().trim_start_matches([':', ' ']);
    let is_path = rest.starts_with("\\\\")
        || rest.strip_prefix('/').is_some_and(|rest| rest.starts_with(char::is_alphabetic));
    let is_named =
        lower.split(".sock").skip(1).any(|rest| !rest.starts_with(char::is_alphanumeric));
    is_path || is_named || any(words, &["unix"])
}
