//! Ports that the server chooses: what it says of them, and what it listens on.
#![cfg(target_os = "linux")] // elsewhere, nobody looks

mod support;

use std::io;
use std::net::{Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::Duration;

use portlease::{Error, ErrorKind, Ready, Server, ServerBuilder, Signal};
use support::twin::{Twin, not_ready, table};
use support::{
    Allotment, DEADLINE, OwnRegistry, child_command, child_path, eventually, lives, shell, skip,
    who_answers,
};

table! {
    it_is_reported_on_either_stream_in_a_usual_form,
    a_form_of_its_own,
    of_two_ports_the_main_one_is_taken,
    what_it_listens_on_before_its_main_port_is_not_taken_for_it,
    two_of_one_kind_are_an_error_with_both_lines,
    the_port_of_somebody_else_does_not_count,
    what_is_no_port,
    one_that_says_nothing_has_the_port_on_which_it_listens,
    one_whose_output_is_held_back,
    it_is_observed,
    several_ports_each_by_its_own_way,
    it_is_ready_when_it_listens_on_all_of_them,
    further_ports_beside_one_that_it_chooses,
    a_lease_and_a_choice_of_its_own_make_no_sense,
    another_address,
    one_without_a_port,
    it_is_reported_in_a_file,
    a_udp_server,
    one_number_for_tcp_and_udp,
    a_stranger_on_the_udp_port_is_named,
    an_inherited_socket,
    several_inherited_sockets_and_the_pid,
    who_inherits_a_socket_is_ready_when_it_accepts,
    who_inherits_a_socket_is_asked_for_more_than_a_connection,
    a_copy_of_the_last_socket_for_a_moment_does_no_harm,
    a_socket_that_cannot_be_inherited,
}

/// A server that listens on so many ports, and prints `text` with them.
fn chooses(count: u32, stream: &str, text: &str) -> ServerBuilder {
    Server::builder(child_command(&["chooses", &count.to_string(), stream, text])).name("api")
}

/// Starts it, and checks that its first port is taken for the main one.
fn check<S: Twin>(builder: ServerBuilder) {
    drop(checked::<S>(builder));
}

fn checked<S: Twin>(builder: ServerBuilder) -> S {
    let server = S::start(builder).unwrap();
    assert_eq!(who_answers(server.addr()), server.pid());
    server
}

fn fails<S: Twin>(builder: impl Fn() -> ServerBuilder, expected: &str) -> Error {
    not_ready::<S>(builder, |error| error.to_string().contains(expected))
}

fn it_is_reported_on_either_stream_in_a_usual_form<S: Twin>() {
    for text in [
        "PORT={0}",
        "starting\nPORT={0}\nstarted",
        r#"{"level":"info","msg":"listening","port":{0}}"#,
        "\u{1b}[32m  Local:\u{1b}[39m   http://127.0.0.1:\u{1b}[1m{0}\u{1b}[22m/",
        "Serving HTTP on 127.0.0.1 port {0}",
        "\u{fffd}listening on [::ffff:127.0.0.1]:{0}",
    ] {
        check::<S>(chooses(1, "stdout", text).report_port());
        check::<S>(chooses(1, "stderr", text).report_port());
    }
}

fn a_form_of_its_own<S: Twin>() {
    let own = |line: &str| line.strip_prefix("~")?.parse().ok();
    check::<S>(chooses(1, "stdout", "~{0}").report_port_where(own));
    // By then, no other form counts.
    check::<S>(chooses(2, "stdout", "PORT={1}\n~{0}").report_port_where(own));
    // Its output is read on.
    let panics = chooses(1, "stdout", "first\nsecond").report_port_where(|_| panic!("on purpose"));
    let server = S::start(panics).unwrap();
    server.wait_for_line("second", DEADLINE).unwrap();
}

fn of_two_ports_the_main_one_is_taken<S: Twin>() {
    let inspector = "Debugger listening on ws://127.0.0.1:{1}/4711\nListening on port {0}";
    check::<S>(chooses(2, "stderr", inspector).report_port());
    let better = "listening on 127.0.0.1:{1}\nhttp://127.0.0.1:{0}/";
    check::<S>(chooses(2, "stdout", better).report_port());
    let server = checked::<S>(chooses(2, "stdout", "GRPC_PORT={1}\nPORT={0}").report_port());
    let grpc = server.port_of("grpc").unwrap();
    assert_ne!(grpc, server.port());
    assert_eq!(server.port_of("metrics"), None);
}

/// For longer than a server that says nothing is waited for. It says so before it listens: then it cannot be
/// late.
fn what_it_listens_on_before_its_main_port_is_not_taken_for_it<S: Twin>() {
    let beside = Allotment::new();
    let (port, debugger) = (beside.first, "Debugger listening on ws://127.0.0.1:");
    let says = format!("echo '{debugger}{port}/4711'; ");
    let listens = format!("\"$0\" serve-on 127.0.0.1:{port} alone >/dev/null & sleep 1; ");
    let server = |says: &str, stream: &str, text: &str| {
        let script = format!("{says}{listens}exec \"$0\" chooses 1 {stream} '{text}'");
        Server::with(move |ports| {
            let mut command = shell(&script);
            command.env("FILE", ports.dir().join("port"));
            command
        })
    };
    let own = |line: &str| line.strip_prefix("~")?.parse().ok();
    for says in [&says, &format!("echo GRPC_PORT={port}; ")] {
        check::<S>(server(says, "stdout", "PORT={0}").report_port());
        check::<S>(server(says, "stdout", "~{0}").report_port_where(own));
        check::<S>(server(says, "\"$FILE\"", "{0}").report_port_file("port"));
        check::<S>(server(says, "stdout", "").observe_port());
    }
    // If no other comes, it is an error.
    let alone = || Server::builder(shell(&format!("{says}{listens}sleep 1000")));
    let expected = format!("it listens on {port}, which by what it prints is not its main port;");
    fails::<S>(|| alone().observe_port(), &expected);
    fails::<S>(|| alone().report_port(), &expected);
}

fn two_of_one_kind_are_an_error_with_both_lines<S: Twin>() {
    let both = "ready at http://127.0.0.1:{0}/\nready at http://127.0.0.1:{1}/";
    let two = || chooses(2, "stdout", both).report_port();
    let error = fails::<S>(two, "which port is its own? it reports ").to_string();
    assert_eq!(error.matches("\"ready at http://127.0.0.1:").count(), 2, "{error}");
}

/// Not its own: it is said, and somebody listens on it, but another.
fn the_port_of_somebody_else_does_not_count<S: Twin>() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let others = other.local_addr().unwrap().port();
    let text = format!("PORT={others}\nPORT={{0}}");
    check::<S>(chooses(1, "stdout", &text).report_port());
    let builder = || chooses(0, "stdout", &format!("PORT={others}")).report_port();
    let expected =
        format!("it reports port {others} (\"PORT={others}\"), where it does not listen");
    fails::<S>(builder, &expected);
    // Unless it is meant: somebody else serves the port for it.
    assert_eq!(S::start(builder().ready(Ready::connects())).unwrap().port(), others);
}

fn what_is_no_port<S: Twin>() {
    for text in ["PORT=0", "PORT=99999", "PORT="] {
        fails::<S>(|| chooses(0, "stdout", text).report_port(), "it has not printed its port");
    }
}

/// Its output is held back in a buffer, perhaps.
fn one_that_says_nothing_has_the_port_on_which_it_listens<S: Twin>() {
    check::<S>(chooses(1, "stdout", "started").report_port());
    let two = || chooses(2, "stdout", "started").report_port();
    fails::<S>(two, "which port is its own? it listens on ");
}

/// In a real one, as that of each Python and C program that prints to a pipe, and does not flush.
fn one_whose_output_is_held_back<S: Twin>() {
    if !Command::new("python3").arg("--version").output().is_ok_and(|it| it.status.success()) {
        return skip("there is no python3 here").unwrap_or(());
    }
    let script = r#"
import os, signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
listener = socket.create_server(("127.0.0.1", 0))
print("PORT=%d" % listener.getsockname()[1])
while True:
    client, _ = listener.accept()
    client.recv(1024)
    client.sendall(b"HTTP/1.0 200 OK\r\n\r\n%d" % os.getpid())
    client.close()
"#;
    let started = |options: &[&str]| {
        let mut command = Command::new("python3");
        command.args(options).args(["-c", script]).env_remove("PYTHONUNBUFFERED");
        checked::<S>(Server::builder(command).report_port().start_timeout(DEADLINE))
    };
    let server = started(&[]);
    let said = format!("PORT={}\n", server.port());
    assert_eq!(server.output(), "");
    assert_eq!(server.stop().unwrap().output(), said, "it comes when it ends");
    let server = started(&["-u"]);
    assert_eq!(server.output(), format!("PORT={}\n", server.port()));
}

fn it_is_observed<S: Twin>() {
    let mut server = checked::<S>(chooses(1, "stdout", "").observe_port());
    server.restart().unwrap();
    assert_eq!(who_answers(server.addr()), server.pid());
    let observed = |count| move || chooses(count, "stdout", "").observe_port();
    fails::<S>(observed(2), "which port is its own? it listens on ");
    fails::<S>(observed(0), "it does not listen on any port");
}

fn several_ports_each_by_its_own_way<S: Twin>() {
    let builder = Server::with(|ports| {
        let cluster = ports.get("cluster").unwrap().to_string();
        assert_eq!(ports.get("no such"), None);
        child_command(&["serve-all", "PORT", "ADMIN_PORT", &cluster])
    });
    let builder = builder.env_port("PORT").env_port("HTTP_PORT").port("cluster");
    let mut server = S::start(builder.env_port_named("admin", "ADMIN_PORT")).unwrap();
    let ports = |server: &S| {
        ["cluster", "admin"]
            .map(|name| server.port_of(name).unwrap())
            .into_iter()
            .chain([server.port()])
            .collect::<Vec<_>>()
    };
    let before = ports(&server);
    for &port in &before {
        assert_eq!(who_answers(("127.0.0.1", port)), server.pid());
    }
    server.restart().unwrap();
    assert_eq!(ports(&server), before, "all stay leased");
    let variable = |name: &str| {
        let environment = std::fs::read(format!("/proc/{}/environ", server.pid())).unwrap();
        let environment = String::from_utf8(environment).unwrap();
        let prefix = format!("{name}=");
        environment.split('\0').find_map(|entry| Some(entry.strip_prefix(&prefix)?.to_owned()))
    };
    assert_eq!(variable("PORT"), Some(server.port().to_string()));
    assert_eq!(variable("HTTP_PORT"), Some(server.port().to_string()));
    assert_eq!(variable("ADMIN_PORT"), server.port_of("admin").map(|port| port.to_string()));
}

fn it_is_ready_when_it_listens_on_all_of_them<S: Twin>() {
    let server = || {
        let server = Server::builder(child_command(&["serve-all", "PORT"])).env_port("PORT");
        server.env_port_named("admin", "ADMIN_PORT")
    };
    fails::<S>(server, "nothing listens at 127.0.0.1:");
}

fn further_ports_beside_one_that_it_chooses<S: Twin>() {
    let command = shell("\"$0\" serve-all ADMIN_PORT & exec \"$0\" chooses 1 stdout 'PORT={0}'");
    let builder = Server::builder(command).report_port().env_port_named("admin", "ADMIN_PORT");
    let server = checked::<S>(builder);
    assert_ne!(server.port_of("admin"), Some(server.port()));
    // Those that it was told are no choice of its own, however long it listens on them alone.
    let late =
        || shell("\"$0\" serve-all ADMIN_PORT & sleep 1; exec \"$0\" chooses 1 stdout 'PORT={0}'");
    let told = |builder: ServerBuilder| builder.env_port_named("admin", "ADMIN_PORT");
    check::<S>(told(Server::builder(late()).report_port()));
    check::<S>(told(Server::builder(late()).observe_port()));
}

fn a_lease_and_a_choice_of_its_own_make_no_sense<S: Twin>() {
    for builder in [chooses(1, "stdout", "").observe_port(), chooses(1, "stdout", "").no_port()] {
        let error = S::start(builder.lease(portlease::lease().unwrap())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

fn another_address<S: Twin>() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return skip("there is no IPv6 here").unwrap_or(());
    }
    let own = OwnRegistry::new();
    for (host, text) in [("::1", "[::1]"), ("127.0.0.2", "127.0.0.2")] {
        let host: std::net::IpAddr = host.parse().unwrap();
        let builder =
            Server::with(|ports| child_command(&["serve-on", &ports.addr().to_string(), "alone"]));
        let builder = builder.host(host).lease(own.request().lease().unwrap());
        let server = S::start(builder).unwrap();
        assert_eq!(server.addr().ip(), host);
        assert_eq!(server.url("/"), format!("http://{text}:{}/", server.port()));
        assert_eq!(who_answers(server.addr()), server.pid());
    }
}

fn one_without_a_port<S: Twin>() {
    let own = OwnRegistry::new();
    let worker = S::start(Server::builder(child_command(&["sleep"])).no_port()).unwrap();
    let pid = worker.pid();
    assert!(lives(pid));
    assert_eq!((worker.port(), own.registry.list().unwrap()), (0, vec![]));
    worker.stop().unwrap();
    eventually("it is gone", || !lives(pid));
    let script = "echo started; sleep 1000";
    let builder = Server::builder(shell(script)).no_port().ready(Ready::line("started"));
    let worker = S::start(builder.start_timeout(DEADLINE)).unwrap();
    assert_eq!(worker.output(), "started\n");
    let ends = Server::builder(shell("echo no; exit 4")).no_port().ready(Ready::line("started"));
    assert_eq!(S::start(ends).unwrap_err().kind(), ErrorKind::Exited);
}

fn it_is_reported_in_a_file<S: Twin>() {
    for text in ["{0}", "{0}\n/some/path\n", "PORT={0}\n", r#"{"port": {0}}"#] {
        let builder = Server::with(move |ports| {
            let file = ports.dir().join("port");
            assert!(!file.exists(), "that of the last start is there");
            child_command(&["chooses", "1", file.to_str().unwrap(), text])
        });
        let mut server = checked::<S>(builder.report_port_file("port"));
        server.restart().unwrap();
        assert_eq!(who_answers(server.addr()), server.pid());
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("port");
    check::<S>(chooses(1, file.to_str().unwrap(), "{0}").report_port_file(&file));
    // Of an earlier run, or not there: two listen, and none is said.
    for name in [file, dir.path().join("none")] {
        let two = || chooses(2, "stdout", "started").report_port_file(&name);
        fails::<S>(two, "which port is its own? it listens on ");
    }
    let none = || chooses(0, "stdout", "").report_port_file("port");
    fails::<S>(none, "not written its port to the file");
}

/// Who answers to a datagram: its pid.
fn who_answers_udp(server: &impl Twin) -> u32 {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(server.addr()).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.send(b"?").unwrap();
    let mut answer = [0; 16];
    let size = client.recv(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[..size]).parse().unwrap()
}

fn told(role: &'static str) -> ServerBuilder {
    Server::with(move |ports| child_command(&[role, &ports.main().to_string()]))
}

fn a_udp_server<S: Twin>() {
    let mut server = S::start(told("datagrams").udp()).unwrap();
    assert_eq!(who_answers_udp(&server), server.pid());
    let port = server.port();
    server.restart().unwrap();
    assert_eq!((who_answers_udp(&server), server.port()), (server.pid(), port));
    let observed = Server::builder(child_command(&["datagrams", "0"])).udp().observe_port();
    let observed = S::start(observed).unwrap();
    assert_eq!(who_answers_udp(&observed), observed.pid());
    let reported = Server::builder(child_command(&["datagrams", "0"])).udp().report_port();
    let reported = S::start(reported).unwrap();
    assert_eq!(who_answers_udp(&reported), reported.pid());
    // One that serves TCP is none.
    fails::<S>(|| told("serve").udp(), "no UDP socket is bound to 127.0.0.1:");
}

fn one_number_for_tcp_and_udp<S: Twin>() {
    let server = S::start(told("datagrams-and-serve").tcp_and_udp()).unwrap();
    assert_eq!(who_answers_udp(&server), server.pid());
    assert_eq!(who_answers(server.addr()), server.pid());
    fails::<S>(|| told("serve").tcp_and_udp(), "no UDP socket is bound");
    fails::<S>(|| told("datagrams").tcp_and_udp(), "nothing listens at");
}

/// It is not to be told from the server by a client.
fn a_stranger_on_the_udp_port_is_named<S: Twin>() {
    let own = OwnRegistry::new();
    let lease = own.request().lease().unwrap();
    let _stranger = lease.bind_udp().unwrap();
    let sleeps = Server::with(|_| child_command(&["sleep"])).lease(lease).udp();
    let error = S::start(sleeps).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PortTaken, "{error}");
    assert!(error.to_string().contains(&format!(" {} (", std::process::id())), "{error}");
}

fn an_inherited_socket<S: Twin>() {
    let own = OwnRegistry::new();
    let lease = own.request().lease().unwrap();
    let port = lease.port();
    let script = "echo \"$LISTEN_FDS $LISTEN_FDNAMES ${LISTEN_PID-none} $PORT\"; \
                  exec \"$0\" serve-inherited <&3";
    // As it stands at each start, and made anew for each.
    let same = Server::builder(shell(script));
    let anew = Server::with(move |_| shell(script));
    let mut lease = Some(lease);
    for builder in [same, anew] {
        let lease = lease.take().unwrap_or_else(|| own.request().exact(port).lease().unwrap());
        let builder = builder.lease(lease).inherit_port().env_port("PORT");
        let mut server = S::start(builder).unwrap();
        for _ in 0..3 {
            let line = server.wait_for_line("main", DEADLINE).unwrap(); // its reader may be slow
            assert_eq!(line.text(), format!("1 main none {port}"));
            assert_eq!((who_answers(server.addr()), server.port()), (server.pid(), port));
            server.restart().unwrap();
        }
        // This process has no copy of the socket.
        let addr = server.addr();
        server.signal(Signal::Kill).unwrap();
        server.wait(DEADLINE).unwrap().expect("it ends of SIGKILL");
        let error = TcpStream::connect(addr).expect_err("somebody listens");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}

fn several_inherited_sockets_and_the_pid<S: Twin>() {
    let script = "echo \"$LISTEN_FDS $LISTEN_FDNAMES $((LISTEN_PID - $$))\"; \
                  \"$0\" serve-inherited <&4 & exec \"$0\" serve-inherited <&3";
    let mut command = portlease::socket_activated("/bin/sh");
    command.args(["-c", script]).arg(child_path());
    let builder = Server::builder(command).inherit_port().inherit_port_named("admin");
    let builder = builder.env_port_named("told", "TOLD").ready(Ready::at_once());
    let server = S::start(builder).unwrap();
    let line = server.wait_for_line("main", DEADLINE).unwrap();
    assert_eq!(line.text(), "2 main:admin 0");
    assert_eq!(who_answers(server.addr()), server.pid());
    let admin = server.port_of("admin").unwrap();
    assert!(lives(who_answers(("127.0.0.1", admin))));
    assert_eq!(server.name(), "sh");
}

/// The socket listens from the first on, and a connection is made, whether somebody accepts or not.
fn who_inherits_a_socket_is_ready_when_it_accepts<S: Twin>() {
    let expected = "it has not accepted a connection on the socket that it inherited";
    fails::<S>(|| Server::builder(child_command(&["sleep"])).inherit_port(), expected);
    // Nor does a stranger's connection before ours count.
    let waits = "\"$0\" connect $PORT & wait; \
                 until [ -e go ]; do sleep 0.01; done; exec \"$0\" serve-inherited <&3";
    let builder = || Server::builder(shell(waits)).inherit_port().env_port("PORT");
    fails::<S>(builder, expected);
}

/// One that serves one client at a time would wait for the connection that asked whether it accepts.
fn who_inherits_a_socket_is_asked_for_more_than_a_connection<S: Twin>() {
    let builder = Server::builder(shell("exec \"$0\" serve-inherited <&3"));
    let builder = builder.inherit_port().ready(Ready::http("/")).start_timeout(DEADLINE);
    check::<S>(builder);
}

/// As a child of another thread has one, between fork and exec.
fn a_copy_of_the_last_socket_for_a_moment_does_no_harm<S: Twin>() {
    let own = OwnRegistry::new();
    let lease = own.request().lease().unwrap();
    let mut copy = Some(lease.bind().unwrap());
    let server = Server::with(move |_| {
        let copy = copy.take();
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            drop(copy);
        });
        shell("exec \"$0\" serve-inherited <&3")
    });
    check::<S>(server.lease(lease).inherit_port());
}

fn a_socket_that_cannot_be_inherited<S: Twin>() {
    let own = OwnRegistry::new();
    let lease = own.request().lease().unwrap();
    let taken = lease.bind().unwrap();
    let server = Server::builder(child_command(&["sleep"])).lease(lease).inherit_port();
    let error = S::start(server).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PortTaken);
    let addr = taken.local_addr().unwrap();
    let expected =
        format!("listen on {addr} for server `test-child`: somebody listens there already");
    assert!(error.to_string().contains(&expected), "{error}");
    let binds = Server::builder(child_command(&["serve"])).inherit_port().env_port("PORT");
    let error = S::start(binds).unwrap_err().to_string();
    assert!(error.contains("the socket that it inherited listens there"), "{error}");
    let udp = Server::builder(child_command(&["sleep"])).inherit_port().udp();
    assert_eq!(S::start(udp).unwrap_err().kind(), ErrorKind::InvalidInput);
    let name = Server::builder(child_command(&["sleep"])).inherit_port().inherit_port_named("a:b");
    assert_eq!(S::start(name).unwrap_err().kind(), ErrorKind::InvalidInput);
}
