//! Which port a server says it listens on. Pure: a line in, a port out.

use crate::range::parse_port;

/// The port that a line of the form `PORT=40123` reports.
pub(super) fn port(line: &str) -> Option<u16> {
    parse_port(line.trim().strip_prefix("PORT=")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Option<u16>) {
        assert_eq!(port(line), expected, "{line:?}");
    }

    #[test]
    fn lines() {
        check("PORT=40123", Some(40_123));
        check("  PORT=1\r\n", Some(1));
        check("PORT=65535", Some(65_535));
        check("PORT=0", None);
        check("PORT=65536", None);
        check("PORT=99999", None);
        check("PORT=", None);
        check("PORT=8080 ", Some(8080));
        check("PORT=80 80", None);
        check("PORT=+80", None);
        check("EXPORT=80", None);
        check("listening, PORT=80", None);
        check("port=80", None);
        check("", None);
    }
}
