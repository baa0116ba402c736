//! The child's half: which of the sockets that it inherits a program gets by `portlease::child`, and what it
//! says when it gets none. Under each way to agree on a port: `everywhere`. Messages that mention a port:
//! `messages.rs`.
#![cfg(target_os = "linux")] // inherited sockets, and looks into `/proc`

mod support;

use std::fs;
use std::io;
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use portlease::Server;
use socket2::{Domain, Socket, Type};
use support::{
    Allotment, OwnRegistry, TestChild, by_itself, child_command, child_path, eventually, fails,
    own_half_command, shell, stdout_of, who_answers,
};

/// The child program, which inherits this as descriptor 3; all that it prints goes to standard output.
fn inherits(descriptor: impl Into<OwnedFd>, arguments: &[&str]) -> Command {
    let mut command = by_itself(shell("exec \"$0\" \"$@\" 3<&2 2>&1"));
    command.args(arguments).stderr(Stdio::from(descriptor.into())).env("LISTEN_FDS", "1");
    command
}

fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[test]
fn by_itself_it_takes_a_port_and_says_which() {
    let starts = |command: Command| {
        let mut child = TestChild::spawn(by_itself(command));
        let grpc: u16 = child.line_after("GRPC_PORT=").parse().unwrap();
        let port: u16 = child.line().unwrap().strip_prefix("PORT=").unwrap().parse().unwrap();
        for port in [grpc, port] {
            assert_eq!(who_answers(("127.0.0.1", port)), child.id());
        }
        port
    };
    let first = starts(own_half_command(&["grpc"]));
    assert_ne!(starts(shell("PORT=0 exec \"$0\" own-half grpc")), 0);
    assert_ne!(first, 0);
    let block = Allotment::new();
    let told = block.first;
    let script = format!("PORT={told} exec \"$0\" own-half grpc");
    // Again, when connections of the first are in TIME_WAIT.
    for _ in 0..2 {
        assert_eq!(starts(shell(&script)), told);
    }
}

#[test]
fn on_another_address() {
    let own = OwnRegistry::new();
    for host in ["127.0.0.2", "::1"] {
        let host: IpAddr = host.parse().unwrap();
        if TcpListener::bind((host, 0)).is_err() {
            support::skip("there is no IPv6 here").unwrap_or(());
            continue;
        }
        let program = || Server::builder(child_command(&["own-half-on", &host.to_string()]));
        let told = program().env_port("PORT").lease(own.request().lease().unwrap());
        let inherits = program().inherit_port().lease(own.request().lease().unwrap());
        for builder in [told, inherits, program().report_port(), program().observe_port()] {
            let server = builder.host(host).start().unwrap();
            assert_eq!(who_answers(server.addr()), server.pid());
        }
    }
}

#[test]
fn sockets_are_known_by_their_names() {
    // The main one comes last.
    let script = "export LISTEN_FDNAMES=grpc:main; exec \"$0\" own-half grpc 5<&3 3<&4 4<&5 5<&-";
    let builder = Server::builder(shell(script)).inherit_port().inherit_port_named("grpc");
    let server = builder.start().unwrap();
    for port in [server.port(), server.port_of("grpc").unwrap()] {
        assert_eq!(who_answers(("127.0.0.1", port)), server.pid());
    }
    // Without its name, as systemd passes it, or without any: the first.
    for names in [Some("my-server.socket"), Some(""), None] {
        let (listener, port) = listen();
        let mut command = inherits(listener, &["own-half"]);
        command.envs(names.map(|names| ("LISTEN_FDNAMES", names)));
        let mut child = TestChild::spawn(command);
        assert_eq!(child.line(), Some(format!("PORT={port}")), "{names:?}");
        assert_eq!(who_answers(("127.0.0.1", port)), child.id());
    }
}

#[test]
fn sockets_of_another_process_are_left_alone() {
    let (listener, port) = listen();
    let others = listener.try_clone().unwrap();
    let link = format!("socket:[{}]", inode(&others));
    let script = "readlink /proc/$PPID/fd/3; readlink /proc/$$/fd/3";
    let mut command = inherits(listener, &["own-half-then", script]);
    command.env("LISTEN_PID", "1").env("LISTEN_FDS", "whatever");
    let said = stdout_of(&command.output().unwrap());
    let lines: Vec<_> = said.lines().collect();
    assert_ne!(lines[0], format!("PORT={port}"));
    assert!(lines[0].starts_with("PORT="), "{said}");
    assert_eq!(lines[1..], [&link, &link], "it is open as before, and handed on");
}

#[test]
fn an_inherited_socket_goes_no_further() {
    let (listener, port) = listen();
    let link = format!("socket:[{}]", inode(&listener));
    let script = "readlink /proc/$PPID/fd/3; readlink /proc/$$/fd/3 || echo none";
    let output = inherits(listener, &["own-half-then", script]).output().unwrap();
    assert_eq!(stdout_of(&output), format!("PORT={port}\n{link}\nnone"));
    // What it starts, and asks for a listener with its environment, learns why there is none.
    let (listener, port) = listen();
    let script = format!("exec '{}' own-half 2>&1", child_path().display());
    let output = inherits(listener, &["own-half-then", &script]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, format!("PORT={port}\n{NOT_OPEN}\n"));
}

fn inode(listener: &TcpListener) -> u64 {
    let link = fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap();
    let link = link.to_str().unwrap();
    link.trim_start_matches("socket:[").trim_end_matches(']').parse().unwrap()
}

/// As one made by an event loop, which would make the server's `accept` fail.
#[test]
fn it_blocks() {
    let (listener, port) = listen();
    listener.set_nonblocking(true).unwrap();
    let mut child = TestChild::spawn(inherits(listener, &["own-half"]));
    assert_eq!(child.line(), Some(format!("PORT={port}")));
    assert_eq!(who_answers(("127.0.0.1", port)), child.id());
}

const TAKEN: &str = "InvalidInput: failed to take the inherited socket, descriptor 3 (LISTEN_FDS is 1): an \
     earlier call in this process has taken it; keep the listener which that returned, or clone it \
     (`TcpListener::try_clone`)";

#[test]
fn it_is_taken_once() {
    let (listener, port) = listen();
    let output = inherits(listener, &["own-half-twice"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("PORT={port}\n{TAKEN}\n"));
    // By whichever thread.
    let (listener, port) = listen();
    let mut child = TestChild::spawn(inherits(listener, &["own-half-by-threads", "8"]));
    assert_eq!(child.line(), Some(format!("PORT={port}")));
    for _ in 0..7 {
        assert_eq!(child.line().as_deref(), Some(TAKEN));
    }
    assert_eq!(child.line().as_deref(), Some("all have asked"));
    assert_eq!(who_answers(("127.0.0.1", port)), child.id());
    // With it, the socket is gone.
    child.kill();
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    eventually("nobody listens", || TcpStream::connect(("127.0.0.1", port)).is_err_and(refused));
}

const NOT_OPEN: &str = "InvalidInput: failed to take the inherited socket, descriptor 3 (LISTEN_FDS is 1): \
     it is not open; whoever sets LISTEN_FDS has to pass it; if LISTEN_FDS was meant for the process that \
     started this one, let that remove it (`Command::env_remove`)";

#[test]
fn descriptors_that_are_no_inherited_listener() {
    let taking =
        "InvalidInput: failed to take the inherited socket, descriptor 3 (LISTEN_FDS is 1)";
    let not = |what: &str| {
        format!(
            "{taking}: it is {what}; whoever sets LISTEN_FDS has to pass one that listens by TCP"
        )
    };
    let program = |redirected: &str| {
        let script = format!("exec \"$0\" \"$@\" {redirected}");
        let mut command = by_itself(shell(&script));
        command.env("LISTEN_FDS", "1");
        command
    };
    fails(program("3<&-").arg("own-half"), NOT_OPEN);
    fails(program("3</dev/null").arg("own-half"), &not("\"/dev/null\", and no socket"));
    let mut udp = inherits(UdpSocket::bind("127.0.0.1:0").unwrap(), &["own-half"]);
    fails(&mut udp, &not("a UDP socket"));
    let dir = tempfile::tempdir().unwrap();
    let unix = UnixListener::bind(dir.path().join("socket")).unwrap();
    fails(&mut inherits(unix, &["own-half"]), &not("a Unix socket"));
    let not_listening = format!(
        "{taking}: it is a TCP socket that does not listen; whoever passes it has to call `listen` on it \
         (for systemd: `Accept=no`)"
    );
    let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    fails(&mut inherits(bound, &["own-half"]), &not_listening);
    let (listener, port) = listen();
    let connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
    fails(&mut inherits(connection, &["own-half"]), &not_listening);
    drop(listener);
    let opened = format!(
        "{taking}: it is marked to be closed at exec, so this process has opened it itself, or other \
         code has taken the socket; if LISTEN_FDS was meant for the process that started this one, let \
         that remove it (`Command::env_remove`)"
    );
    fails(program("3<&-").arg("own-half-opened"), &opened);
    // The name and the place are told.
    let mut named = program("3<&- 4</dev/null");
    named.args(["own-half", "grpc"]).env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", "main:grpc");
    let expected = not("\"/dev/null\", and no socket");
    let expected = expected.replace("socket, descriptor 3", "socket \"grpc\", descriptor 4");
    fails(&mut named, &expected.replace("LISTEN_FDS is 1", "LISTEN_FDS is 2"));
}

#[test]
fn an_environment_that_tells_of_no_sockets() {
    let program = |name: &str, value: &str| {
        let mut command = by_itself(own_half_command(&[]));
        command.env("LISTEN_FDS", "1").env(name, value);
        command
    };
    for count in ["", "0", "x", "-1", "65536", "99999999999999999999"] {
        let expected = format!(
            "InvalidInput: the environment variable LISTEN_FDS is {count:?}, which is not a number of \
             sockets from 1 to 65535; correct it, or unset it if this process inherits none"
        );
        fails(&mut program("LISTEN_FDS", count), &expected);
    }
    for pid in ["", "$$", "-1"] {
        let expected = format!(
            "InvalidInput: the environment variable LISTEN_PID is {pid:?}, which is not a pid; it is \
             that of the process which the sockets are for, as `portlease::socket_activated` sets it: \
             correct it, or unset it for any process"
        );
        fails(&mut program("LISTEN_PID", pid), &expected);
    }
    let expected = "InvalidInput: the environment variable LISTEN_FDNAMES is \"main:grpc\", where colons \
                    make it a list of 2, and LISTEN_FDS is 1; name each socket, or unset it";
    fails(&mut program("LISTEN_FDNAMES", "main:grpc"), expected);
    // There is no such descriptor, whatever the number.
    let mut many = by_itself(shell("exec \"$0\" own-half 3<&-"));
    let expected = NOT_OPEN.replace("LISTEN_FDS is 1", "LISTEN_FDS is 65535");
    fails(many.env("LISTEN_FDS", "65535"), &expected);
}
