//! Why a server did not start, or would not end, in words: what was seen, and what to do.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{self, Path};
use std::process::Command;
use std::time::Duration;

use socket2::Type;

use super::daemon;
use super::ports::Ports;
use super::process::{End, described};
use crate::complaint::{Complaint, What, complaint};
use crate::diagnose;
use crate::diagnosis::Diagnosis;
use crate::error::{Error, ErrorKind};
use crate::hold;
use crate::sys::{self, ProcessEntry, Protocol};

pub(super) fn of_port(kind: ErrorKind, message: String, port: u16) -> Error {
    let error = Error::new(kind, message);
    if port == 0 { error } else { error.with_port(port) }
}

fn on_port(port: u16) -> String {
    if port == 0 { String::new() } else { format!(" on port {port}") }
}

pub(super) fn file_name(program: &OsStr) -> String {
    let file_name = Path::new(program).file_name().unwrap_or(program);
    file_name.to_string_lossy().into_owned()
}

/// This process cannot listen at `addr`, where the server is to inherit a socket.
pub(super) fn cannot_listen(name: &str, addr: SocketAddr, error: io::Error) -> Error {
    let (kind, hint) = match error.kind() {
        _ if hold::says_in_use(&error, addr.port(), Type::STREAM) => {
            (ErrorKind::PortTaken, ": somebody listens there already")
        }
        io::ErrorKind::AddrNotAvailable => {
            (ErrorKind::Io, ": it is not an address of this machine")
        }
        _ => (ErrorKind::Io, ""),
    };
    let doing = format!("listen on {addr} for server `{name}`{hint}");
    let error = Error::io(kind, doing, error);
    match kind {
        ErrorKind::PortTaken => error.with_diagnosis(diagnose::look_beside_hold(addr.port())),
        _ => error.with_port(addr.port()),
    }
}

/// What is missing of a server that inherits its socket.
pub(super) fn does_not_accept(addr: SocketAddr) -> String {
    format!(
        "it has not accepted a connection on the socket that it inherited, descriptor 3 or the next, \
         which listens on {addr}; if it wants `LISTEN_PID`, start it by `portlease::socket_activated`"
    )
}

/// The closure that makes its command returned an error.
pub(super) fn no_command(name: Option<&str>, error: io::Error) -> Error {
    let whose = name.map(|name| format!(" `{name}`")).unwrap_or_default();
    Error::io(ErrorKind::Spawn, format_args!("make the command of the server{whose}"), error)
}

pub(super) fn cannot_spawn(name: &str, command: &Command, error: io::Error) -> Error {
    let program = command.get_program();
    let in_path = !program.to_string_lossy().contains(path::is_separator);
    let hint = match (error.kind(), command.get_current_dir()) {
        (io::ErrorKind::NotFound, Some(dir)) => {
            format!("; there is no such program, or no directory {}", dir.display())
        }
        (io::ErrorKind::NotFound, None) if in_path => format!(
            "; there is no such program in PATH; install it or, if it is a binary of this package, \
             write `env!(\"CARGO_BIN_EXE_{}\")`",
            program.to_string_lossy()
        ),
        (io::ErrorKind::NotFound, None) if Path::new(program).exists() => {
            "; it is there, but not the interpreter that its first line names, or its loader"
                .to_owned()
        }
        (io::ErrorKind::NotFound, None) => "; there is no such program".to_owned(),
        (io::ErrorKind::PermissionDenied, _) if in_path => {
            "; it may not be executed, or it is not in PATH, of which some directory may not be \
             searched"
                .to_owned()
        }
        (io::ErrorKind::PermissionDenied, _) => "; it may not be executed".to_owned(),
        _ => String::new(),
    };
    Error::io(ErrorKind::Spawn, format_args!("start server `{name}`: {program:?}{hint}"), error)
}

/// It ended, with this `output`, before it was ready. `others_on`: who else is on a port.
pub(super) fn exited(
    name: &str,
    ports: &Ports,
    inherits: bool,
    end: End,
    output: &str,
    mut others_on: impl FnMut(u16) -> Option<Diagnosis>,
) -> Error {
    let how = end.status.map_or("status unknown".to_owned(), |status| status.to_string());
    let on_port = on_port(ports.main);
    let message = format!("server `{name}` ended before it was ready{on_port} ({how})");
    let found = complaint(output);
    let own = found.as_ref().and_then(|found| own_in_use(found, ports)).filter(|_| !inherits);
    if let Some(diagnosis) = own.and_then(&mut others_on) {
        let message = format!("{message}: port {} is in use", diagnosis.port());
        return Error::new(ErrorKind::PortTaken, message).with_diagnosis(diagnosis);
    }
    let hint = found.as_ref().map(|found| of_complaint(found, ports, inherits));
    let error = of_port(ErrorKind::Exited, message + &hint.unwrap_or_default(), ports.main);
    // Another port that it wanted, perhaps without being asked to.
    let other = found.filter(|found| found.what == What::InUse).and_then(|found| found.port);
    match other.filter(|&port| !ports.contain(port)).and_then(others_on) {
        Some(diagnosis) => error.with_diagnosis(diagnosis),
        None => error,
    }
}

/// It says that its port is in use, which is so, and has not ended.
pub(super) fn complained(name: &str, diagnosis: Diagnosis) -> Error {
    let message =
        format!("server `{name}` says that port {} is in use, and is not ready", diagnosis.port());
    Error::new(ErrorKind::PortTaken, message).with_diagnosis(diagnosis)
}

/// The port that is in use as the server says, if that is its own.
pub(super) fn own_in_use(found: &Complaint, ports: &Ports) -> Option<u16> {
    let port = found.port.unwrap_or(ports.main);
    (found.what == What::InUse && ports.contain(port)).then_some(port)
}

fn of_complaint(found: &Complaint, ports: &Ports, inherits: bool) -> String {
    let seen = match found.port {
        Some(port) if !ports.contain(port) => {
            return format!(
                "; it complains of port {port}, which is not leased for it: lease one for that too \
                 (`env_port_named()`), or let it bind port 0"
            );
        }
        Some(port) if found.what != What::InUse => {
            return format!("; the system does not let it have port {port}");
        }
        _ if found.what != What::InUse || ports.main == 0 => return String::new(),
        Some(_) => "its port is in use",
        None => "if it is the port that is in use",
    };
    if inherits {
        return format!(
            "; {seen}: the socket that it inherited listens there; let it take that one, descriptor 3, \
             instead of binding the port itself, or use `env_port` instead of `inherit_port`"
        );
    }
    format!(
        "; {seen}: somebody may have bound it who did not lease it; let the server bind port 0, and use \
         `report_port()`"
    )
}

/// Its own process ended without an error, and `left` went on.
pub(super) fn daemon(name: &str, port: u16, program: &str, left: &[ProcessEntry]) -> Error {
    let programs = left.iter().filter_map(|entry| sys::process_name(entry.id.pid));
    let programs = std::iter::once(program.to_owned()).chain(programs);
    let hint = programs.into_iter().find_map(|program| daemon::foreground(&program));
    let hint = hint.unwrap_or("most servers have an option for that");
    let message = format!(
        "server `{name}` ended before it was ready{} (exit status: 0), and left {}; if it made itself a \
         daemon, run it in the foreground: {hint}",
        on_port(port),
        described(left).join(", ")
    );
    of_port(ErrorKind::Exited, message, port)
}

/// What is missing of a server that is to report its port.
pub(super) const NOTHING_REPORTED: &str = "it has not printed its port, as `PORT=<number>` or in \
     another usual form, nor does it listen on one; if it should have printed it, and it is not below, it may have to flush it";

/// What is missing of a server that is to report its port in a file.
pub(super) const NOTHING_IN_FILE: &str = "it has not written its port to the file that \
     `report_port_file` names, as a number alone or in another usual form, nor does it listen on one";

/// What is missing of a server that is only looked at.
pub(super) const NOTHING_OBSERVED: &str = "it does not listen on any port that its clients get to";

/// What is missing of one at whose sockets nobody can look.
pub(super) const CANNOT_OBSERVE: &str = "where it listens cannot be looked at here; let it say so, \
     and use `report_port`, or tell it a port with `env_port`";

/// What is missing if nobody listens at `addr`; `beside`: who listens on its port.
pub(super) fn nobody_listens(protocol: Protocol, addr: SocketAddr, beside: Option<&str>) -> String {
    if protocol == Protocol::Udp {
        let beside = beside.map(|beside| format!("; {beside} is bound")).unwrap_or_default();
        return format!("no UDP socket is bound to {addr}, where its clients will send{beside}");
    }
    match beside {
        Some(beside) => format!(
            "nothing listens at {addr}, where its clients will connect; {beside} is listened on"
        ),
        None => format!(
            "nothing listens at {addr}; it must listen there, or on all addresses, on the port that \
             it is told; if it only needs longer, raise `start_timeout`"
        ),
    }
}

/// What is to be added if the server listens on these addresses, and its clients connect elsewhere:
/// to `host`, on one of these `ports`, if they are known.
pub(super) fn listens_elsewhere(
    host: IpAddr,
    ports: &[u16],
    addresses: &BTreeSet<SocketAddr>,
) -> String {
    if addresses.is_empty() {
        return String::new();
    }
    let all = |addresses: &mut dyn Iterator<Item = SocketAddr>| {
        addresses.map(|it| it.to_string()).collect::<Vec<_>>().join(" and ")
    };
    let listens = all(&mut addresses.iter().copied());
    let clients = match ports {
        [] => host.to_string(),
        ports => all(&mut ports.iter().map(|&port| SocketAddr::new(host, port))),
    };
    format!("; it listens on {listens}, and its clients will connect to {clients}")
}

/// It is not to be told which one its port is.
pub(super) fn ambiguous(name: &str, why: &str) -> Error {
    let message = format!(
        "server `{name}`: which port is its own? {why}; say so with `report_port_where`, or tell it a \
         leased one with `env_port` or `Server::with`"
    );
    Error::new(ErrorKind::NotReady, message)
}

/// Somebody else listens where it should: `who`, as `4242 (nginx) on 127.0.0.1:80`.
pub(super) fn stranger(name: &str, who: &str, diagnosis: Diagnosis) -> Error {
    let message = format!(
        "server `{name}` was started, but another listens where its clients will connect: process \
         {who}, which is not of this server; if it serves the port for the server, as a proxy does, use \
         `Ready::connects()`"
    );
    Error::new(ErrorKind::PortTaken, message).with_diagnosis(diagnosis)
}

/// Somebody did not want it any more.
pub(super) fn called_off(name: &str, port: u16) -> Error {
    let message = format!("server `{name}` was not ready when its start was called off");
    of_port(ErrorKind::NotReady, message, port)
}

/// `others`: who else is on its port, if somebody is.
pub(super) fn not_ready(
    name: &str,
    port: u16,
    timeout: Duration,
    missing: &str,
    others: Option<Diagnosis>,
) -> Error {
    let seconds = timeout.as_secs_f64();
    let message = format!("server `{name}` was not ready after {seconds:.1} s: {missing}");
    let error = of_port(ErrorKind::NotReady, message, port);
    match others {
        Some(diagnosis) => error.with_diagnosis(diagnosis),
        None => error,
    }
}

/// `processes` would not go.
pub(super) fn not_stopped(name: &str, port: u16, processes: &[String]) -> Error {
    let message = format!(
        "failed to stop server `{name}`{}: still there after SIGKILL: process {}; a leased port stays \
         leased until they are gone",
        on_port(port),
        processes.join(", ")
    );
    of_port(ErrorKind::NotStopped, message, port)
}

/// Texts that no test can provoke, or only by chance; the others are in `tests/snapshots/messages`.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_that_is_called_off() {
        let error = called_off("api", 20_001);
        let text = "server `api` was not ready when its start was called off";
        assert_eq!((error.to_string().as_str(), error.port()), (text, Some(20_001)));
    }

    #[test]
    fn udp_beside_the_address() {
        let addr = SocketAddr::from(([127, 0, 0, 1], 53));
        assert_eq!(
            nobody_listens(Protocol::Udp, addr, Some("127.0.0.2:53")),
            "no UDP socket is bound to 127.0.0.1:53, where its clients will send; 127.0.0.2:53 is bound"
        );
    }

    #[test]
    fn why_a_program_cannot_be_started() {
        let check = |program: &str, kind: io::ErrorKind, expected: &str| {
            let error = cannot_spawn("api", &Command::new(program), kind.into()).to_string();
            let (_, hint) = error.split_once(&format!("{program:?}")).expect("its program");
            assert_eq!(hint, expected, "{program}");
        };
        let (missing, denied) = (io::ErrorKind::NotFound, io::ErrorKind::PermissionDenied);
        let here = std::env::current_exe().expect("this program");
        let here = here.to_str().expect("its name");
        let in_path = "; there is no such program in PATH; install it or, if it is a binary of this \
                       package, write `env!(\"CARGO_BIN_EXE_api\")`";
        check("api", missing, in_path);
        check("./no/api", missing, "; there is no such program");
        let no_loader =
            "; it is there, but not the interpreter that its first line names, or its loader";
        check(here, missing, no_loader);
        let not_searched = "; it may not be executed, or it is not in PATH, of which some directory may not be searched";
        check("api", denied, not_searched);
        check(here, denied, "; it may not be executed");
        check(here, io::ErrorKind::OutOfMemory, "");
    }
}
