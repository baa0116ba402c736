//! Where a server listens, with whom, and for how long: each kind of it is the right service or the
//! right error, in bounded time.
#![cfg(target_os = "linux")] // elsewhere, nobody looks

mod support;

use std::cell::RefCell;
use std::fs;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use portlease::{Error, ErrorKind, Handoff, Ready, Server, ServerBuilder, Signal, SocketState};
use socket2::SockRef;
use support::alone::in_own_small_world;
use support::twin::{Twin, not_ready, table};
use support::{
    Allotment, DEADLINE, OwnRegistry, TestChild, child_command, lives, says_that_we_listen, shell,
    signal, skip, stdout_of, who_answers,
};

table! {
    on_all_addresses,
    on_addresses_of_the_other_family_alone,
    on_its_port_and_on_another,
    with_workers_who_share_its_port,
    with_a_stranger_who_shares_its_port,
    not_on_the_port_that_it_is_told,
    not_on_its_usual_port,
    for_one_connection,
    for_one_connection_which_the_start_needs,
    until_it_dies,
    on_another_port_if_a_stranger_has_its_own,
    not_where_a_stranger_is_in_the_way,
    not_on_another_port_that_a_stranger_has,
    not_on_another_port_after_a_restart,
    without_the_environment_that_it_was_given,
}

/// Nobody listens there; but it is the only port that the kernel has for the other end.
#[test]
fn not_on_a_port_that_a_connection_with_itself_answers() {
    if !in_own_small_world("not_on_a_port_that_a_connection_with_itself_answers") {
        return;
    }
    fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40000").unwrap();
    let with_itself = TcpStream::connect("127.0.0.1:40000").unwrap();
    assert_eq!(with_itself.local_addr().unwrap(), with_itself.peer_addr().unwrap());
    // Reset: in TIME_WAIT, it would be the last one for a while.
    SockRef::from(&with_itself).set_linger(Some(Duration::ZERO)).unwrap();
    drop(with_itself);
    let builder = Server::builder(shell("echo PORT=40000; exec sleep 1000")).report_port();
    let builder = builder.ready(Ready::connects()).start_timeout(Duration::from_secs(5));
    let error = builder.start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady);
    assert!(
        error.to_string().contains("nothing accepts connections at 127.0.0.1:40000"),
        "{error}"
    );
}

/// How a server and the test agree on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Told,
    Reported,
    Observed,
}

const WAYS: [Way; 3] = [Way::Told, Way::Reported, Way::Observed];

/// A server by a script that finds in `PORT` the port that it is told, or 0.
fn script(own: &OwnRegistry, way: Way, script: &str) -> ServerBuilder {
    let mut command = shell(script);
    command.env("PORT", "0");
    let builder = Server::builder(command).name("api");
    match way {
        Way::Told => builder.env_port("PORT").lease(own.request().lease().unwrap()),
        Way::Reported => builder.report_port(),
        Way::Observed => builder.observe_port(),
    }
}

fn serves<S: Twin>(builder: ServerBuilder) -> S {
    let server = S::start(builder.start_timeout(DEADLINE)).unwrap();
    assert_eq!(who_answers(server.addr()), server.pid());
    server
}

/// Another has the port.
fn fails<S: Twin>(builder: ServerBuilder, expected: &str) {
    let error = S::start(builder.start_timeout(DEADLINE)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PortTaken, "{error}");
    assert!(error.to_string().contains(expected), "no {expected:?} in: {error}");
}

/// Somebody who listens there, until this is dropped.
fn stranger(port: u16, how: &str) -> TestChild {
    let addr = format!("127.0.0.1:{port}");
    let mut stranger = TestChild::spawn(child_command(&["serve-on", &addr, how]));
    stranger.line_after("PORT=");
    stranger
}

fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
        || skip("there is no IPv6 here").unwrap_or(false)
}

/// Its clients, who connect to 127.0.0.1, get to it as well.
fn on_all_addresses<S: Twin>() {
    let own = OwnRegistry::new();
    for way in WAYS {
        drop(serves::<S>(script(&own, way, "exec \"$0\" serve-on \"0.0.0.0:$PORT\" alone")));
        if has_ipv6() {
            drop(serves::<S>(script(&own, way, "exec \"$0\" serve-on \"[::]:$PORT\" both")));
        }
    }
}

fn on_addresses_of_the_other_family_alone<S: Twin>() {
    if !has_ipv6() {
        return;
    }
    let own = &OwnRegistry::new();
    thread::scope(|scope| {
        for (address, how, host) in [
            ("[::]", "v6only", "127.0.0.1"),
            ("[::1]", "alone", "127.0.0.1"),
            ("127.0.0.1", "alone", "::1"),
            ("0.0.0.0", "alone", "::1"),
        ] {
            for way in WAYS {
                let text = format!("exec \"$0\" serve-on \"{address}:$PORT\" {how}");
                let host: IpAddr = host.parse().unwrap();
                let builder = move || script(own, way, &text).host(host);
                let tells = move |error: &Error| {
                    let Some((_, port)) = error.output().unwrap().trim().split_once('=') else {
                        return false;
                    };
                    let nothing = SocketAddr::new(host, port.parse().unwrap());
                    let clients = format!(
                        "; it listens on {address}:{port}, and its clients will connect to {host}\n"
                    );
                    let expected = match way {
                        Way::Told => format!(
                            "nothing listens at {nothing}, where its clients will connect; \
                             {address}:{port} is listened on\n"
                        ),
                        Way::Reported => format!(
                            "it reports port {port} (\"PORT={port}\"), where it does not listen for \
                             its clients{clients}"
                        ),
                        Way::Observed => format!(
                            "it does not listen on any port that its clients get to{clients}"
                        ),
                    };
                    error.to_string().contains(&expected)
                };
                scope.spawn(move || not_ready::<S>(builder, tells));
            }
        }
    });
}

fn on_its_port_and_on_another<S: Twin>() {
    let own = OwnRegistry::new();
    drop(serves::<S>(script(&own, Way::Told, "exec \"$0\" serve-all PORT 0")));
}

fn with_workers_who_share_its_port<S: Twin>() {
    let own = OwnRegistry::new();
    let allotment = Allotment::new();
    let port = allotment.first;
    for way in WAYS {
        let text = format!(
            "[ $PORT = 0 ] && PORT={port}; on=127.0.0.1:$PORT; \
             \"$0\" serve-on $on shared & \"$0\" serve-on $on shared & wait"
        );
        let server = S::start(script(&own, way, &text).start_timeout(DEADLINE)).unwrap();
        let worker = who_answers(server.addr());
        server.stop().unwrap();
        assert!(!lives(worker), "{way:?}");
    }
}

/// Both set `SO_REUSEPORT`, and the kernel would send each client to one of them.
fn with_a_stranger_who_shares_its_port<S: Twin>() {
    let own = OwnRegistry::new();
    let allotment = Allotment::new();
    for way in WAYS {
        let lease = own.request().lease().unwrap();
        let port = if way == Way::Told { lease.port() } else { allotment.first };
        let stranger = stranger(port, "shared");
        let text = format!("exec \"$0\" serve-on 127.0.0.1:{port} shared");
        let builder = script(&own, way, &text);
        let builder = if way == Way::Told { builder.lease(lease) } else { builder };
        fails::<S>(builder, &format!("process {} ", stranger.id()));
    }
}

/// It goes to the next port, where nobody would look for it.
fn not_on_the_port_that_it_is_told<S: Twin>() {
    let own = OwnRegistry::new();
    // The next port is free, and nobody's.
    let lease = || own.request().lease_block(2).unwrap().swap_remove(0);
    let near = |how: &str| script(&own, Way::Told, &format!("exec \"$0\" serve-near $PORT {how}"));

    let told = lease();
    let stranger = stranger(told.port(), "alone");
    fails::<S>(
        near("alone").lease(told),
        &format!("process {} (test-child) on 127.0.0.1:", stranger.id()),
    );

    // It does not set SO_REUSEADDR, and the hold keeps it out.
    let told = lease();
    let port = told.port();
    let expected = format!(
        "; it listens on 127.0.0.1:{}, and its clients will connect to 127.0.0.1:{port}\n",
        port + 1
    );
    drop(told);
    let again = || near("exclusive").lease(own.request().exact(port).lease().unwrap());
    not_ready::<S>(again, |error| error.to_string().contains(&expected));

    let told = lease();
    let port = told.port();
    let server = serves::<S>(near("exclusive").lease(told).handoff(Handoff::Release));
    assert_eq!(server.port(), port);
}

fn not_on_its_usual_port<S: Twin>() {
    let own = OwnRegistry::new();
    let allotment = Allotment::new();
    let usual = allotment.first;
    let _stranger = stranger(usual, "alone");
    let text = format!("exec \"$0\" serve-near {usual} alone");
    for way in [Way::Reported, Way::Observed] {
        assert_eq!(serves::<S>(script(&own, way, &text)).port(), usual + 1, "{way:?}");
    }
}

/// It is not used up by the start.
fn for_one_connection<S: Twin>() {
    let own = OwnRegistry::new();
    for way in WAYS {
        drop(serves::<S>(script(&own, way, "exec \"$0\" serve-once")));
    }
}

/// The start itself is what was asked for, and takes no second one.
fn for_one_connection_which_the_start_needs<S: Twin>() {
    let own = OwnRegistry::new();
    for way in WAYS {
        let builder = script(&own, way, "\"$0\" serve-once; echo served; exec sleep 1000");
        let builder = builder.ready(Ready::http("/")).start_timeout(DEADLINE);
        let server = S::start(builder).unwrap();
        server.wait_for_line("served", DEADLINE).unwrap();
        // It ends of it, before that is seen or after.
        let builder = script(&own, way, "exec \"$0\" serve-once");
        match S::start(builder.ready(Ready::http("/")).start_timeout(DEADLINE)) {
            Ok(mut server) => assert!(server.wait(DEADLINE).unwrap().unwrap().success()),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Exited, "{error}"),
        }
    }
}

fn until_it_dies<S: Twin>() {
    let own = OwnRegistry::new();
    for way in WAYS {
        let mut server = serves::<S>(script(&own, way, "exec \"$0\" serve"));
        let (port, pid) = (server.port(), server.pid());
        let dies = |server: &mut S| {
            server.wait_for_line("serving", DEADLINE).unwrap();
            signal("KILL", server.pid());
            let status = server.wait(DEADLINE).unwrap().unwrap();
            assert_eq!(status.to_string(), "signal: 9 (SIGKILL)");
        };
        dies(&mut server);
        assert_eq!(server.try_wait().unwrap(), server.wait(DEADLINE).unwrap());
        assert_eq!((server.port(), server.pid()), (port, pid), "it is the same server still");
        if way == Way::Told {
            assert!(TcpStream::connect(server.addr()).is_err());
            let error = own.request().exact(port).lease().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PortTaken, "still leased");
        }
        server.wait_for_line("serving", DEADLINE).unwrap();
        let error = server.wait_for_line("never", DEADLINE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exited, "{error}");
        assert!(error.output().unwrap().contains("serving\n"), "{error}");
        assert_eq!(server.signal(Signal::Hangup).unwrap_err().kind(), ErrorKind::Exited);

        server.restart().unwrap();
        assert_eq!(who_answers(server.addr()), server.pid());
        assert!(server.pid() != pid && (server.port() == port || way != Way::Told));
        dies(&mut server);
        let stopped = server.stop().unwrap();
        assert_eq!(stopped.status().unwrap().to_string(), "signal: 9 (SIGKILL)");
        assert!(!stopped.forced() && stopped.output().contains("serving\n"), "{stopped:?}");

        let mut server = serves::<S>(script(&own, way, "exec \"$0\" serve"));
        dies(&mut server);
        drop(server);
        assert_eq!(own.registry.list().unwrap(), [], "{way:?}");
    }
}

/// A stranger takes the leased port in the last moment: the server gets another one, unless its lease was
/// given.
fn on_another_port_if_a_stranger_has_its_own<S: Twin>() {
    let strangers = Arc::new(Mutex::new(Vec::new()));
    let with_strangers = |count: usize| {
        let strangers = Arc::clone(&strangers);
        Server::with(move |ports| {
            let mut strangers = strangers.lock().unwrap();
            if strangers.len() < count {
                strangers.push(TcpListener::bind(ports.addr()).unwrap());
            }
            let mut command = shell("\"$0\" serve \"$1\" 2>&- || exec \"$0\" sleep");
            command.arg(ports.main().to_string());
            command
        })
    };
    let server = S::start(with_strangers(2)).unwrap();
    assert!(lives(who_answers(server.addr())));
    let taken = |at: usize| strangers.lock().unwrap()[at].local_addr().unwrap().port();
    assert!(taken(0) != taken(1) && server.port() != taken(0) && server.port() != taken(1));
    drop(server);

    strangers.lock().unwrap().clear();
    let error = S::start(with_strangers(9)).unwrap_err();
    assert_eq!((error.kind(), error.port()), (ErrorKind::PortTaken, Some(taken(3))));
    assert_eq!(strangers.lock().unwrap().len(), 4);

    strangers.lock().unwrap().clear();
    let own = OwnRegistry::new();
    let lease = own.request().lease().unwrap();
    let port = lease.port();
    let error = S::start(with_strangers(9).lease(lease)).unwrap_err();
    assert_eq!((error.kind(), error.port()), (ErrorKind::PortTaken, Some(port)));
}

/// Who wants all addresses does not get them if a stranger has one; that no client of ours gets to the
/// stranger does not help. Some end, others try again.
fn not_where_a_stranger_is_in_the_way<S: Twin>() {
    let complains = "echo 'cannot listen: Address already in use' >&2;";
    for (then, text) in [
        ("exec \"$0\" sleep", "says that port PORT is in use, and is not ready"),
        (
            "exit 71",
            "ended before it was ready on port PORT (exit status: 71): port PORT is in use",
        ),
    ] {
        let own = OwnRegistry::new();
        let lease = own.request().lease().unwrap();
        let port = lease.port();
        let _stranger = TcpListener::bind(("127.0.0.2", port)).unwrap();
        let builder = Server::builder(shell(&format!("{complains} {then}"))).name("api");
        let error = S::start(builder.env_port("PORT").lease(lease)).unwrap_err();
        assert_eq!((error.kind(), error.port()), (ErrorKind::PortTaken, Some(port)), "{error}");
        let expected = format!("server `api` {}\n", text.replace("PORT", &port.to_string()));
        let text = error.to_string();
        assert!(text.starts_with(&expected), "{text}");
        assert!(says_that_we_listen(&text, &format!("127.0.0.2:{port}")), "{text}");
        assert!(text.contains("\n    cannot listen: Address"), "{text}");
        assert_eq!(error.diagnosis().unwrap().cause(), portlease::Cause::Listening);
    }
    // Of a port that was leased for it alone, it gets another: on the second one, nobody is in the way.
    let strangers = Mutex::new(Vec::new());
    let server = Server::with(move |ports| {
        let mut strangers = strangers.lock().unwrap();
        if strangers.is_empty() {
            strangers.push(TcpListener::bind(("127.0.0.2", ports.main())).unwrap());
        }
        let address = format!("0.0.0.0:{}", ports.main());
        child_command(&["serve-on", &address, "alone"])
    });
    let server = S::start(server).unwrap();
    assert_eq!(who_answers(server.addr()), server.pid());
    // What it complains of is nobody's, or not its own: it may still come to serve.
    for complaint in [complains.to_owned(), complains.replace("cannot listen", "listen tcp :1")] {
        let server = shell(&format!("{complaint} sleep 1; exec \"$0\" serve"));
        let server = S::start(Server::builder(server).env_port("PORT")).unwrap();
        assert_eq!(who_answers(server.addr()), server.pid());
    }
}

/// It has its own port, and wants another one, too.
fn not_on_another_port_that_a_stranger_has<S: Twin>() {
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = stranger.local_addr().unwrap();
    let script = format!("echo 'listen tcp {addr}: bind: address already in use' >&2; exit 1");
    let error = S::start(Server::builder(shell(&script)).env_port("PORT")).unwrap_err();
    assert_eq!((error.kind(), error.port()), (ErrorKind::Exited, Some(addr.port())));
    let text = error.to_string();
    assert!(text.contains(&format!("complains of port {}, which is not", addr.port())), "{text}");
    assert!(says_that_we_listen(&text, &addr.to_string()), "{text}");
}

/// Over a restart, the port is never another one, whoever has it: clients of the test know it.
fn not_on_another_port_after_a_restart<S: Twin>() {
    let strangers = Arc::new(Mutex::new(Vec::new()));
    let its = Arc::clone(&strangers);
    let mut starts = 0;
    let server = Server::with(move |ports| {
        starts += 1;
        if starts == 2 {
            its.lock().unwrap().push(TcpListener::bind(ports.addr()).unwrap());
            return child_command(&["sleep"]);
        }
        child_command(&["serve", &ports.main().to_string()])
    });
    let mut server = S::start(server).unwrap();
    let port = server.port();
    let error = server.restart().unwrap_err();
    assert_eq!((error.kind(), error.port()), (ErrorKind::PortTaken, Some(port)));
    strangers.lock().unwrap().clear();
    server.restart().unwrap();
    assert_eq!((who_answers(server.addr()), server.port()), (server.pid(), port));
}

/// nginx wipes its environment, and with it the sign by which all know whose server it is. Its own start
/// knows it all the same, and whatever is missing, the server is not told of as the one who has the port.
fn without_the_environment_that_it_was_given<S: Twin>() {
    let serves = "env -i PORT=\"$PORT\" \"$0\" serve";
    let complains = "echo 'cannot listen: Address already in use' >&2;";
    let builder = |script: &str, lease| {
        let builder = Server::builder(shell(script)).env_port("PORT").lease(lease);
        builder.name("api").ready(Ready::http_status("/", 204))
    };
    let patience = Duration::from_secs(2);
    let own = OwnRegistry::new();
    for (script, at_most, kind) in [
        (format!("exec {serves}"), patience, ErrorKind::NotReady),
        (format!("{complains} exec {serves}"), patience, ErrorKind::NotReady),
        (format!("{serves} & sleep 0.3; {complains} exit 1"), DEADLINE, ErrorKind::Exited),
    ] {
        let builder = builder(&script, own.request().lease().unwrap());
        let error = S::start(builder.start_timeout(at_most)).unwrap_err();
        assert!(error.kind() == kind && error.diagnosis().is_none(), "{script}: {error:?}");
    }

    // Beside a stranger, it is known too.
    let stranger = RefCell::new(None);
    let builder = || {
        let lease = own.request().lease().unwrap();
        let command = child_command(&["serve-on", &format!("127.0.0.2:{lease}"), "alone"]);
        let mut spawned = TestChild::spawn(command);
        spawned.line().expect("it does not listen");
        stranger.replace(Some(spawned));
        builder(&format!("exec {serves}"), lease)
    };
    let sees_two = |error: &Error| {
        let sockets = error.diagnosis().expect("a stranger is there").sockets();
        sockets.iter().filter(|socket| socket.state() == SocketState::Listening).count() == 2
    };
    let error = not_ready::<S>(builder, sees_two);
    let diagnosis = error.diagnosis().unwrap();
    let is_server = |owner: &portlease::Owner| {
        *owner.role() == portlease::Role::Server { harness: std::process::id() }
    };
    let sockets = diagnosis.sockets().iter().filter(|socket| !socket.is_hold());
    let owners = sockets.flat_map(|socket| socket.owners());
    let (server, others): (Vec<_>, Vec<_>) = owners.partition(|owner| is_server(owner));
    assert_eq!((server.len(), others.len()), (1, 1), "{diagnosis}");
    let stranger = stranger.take().unwrap();
    assert_eq!(others[0].pid(), stranger.id());
    let next = format!("end process {}, or let any port be chosen", stranger.id());
    assert_eq!(diagnosis.next_step(), Some(next), "{diagnosis}");
}

/// While a server that complains has not bound its port, a bind of ours could be what keeps it out.
#[test]
fn a_port_is_not_bound_while_a_server_complains_of_it() {
    if !support::has_strace() {
        return;
    }
    let own = OwnRegistry::new();
    let trace = own.dir.path().join("trace");
    // After the second start, there is no hold by which the port is seen to be in use.
    let script = "echo 'cannot listen: Address already in use' >&2
                  if mkdir \"$PORTLEASE_TEST_STARTED\"; then exit 98; fi
                  sleep 2; exec \"$0\" serve";
    let mut traced = Command::new("strace");
    traced.args(["-f", "--seccomp-bpf", "-qq", "-e", "trace=bind", "-o"]).arg(&trace);
    traced.arg(support::child_path()).args(["blocking", "one-start", "told", script]);
    traced.env("PORTLEASE_TEST_STARTED", own.dir.path().join("started"));
    own.lend_to(&mut traced);
    let port = stdout_of(&traced.output().unwrap());
    let trace = fs::read_to_string(trace).unwrap();
    let binds = trace.lines().filter(|line| line.contains(&format!("htons({port})"))).count();
    // Those of the lease, which is taken and let go, and the server's: not ten each second.
    assert!((3..10).contains(&binds), "{trace}");
}
