//! The ports of a server, and what each is called: by its variable, in its line, as a socket. Pure.

use crate::error::{Error, ErrorKind, Result};

/// What the main socket is called in `LISTEN_FDNAMES`.
const MAIN: &str = "main";

/// One of the server's ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which<'a> {
    Main,
    Named(&'a str),
}

impl<'a> Which<'a> {
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`]: no variable, or line of a report, can have the name in it.
    pub(super) fn named(name: &'a str) -> Result<Which<'a>> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || !name.chars().all(is_part) {
            return Err(invalid(format!(
                "{name:?}: no port can have that name; use letters, digits, `_` and `-` of ASCII"
            )));
        }
        if name.eq_ignore_ascii_case(MAIN) {
            return Err(invalid(format!(
                "{name:?} is the server's main port: use `listener()` and `announce(..)`"
            )));
        }
        Ok(Which::Named(name))
    }

    /// `PORT`; `GRPC_PORT` for `grpc`, `MY_ADMIN_PORT` for `my-admin`.
    pub(super) fn variable(self) -> String {
        match self {
            Which::Main => "PORT".to_owned(),
            Which::Named(name) => format!("{}_PORT", in_capitals(name)),
        }
    }

    /// Whether a socket of this name is for it.
    pub(super) fn is(self, socket: &str) -> bool {
        match self {
            Which::Main => socket == MAIN,
            Which::Named(name) => in_capitals(name) == in_capitals(socket),
        }
    }
}

fn in_capitals(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_port_is_called() {
        let check = |name: &str, variable: &str, sockets: &[&str]| {
            let which = Which::named(name).expect("a name");
            assert_eq!(which.variable(), variable);
            assert!(sockets.iter().all(|socket| which.is(socket)), "{name}: {sockets:?}");
            assert!(!which.is("main") && !which.is("other"), "{name}");
        };
        check("grpc", "GRPC_PORT", &["grpc", "GRPC"]);
        check("my-admin", "MY_ADMIN_PORT", &["my-admin", "my_admin"]);
        check("my_admin", "MY_ADMIN_PORT", &["my-admin", "my_admin"]);
        check("http2", "HTTP2_PORT", &["http2"]);
        check("port", "PORT_PORT", &["port"]);
        assert_eq!(Which::Main.variable(), "PORT");
        assert!(Which::Main.is("main") && !Which::Main.is("grpc") && !Which::Main.is(""));
    }

    #[test]
    fn what_no_port_is_called() {
        for name in ["", "a b", "a:b", "a=b", "a.b", "ä", "a\0", "main", "Main"] {
            let error = Which::named(name).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}");
        }
    }
}
