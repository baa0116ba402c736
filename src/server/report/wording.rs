//! What the words of a line say about the ports in it: its own, somebody else's, or one beside the
//! main one. Words cannot tell for sure; who listens decides in the end.

/// It listens there.
#[rustfmt::skip] // it would give each word a line
const LISTENS: &[&str] = &[
    "accepting", "available", "awaiting", "bind", "binding", "bound", "connections", "enabled",
    "exposed", "family", "hosting", "launched", "listen", "listener", "listening", "listens",
    "live", "online", "open", "opened", "opening", "publish", "ready", "run", "running", "runs",
    "serve", "serves", "serving", "start", "started", "starting", "up",
];

/// It, or somebody, goes there as a client.
#[rustfmt::skip] // it would give each word a line
const CONNECTS: &[&str] = &[
    "accepted", "connect", "connected", "connecting", "connection", "dial", "dialing", "fetch",
    "fetching", "forward", "forwarded", "forwarding", "polling", "proxied", "proxying",
    "reconnecting", "redirect", "redirecting", "remote", "upstream", "upstreams",
];

/// A listener beside the main one.
#[rustfmt::skip] // it would give each word a line
const SIDE: &[&str] = &[
    "actuator", "admin", "debugger", "debugpy", "devtools", "hmr", "inspect", "inspector", "jdwp",
    "jmx", "livereload", "management", "metrics", "monitor", "monitoring", "peer", "peers",
    "plugin", "pprof", "profiler", "prometheus", "telemetry", "transportservice",
];

/// The same, where it is no word of its own.
const SIDE_PARTS: &[&str] = &["ws://", "wss://", "dt_socket"];

/// Nobody listens, or not for much longer.
#[rustfmt::skip] // it would give each word a line
const FAILS: &[&str] = &[
    "already", "cannot", "close", "closed", "closing", "eacces", "eaddrinuse", "econnrefused",
    "failed", "failure", "refused", "shutting", "stopped", "stopping", "unable",
];

/// Words that count one after the other only.
const FAIL_TOGETHER: &[(&str, &str)] = &[
    ("could", "not"),
    ("in", "use"),
    ("not", "available"),
    ("not", "listening"),
    ("not", "ready"),
];
const LISTEN_TOGETHER: &[(&str, &str)] = &[("forwarding", "from"), ("server", "address")];
const CONNECT_TOGETHER: &[(&str, &str)] = &[("proxy", "created"), ("proxy", "to")];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    Listens,
    Connects,
}

/// The words of one line that matter.
#[derive(Debug)]
pub(super) struct Wording {
    /// By where they stand.
    signals: Vec<(usize, Signal)>,
    fails: bool,
    /// From here on, it is about a listener beside the main one.
    beside: Option<usize>,
}

impl Wording {
    pub(super) fn of(text: &str) -> Wording {
        let lower = text.to_ascii_lowercase();
        let (mut signals, mut fails, mut previous) = (Vec::new(), false, "");
        let mut side = SIDE_PARTS.iter().filter_map(|part| lower.find(part)).min();
        for (at, word) in words(&lower) {
            let together = (previous, word);
            fails |= FAILS.contains(&word) || FAIL_TOGETHER.contains(&together);
            if SIDE.contains(&word) {
                side = Some(side.map_or(at, |side| side.min(at)));
            }
            if LISTENS.contains(&word) || LISTEN_TOGETHER.contains(&together) {
                signals.push((at, Signal::Listens));
            } else if CONNECTS.contains(&word) || CONNECT_TOGETHER.contains(&together) {
                signals.push((at, Signal::Connects));
            }
            previous = word;
        }
        // It counts from the start of its sentence.
        let sentence = |at| lower.get(..at).and_then(|before| before.rfind(". ")).unwrap_or(0);
        Wording { signals, fails, beside: side.map(sentence) }
    }

    /// It tells of a failure.
    pub(super) fn fails(&self) -> bool {
        self.fails
    }

    /// What stands there is not the main port.
    pub(super) fn is_beside(&self, at: usize) -> bool {
        self.beside.is_some_and(|start| at >= start)
    }

    /// The word nearest before the place says that it listens there; without one, the first after.
    pub(super) fn listens(&self, at: usize) -> bool {
        let nearest = self.before(at).or(self.signals.first().map(|&(_, signal)| signal));
        nearest == Some(Signal::Listens)
    }

    /// The word nearest before the place says that it goes there.
    pub(super) fn connects(&self, at: usize) -> bool {
        self.before(at) == Some(Signal::Connects)
    }

    /// Some word says that it goes somewhere, and none that it listens.
    pub(super) fn only_connects(&self) -> bool {
        let all = |wanted| self.signals.iter().all(|&(_, signal)| signal == wanted);
        !self.signals.is_empty() && all(Signal::Connects)
    }

    fn before(&self, at: usize) -> Option<Signal> {
        let after = self.signals.partition_point(|&(place, _)| place < at);
        self.signals.get(..after)?.last().map(|&(_, signal)| signal)
    }
}

/// The words and where they stand. A path or a URL has none: it says where a file is.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let ends = |c: char| c.is_whitespace() || "\"'`=,()[]{}<>".contains(c);
    let place = |word: &str| word.as_ptr() as usize - text.as_ptr() as usize;
    let parts = text.split(ends).filter(|part| !part.contains('/'));
    let words = parts.flat_map(|part| part.split(|c: char| !c.is_alphanumeric()));
    words.filter(|word| !word.is_empty()).map(move |word| (place(word), word))
}
