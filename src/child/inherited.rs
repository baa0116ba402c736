//! The sockets that this process has inherited, as `LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES` tell
//! of them.

use std::env;
use std::ffi::{OsStr, OsString};
use std::net::TcpListener;
use std::process;

use super::which::Which;
use crate::cookie;
use crate::error::{Error, ErrorKind, Result};
use crate::range::parse_port;
use crate::sys::{self, Refused};

/// The descriptor of the first one.
const FIRST: i32 = 3;

/// The inherited socket that is for this port.
pub(super) fn socket(which: Which<'_>) -> Result<Option<TcpListener>> {
    let said = Said {
        count: env::var_os("LISTEN_FDS"),
        pid: env::var_os("LISTEN_PID"),
        names: env::var_os("LISTEN_FDNAMES"),
        by_portlease: env::var_os(cookie::VARIABLE).is_some(),
    };
    let Some(place) = said.place_of(which, process::id())? else { return Ok(None) };
    let listener = sys::adopt_listener(place.descriptor).map_err(|why| refused(&place, why))?;
    // Whoever made it may have used it in an event loop.
    let blocking = listener.set_nonblocking(false);
    blocking.map_err(|error| refused(&place, Refused::Other(error)))?;
    Ok(Some(listener))
}

/// What the environment says.
#[derive(Debug, Default)]
struct Said {
    count: Option<OsString>,
    pid: Option<OsString>,
    names: Option<OsString>,
    /// Whether it is from portlease, whose main socket is always called so.
    by_portlease: bool,
}

/// Where a socket is.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    descriptor: i32,
    name: Option<String>,
    /// Of so many sockets.
    count: u16,
}

impl Said {
    /// Where the socket for this port is. `None`: there is none, for a process of this pid.
    fn place_of(&self, which: Which<'_>, own_pid: u32) -> Result<Option<Place>> {
        let Some(count) = &self.count else { return Ok(None) };
        if let Some(pid) = &self.pid {
            if number(pid).ok_or_else(|| no_pid(pid))? != own_pid {
                return Ok(None);
            }
        }
        // There is a socket for each port at most.
        let count = count.to_str().and_then(parse_port).ok_or_else(|| no_count(count))?;
        let names = self.names.as_deref().filter(|names| !names.is_empty());
        let Some(names) = names.map(OsStr::to_string_lossy) else {
            let first = Place { descriptor: FIRST, name: None, count };
            return Ok((which == Which::Main).then_some(first));
        };
        let all: Vec<_> = names.split(':').collect();
        if all.len() != usize::from(count) {
            return Err(other_count(&names, all.len(), count));
        }
        let by_name = all.iter().position(|name| which.is(name));
        // systemd calls a socket by its unit, if nobody gives it a name.
        let takes_first = which == Which::Main && !self.by_portlease;
        let index = by_name.or(takes_first.then_some(0));
        let place = |(descriptor, name): (i32, &&str)| Place {
            descriptor,
            name: Some((*name).to_owned()),
            count,
        };
        Ok(index.and_then(|index| (FIRST..).zip(&all).nth(index)).map(place))
    }
}

fn number(value: &OsStr) -> Option<u32> {
    let text = value.to_str().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    text.parse().ok()
}

fn no_pid(value: &OsStr) -> Error {
    invalid(format!(
        "the environment variable LISTEN_PID is {value:?}, which is not a pid; it is that of the \
         process which the sockets are for, as `portlease::socket_activated` sets it: correct it, or \
         unset it for any process"
    ))
}

fn no_count(value: &OsStr) -> Error {
    invalid(format!(
        "the environment variable LISTEN_FDS is {value:?}, which is not a number of sockets from 1 to \
         65535; correct it, or unset it if this process inherits none"
    ))
}

fn other_count(names: &str, found: usize, count: u16) -> Error {
    invalid(format!(
        "the environment variable LISTEN_FDNAMES is {names:?}, where colons make it a list of {found}, \
         and LISTEN_FDS is {count}; name each socket, or unset it"
    ))
}

/// The socket is not there, or not ours to take.
fn refused(place: &Place, why: Refused) -> Error {
    let Place { descriptor, name, count } = place;
    let name = name.as_ref().map(|name| format!(" {name:?}")).unwrap_or_default();
    let doing =
        format!("take the inherited socket{name}, descriptor {descriptor} (LISTEN_FDS is {count})");
    let meant_for_parent = "if LISTEN_FDS was meant for the process that started this one, let that \
                            remove it (`Command::env_remove`)";
    let why = match why {
        Refused::Other(error) => return Error::io(ErrorKind::Io, doing, error),
        Refused::Taken => {
            "an earlier call in this process has taken it; keep the listener which that \
                           returned, or clone it (`TcpListener::try_clone`)"
                .to_owned()
        }
        Refused::NotOpen => {
            format!("it is not open; whoever sets LISTEN_FDS has to pass it; {meant_for_parent}")
        }
        Refused::NotInherited => format!(
            "it is marked to be closed at exec, so this process has opened it itself, or other code \
             has taken the socket; {meant_for_parent}"
        ),
        Refused::NoSocket(file) => {
            let file = file.map_or("no socket".to_owned(), |it| format!("{it:?}, and no socket"));
            format!("it is {file}; whoever sets LISTEN_FDS has to pass one that listens by TCP")
        }
        Refused::NotTcp(what) => {
            format!("it is {what}; whoever sets LISTEN_FDS has to pass one that listens by TCP")
        }
        Refused::NotListening => {
            "it is a TCP socket that does not listen; whoever passes it has to \
                                  call `listen` on it (for systemd: `Accept=no`)"
                .to_owned()
        }
    };
    invalid(format!("failed to {doing}: {why}"))
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u32 = 77;
    const GRPC: Which<'_> = Which::Named("grpc");

    fn said(count: &str, pid: Option<&str>, names: Option<&str>) -> Said {
        let [pid, names] = [pid, names].map(|value| value.map(OsString::from));
        Said { count: Some(count.into()), pid, names, by_portlease: false }
    }

    fn descriptor(said: &Said, which: Which<'_>) -> Option<i32> {
        said.place_of(which, OWN).expect("good").map(|place| place.descriptor)
    }

    #[test]
    fn which_descriptor_is_for_which_port() {
        let check = |said: Said, main, grpc| {
            let found = (descriptor(&said, Which::Main), descriptor(&said, GRPC));
            assert_eq!(found, (main, grpc), "{said:?}");
        };
        check(Said::default(), None, None);
        check(Said { count: None, ..said("", Some("x"), Some("main")) }, None, None);
        check(said("1", None, None), Some(3), None);
        check(said("2", Some("77"), None), Some(3), None);
        check(said("65535", None, Some("")), Some(3), None);
        check(said("1", Some("78"), None), None, None);
        check(said("x", Some("78"), Some("a:b")), None, None);
        check(said("1", None, Some("main")), Some(3), None);
        check(said("2", None, Some("main:grpc")), Some(3), Some(4));
        check(said("3", None, Some("a:grpc:main")), Some(5), Some(4));
        check(said("3", None, Some("grpc:grpc:main")), Some(5), Some(3));
        check(said("2", None, Some("my-server.socket:grpc")), Some(3), Some(4));
        check(said("1", None, Some("grpc")), Some(3), Some(3));
        let by_portlease =
            |count, names| Said { by_portlease: true, ..said(count, None, Some(names)) };
        check(by_portlease("1", "grpc"), None, Some(3));
        check(by_portlease("2", "grpc:main"), Some(4), Some(3));
    }

    #[test]
    fn what_is_no_description_of_sockets() {
        let check = |said: Said| {
            let error = said.place_of(Which::Main, OWN).expect_err("not good");
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{said:?}");
        };
        for count in ["", "0", "-1", "+1", "x", "1 ", "1.0", "65536", "99999999999999999999"] {
            check(said(count, None, None));
        }
        for pid in ["", "$$", "-77", "+77", " 77", "99999999999999999999"] {
            check(said("1", Some(pid), None));
        }
        check(said("1", None, Some("a:main")));
        check(said("2", None, Some("main")));
        check(said("2", None, Some(":main:")));
    }
}
