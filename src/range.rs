//! Which ports may be leased, and in which order they are tried. Pure: no system call here.

use std::fmt;
use std::ops::RangeInclusive;

/// Where leases come from by default: below the ephemeral range of Linux, macOS and Windows, since
/// outgoing connections take ports from that one.
const DEFAULT: RangeInclusive<u16> = 20_000..=29_999;

/// Ports in that band on which well-known servers listen by default: leasing one of them would
/// make a test talk to a developer's own server, or keep that server from starting.
const WELL_KNOWN: &[u16] = &[
    20000, // Usermin, DNP3
    20880, // Dubbo
    22000, // Syncthing
    22222, // sshd's usual second port
    24007, 24008, // GlusterFS
    24224, // Fluentd
    24800, // Synergy
    25565, 25575, // Minecraft
    25672, // RabbitMQ's distribution
    25826, // collectd
    26257, // CockroachDB
    26379, // Redis Sentinel
    26656, 26657, // Tendermint
    27015, 27036, // Steam
    27017, 27018, 27019, // MongoDB
    27042, // Frida
    28015, 29015, // RethinkDB
    29092, // Kafka's usual second listener
    29418, // Gerrit
];

/// A set of ports: sorted, disjoint spans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortSet {
    spans: Vec<RangeInclusive<u16>>,
}

impl PortSet {
    /// The default: 20000-29999, without what the kernel hands out by itself, what the
    /// administrator reserved, and what well-known servers use. What would leave nothing is not taken
    /// away: an ephemeral range of 10000-65535, as on FreeBSD.
    pub(crate) fn default_for(ephemeral: Option<RangeInclusive<u16>>, reserved: &str) -> PortSet {
        let reserved = PortSet::parse(reserved).map(|reserved| reserved.spans).unwrap_or_default();
        let well_known = WELL_KNOWN.iter().map(|&port| port..=port).collect();
        let mut set = PortSet::from(DEFAULT);
        for gone in [vec![ephemeral.unwrap_or(32_768..=60_999)], reserved, well_known] {
            let mut rest = set.clone();
            gone.iter().for_each(|span| rest.remove(span));
            if !rest.spans.is_empty() {
                set = rest;
            }
        }
        set
    }

    /// Understands `20000-20999`, `8080`, and a list of these with commas. `None`: not such a
    /// list, or without any port, or with port 0.
    pub(crate) fn parse(text: &str) -> Option<PortSet> {
        let mut spans = Vec::new();
        for part in text.split(',').map(str::trim) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (parse_port(first.trim())?, parse_port(last.trim())?);
            if first > last {
                return None;
            }
            spans.push(first..=last);
        }
        spans.sort_by_key(|span| *span.start());
        spans.dedup_by(|next, last| {
            let touch = u32::from(*next.start()) <= u32::from(*last.end()) + 1;
            if touch {
                *last = *last.start()..=*last.end().max(next.end());
            }
            touch
        });
        Some(PortSet { spans })
    }

    fn remove(&mut self, gone: &RangeInclusive<u16>) {
        let spans = self.spans.drain(..).flat_map(|span| {
            let below = *span.start()..=gone.start().saturating_sub(1).min(*span.end());
            let above = gone.end().saturating_add(1).max(*span.start())..=*span.end();
            let below = (*gone.start() > 0).then_some(below);
            let above = (*gone.end() < u16::MAX).then_some(above);
            [below, above].into_iter().flatten().filter(|part| !part.is_empty())
        });
        self.spans = spans.collect();
    }

    /// How many ports are in it.
    pub(crate) fn len(&self) -> u32 {
        self.spans.iter().map(span_len).sum()
    }

    /// The lowest and the highest port; of none, 0 and 0.
    pub(crate) fn bounds(&self) -> (u16, u16) {
        let first = self.spans.first().map_or(0, |span| *span.start());
        (first, self.spans.last().map_or(0, |span| *span.end()))
    }

    pub(crate) fn contains(&self, port: u16) -> bool {
        self.spans.iter().any(|span| span.contains(&port))
    }

    /// The port at `index`, counted from the lowest.
    fn nth(&self, index: u32) -> Option<u16> {
        let mut left = index;
        for span in &self.spans {
            if left < span_len(span) {
                return u16::try_from(u32::from(*span.start()) + left).ok();
            }
            left -= span_len(span);
        }
        None
    }

    /// Neighbouring ports, `size` at a time, beginning with those of which one is the port that `seed`
    /// determines.
    pub(crate) fn parts(&self, size: u32, seed: u64) -> impl Iterator<Item = PortSet> + '_ {
        let count = self.len().div_ceil(size);
        let first = seed.rotate_left(16) as u32 % self.len().max(1) / size;
        (0..count).map(move |step| self.part((first + step) % count * size, size))
    }

    /// At most `size` ports, from the one at `index`.
    fn part(&self, index: u32, size: u32) -> PortSet {
        let mut spans = Vec::new();
        let mut at = 0;
        for span in &self.spans {
            let end = at + span_len(span);
            let (from, to) = (index.max(at), (index + size).min(end));
            if from < to {
                let port = |index| span.start() + (index - at) as u16; // one of the span
                spans.push(port(from)..=port(to - 1));
            }
            at = end;
        }
        PortSet { spans }
    }

    /// Every port once, in an order that `seed` determines.
    ///
    /// Processes that start at the same place would queue behind each other for the same ports
    /// (reserve-port lost 9 511 of 10 240 picks that way). A stride that is coprime to the number
    /// of ports reaches each of them exactly once, and needs no memory.
    pub(crate) fn shuffled(&self, seed: u64) -> impl Iterator<Item = u16> + '_ {
        let len = self.len().max(1);
        let (high, low) = ((seed >> 32) as u32, seed as u32);
        let mut stride = high % len;
        while gcd(stride, len) != 1 {
            stride += 1; // ends at the latest at a multiple of `len`, plus 1
        }
        let start = u64::from(low % len);
        (0..u64::from(len))
            .map(move |step| (start + step * u64::from(stride)) % u64::from(len))
            .filter_map(|index| self.nth(u32::try_from(index).ok()?))
    }

    /// The first port of every block of `size` consecutive ports, from a place that `seed`
    /// determines upwards, and then from the bottom.
    pub(crate) fn blocks(&self, size: u16, seed: u64) -> impl Iterator<Item = u16> + '_ {
        let starts = self.spans.iter().flat_map(move |span| {
            let last = span.end().checked_sub(size.saturating_sub(1));
            *span.start()..=last.unwrap_or(0)
        });
        let count = starts.clone().count();
        let skip = if count == 0 { 0 } else { (seed % count as u64) as usize };
        starts.cycle().skip(skip).take(count)
    }
}

impl From<RangeInclusive<u16>> for PortSet {
    fn from(range: RangeInclusive<u16>) -> PortSet {
        let spans = if range.is_empty() { Vec::new() } else { vec![range] };
        PortSet { spans }
    }
}

/// In the form that [`PortSet::parse`] reads; of many spans, only the first and the last port.
impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.spans.first(), self.spans.last()) {
            (Some(first), Some(last)) if first.start() == last.end() => {
                write!(f, "{}", first.start())
            }
            (Some(first), Some(last)) => write!(f, "{}-{}", first.start(), last.end()),
            _ => f.write_str("an empty range"),
        }
    }
}

/// A port number that can be asked for: 1 to 65535, in digits only.
pub(crate) fn parse_port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&port| digits && port > 0)
}

fn span_len(span: &RangeInclusive<u16>) -> u32 {
    u32::from(*span.end()) - u32::from(*span.start()) + 1
}

fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> PortSet {
        PortSet::parse(text).unwrap_or(PortSet { spans: Vec::new() })
    }

    fn check_parse(text: &str, expected: Option<&[RangeInclusive<u16>]>) {
        assert_eq!(PortSet::parse(text).map(|set| set.spans).as_deref(), expected, "{text:?}");
    }

    #[test]
    fn parse() {
        check_parse("20000-20999", Some(&[20_000..=20_999]));
        check_parse("8080", Some(&[8080..=8080]));
        check_parse(" 9000-9010, 8080\n", Some(&[8080..=8080, 9000..=9010]));
        check_parse("1-5,4-9,10", Some(&[1..=10]));
        check_parse("1-9,3-4", Some(&[1..=9]));
        check_parse("65535", Some(&[65_535..=65_535]));
        for bad in ["", ",", "-", "0", "0-9", "9-1", "65536", "+1", "1-", "a", "1 2", "１"] {
            check_parse(bad, None);
        }
    }

    fn check_remove(from: &str, gone: RangeInclusive<u16>, expected: &[RangeInclusive<u16>]) {
        let mut set = set(from);
        set.remove(&gone);
        assert_eq!(set.spans, expected, "{from} without {gone:?}");
    }

    #[test]
    fn remove() {
        check_remove("10-20", 14..=16, &[10..=13, 17..=20]);
        check_remove("10-20", 10..=10, &[11..=20]);
        check_remove("10-20", 20..=30, &[10..=19]);
        check_remove("10-20", 0..=9, &[10..=20]);
        check_remove("10-20", 21..=65_535, &[10..=20]);
        check_remove("10-20", 0..=65_535, &[]);
        check_remove("1-65535", 1024..=65_535, &[1..=1023]);
        check_remove("1-5,8-9", 4..=8, &[1..=3, 9..=9]);
    }

    #[test]
    fn default_leaves_out_what_others_use() {
        let usual = PortSet::default_for(Some(32_768..=60_999), "20001,20003-20004");
        assert_eq!(usual.spans[0], 20_002..=20_002);
        assert_eq!(usual.spans[1].start(), &20_005);
        assert!(!usual.shuffled(7).any(|port| port == 27_017));
        assert_eq!(usual.len(), 10_000 - 3 - WELL_KNOWN.len() as u32);
        let overlapping = PortSet::default_for(Some(25_000..=60_999), "\n");
        assert_eq!(overlapping.to_string(), "20001-24999");
    }

    #[test]
    fn what_would_leave_nothing_is_not_left_out() {
        let but_well_known = PortSet::default_for(None, "");
        for (ephemeral, reserved) in [
            (Some(10_000..=65_535), ""), // FreeBSD
            (None, "20000-29999"),
            (Some(1024..=65_535), "1-65535"),
        ] {
            assert_eq!(PortSet::default_for(ephemeral, reserved), but_well_known, "{reserved}");
        }
        assert_eq!(but_well_known.len(), 10_000 - WELL_KNOWN.len() as u32);
    }

    #[test]
    fn shuffled_reaches_every_port_once() {
        for text in ["5", "5-6", "1-7", "10-19,30,40-49", "20000-29999"] {
            for seed in [0, 1, u64::MAX, 0x1234_5678_9abc_def0] {
                let mut seen: Vec<u16> = set(text).shuffled(seed).collect();
                assert_eq!(seen.len(), set(text).len() as usize);
                seen.sort_unstable();
                seen.dedup();
                assert_eq!(seen.len(), set(text).len() as usize, "{text}, seed {seed}");
            }
        }
        assert_eq!(PortSet { spans: Vec::new() }.shuffled(3).count(), 0);
    }

    #[test]
    fn parts_are_the_whole_beginning_anywhere() {
        let mut first = std::collections::BTreeSet::new();
        for seed in 0..1000_u64 {
            let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let whole = set("10-19,30,40-49");
            let parts: Vec<_> = whole.parts(4, seed).collect();
            assert!(parts.iter().all(|part| (1..=4).contains(&part.len())), "{parts:?}");
            let mut ports: Vec<u16> = parts.iter().flat_map(|part| part.shuffled(seed)).collect();
            ports.sort_unstable();
            assert_eq!(ports, whole.spans.iter().cloned().flatten().collect::<Vec<_>>());
            first.insert(parts[0].to_string());
        }
        let all = ["10-13", "14-17", "18-40", "41-44", "45-48", "49"].map(str::to_owned);
        assert_eq!(first, all.into());
        assert_eq!(PortSet { spans: Vec::new() }.parts(4, 7).count(), 0);
    }

    #[test]
    fn ports_that_are_in_it() {
        let ports = set("10-19,30,40-49");
        assert_eq!(ports.bounds(), (10, 49));
        assert!([10, 19, 30, 40, 49].iter().all(|&port| ports.contains(port)));
        assert!(![9, 20, 31, 39, 50].iter().any(|&port| ports.contains(port)));
        assert_eq!(PortSet { spans: Vec::new() }.bounds(), (0, 0));
    }

    fn check_blocks(text: &str, size: u16, seed: u64, expected: &[u16]) {
        assert_eq!(set(text).blocks(size, seed).collect::<Vec<_>>(), expected, "{text} by {size}");
    }

    #[test]
    fn blocks() {
        check_blocks("10-14", 3, 0, &[10, 11, 12]);
        check_blocks("10-14", 3, 2, &[12, 10, 11]);
        check_blocks("10-14,20-22", 3, 0, &[10, 11, 12, 20]);
        check_blocks("10-14", 6, 0, &[]);
        check_blocks("1-2", 9, 5, &[]);
        check_blocks("65534-65535", 2, 1, &[65_534]);
    }
}
