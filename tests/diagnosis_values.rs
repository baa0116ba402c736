//! Who has a port, as a value: exactly the sockets that are on it, what they do, and whose they are.
//! The same in words: `diagnosis`.
#![cfg(target_os = "linux")] // elsewhere, nobody looks

mod support;

use std::env;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use portlease::{Cause, Diagnosis, Lease, Role, Socket, SocketState, check, diagnose};
use socket2::{Domain, Type};
use support::alone;
use support::snapshot::{Snapshot, Varying, in_time, lacked_time};
use support::{
    Allotment, OwnRegistry, SomebodyElse, TestChild, child_command, eventually, skip, stdout_of,
};

fn bind(addr: SocketAddr, only_v6: bool) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    if addr.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    socket.bind(&addr.into())?;
    Ok(socket)
}

fn localhost(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// The state, the own address and the other end of each.
fn sockets(diagnosis: &Diagnosis) -> Vec<(SocketState, SocketAddr, Option<SocketAddr>)> {
    let sockets = diagnosis.sockets().iter();
    sockets.map(|socket| (socket.state(), socket.local(), socket.remote())).collect()
}

fn pids(socket: &Socket) -> Vec<u32> {
    socket.owners().iter().map(portlease::Owner::pid).collect()
}

/// What is found where these are the sockets. A look binds a socket itself, of which a child of another test
/// may have a copy until its exec.
fn found(
    port: u16,
    cause: Cause,
    expected: &[(SocketState, SocketAddr, Option<SocketAddr>)],
) -> Diagnosis {
    let deadline = Instant::now() + support::DEADLINE;
    loop {
        let found = diagnose(port);
        let is = (found.cause(), sockets(&found));
        if is == (cause, expected.to_vec()) {
            return found;
        }
        assert!(Instant::now() < deadline, "{is:?}, and not {cause:?}, {expected:?}");
    }
}

#[test]
fn a_listener_a_client_an_end_and_a_silent_socket_are_told_apart() {
    let block = Allotment::new();
    let (port, silent) = (block.first, block.first + 1);
    let free = found(port, Cause::Free, &[]);
    assert!(free.is_free() && free.next_step().is_none());

    let _silent = bind(localhost(silent), false).unwrap();
    let bound = found(silent, Cause::Bound, &[(SocketState::Bound, localhost(silent), None)]);
    assert!(!bound.is_free());
    assert_eq!(bound.sockets()[0].uid(), support::uid());

    let listener = TcpListener::bind(localhost(port)).unwrap();
    let listens = (SocketState::Listening, localhost(port), None);
    let listening = found(port, Cause::Listening, &[listens]);
    assert!(!listening.is_free());
    // A child of another test, before its exec, may be an owner too.
    let mut owners = listening.sockets()[0].owners().iter();
    let owner = owners.find(|it| it.pid() == process::id()).unwrap();
    assert_eq!(owner.role(), &Role::Ourselves);
    let name = fs::read_to_string("/proc/self/comm").unwrap();
    assert_eq!((owner.uid(), owner.name()), (Some(support::uid()), name.trim_end()));
    assert!(owner.command().starts_with(&env::args().next().unwrap()), "{owner:?}");
    let id = Command::new("id").arg("-un").output().unwrap();
    assert_eq!(owner.user(), Some(&*stdout_of(&id)));
    assert!(owner.started().unwrap().elapsed().unwrap() < Duration::from_secs(3600));

    // Of a port of the kernel's choice, others may be in TIME_WAIT, with somebody else.
    let from = localhost(block.first + 2);
    let client = bind(from, false).unwrap();
    client.connect(&localhost(port).into()).unwrap();
    let client = TcpStream::from(client);
    let (server, _) = listener.accept().unwrap();
    let accepted = (SocketState::Connected, localhost(port), Some(from));
    found(port, Cause::Listening, &[listens, accepted]);
    let connected = (SocketState::Connected, from, Some(localhost(port)));
    assert!(!found(from.port(), Cause::Connected, &[connected]).is_free());

    support::end(server, client);
    drop(listener);
    let over =
        found(port, Cause::TimeWait, &[(SocketState::TimeWait, localhost(port), Some(from))]);
    assert!(over.is_free() && over.sockets()[0].owners().is_empty());
    TcpListener::bind(localhost(port)).expect("a server that sets SO_REUSEADDR");
}

/// Neither of the port that it connects to, nor, as one who is to be ended, of its own.
#[test]
fn a_client_is_not_who_has_the_port() {
    let block = Allotment::new();
    let listener = TcpListener::bind(localhost(block.first)).unwrap();
    let own_port = block.first + 1;
    let role = ["client", &own_port.to_string(), &localhost(block.first).to_string()];
    let mut client = TestChild::spawn(child_command(&role));
    client.line().expect("it is not connected");
    let found = diagnose(block.first);
    assert!(!found.sockets().iter().any(|socket| pids(socket).contains(&client.id())));
    let found = diagnose(own_port);
    assert_eq!(pids(&found.sockets()[0]), [client.id()]);
    assert!(!found.next_step().unwrap().contains("end process"), "{found}");

    // Its port is a listener's too, on another address: that one is to be ended.
    let Ok(other) = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), own_port)) else { return };
    let found = diagnose(own_port);
    assert_eq!(
        (found.cause(), found.sockets()[0].local()),
        (Cause::Listening, other.local_addr().unwrap())
    );
    assert!(!found.next_step().unwrap().contains(&client.id().to_string()), "{found}");
    drop(listener);
}

/// 2000 is neither 20001 nor 200.
#[test]
fn a_number_that_begins_likewise_is_another() {
    let (short, long) = loop {
        let short = Lease::builder().range(2_000..=2_999).lease().unwrap();
        if let Ok(long) = Lease::builder().exact(short.port() * 10 + 1).lease() {
            break (short, long);
        }
    };
    let _listener = long.bind().unwrap();
    let _datagrams = long.bind_udp().unwrap();
    let found = diagnose(short.port());
    assert_eq!(found.cause(), Cause::Leased);
    assert!(found.sockets().iter().all(|it| it.is_hold() && it.local().port() == short.port()));
    let found = diagnose(long.port());
    assert_eq!(found.cause(), Cause::Listening);
    assert!(found.sockets().iter().all(|it| it.local().port() == long.port()));
}

/// The kernel says so itself, when it is asked for an exclusive bind.
#[test]
fn sockets_conflict_where_a_bind_is_refused() {
    // Here, a spawn of another test could keep a copy of a socket for a moment.
    if !alone::in_own_process("sockets_conflict_where_a_bind_is_refused") {
        return;
    }
    let block = Allotment::new();
    let ips: [IpAddr; 7] =
        ["127.0.0.1", "127.0.0.2", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "::ffff:0.0.0.0"]
            .map(|ip| ip.parse().unwrap());
    if bind((Ipv6Addr::LOCALHOST, block.first).into(), false).is_err() {
        return skip("there is no IPv6 here").unwrap_or(());
    }
    let mut conflicts = 0;
    for (bound, only_v6) in ips.into_iter().flat_map(|ip| [(ip, false), (ip, true)]) {
        let is_mapped = matches!(bound, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
        if only_v6 && (bound.is_ipv4() || is_mapped) {
            continue; // there is no such thing
        }
        let has = bind(SocketAddr::new(bound, block.first), only_v6).unwrap();
        has.listen(1).unwrap();
        let found = diagnose(block.first);
        assert_eq!(found.sockets().len(), 1, "{found}");
        assert_eq!(found.sockets()[0].local().ip(), bound);
        for ip in ips {
            let refused = bind(SocketAddr::new(ip, block.first), false).is_err();
            let said = found.conflicts(ip).count() == 1;
            assert_eq!(said, refused, "{ip}, where {bound} is bound (IPv6 only: {only_v6})");
            conflicts += usize::from(refused);
        }
    }
    assert!(conflicts > 20, "{conflicts}");
}

#[test]
fn all_who_have_one_socket() {
    let block = Allotment::new();
    let listener = TcpListener::bind(localhost(block.first)).unwrap();
    let mut servers: Vec<_> = (0..6)
        .map(|_| {
            let mut command = Command::new("sleep");
            command.arg("1000").stdin(OwnedFd::from(listener.try_clone().unwrap()));
            let child = command.stdout(process::Stdio::null()).spawn().unwrap();
            support::Gone(child)
        })
        .collect();
    drop(listener);
    servers.sort_by_key(|it| it.0.id());
    // A child of another test may have a copy until its exec.
    eventually("the first four are told, and that there are two more", || {
        let found = diagnose(block.first);
        let expected: Vec<_> = servers.iter().take(4).map(|it| it.0.id()).collect();
        assert_eq!(found.sockets().len(), 1);
        let is_said = found.to_string().contains(" (sleep) and 2 more listen on ");
        is_said && pids(&found.sockets()[0]) == expected
    });
    servers.truncate(2);
    let expected: Vec<_> = servers.iter().map(|it| it.0.id()).collect();
    assert_eq!(pids(&diagnose(block.first).sockets()[0]), expected);
}

/// Each child has copies of all sockets until it execs, and is gone a moment later.
#[test]
fn processes_that_come_and_go_are_no_obstacle() {
    let block = Allotment::new();
    let _listener = TcpListener::bind(localhost(block.first)).unwrap();
    let spawned = AtomicU32::new(0);
    let churn = || {
        assert!(Command::new("true").status().unwrap().success());
        spawned.fetch_add(1, Ordering::Relaxed);
    };
    support::meanwhile(2, churn, || {
        let start = Instant::now();
        let (mut looks, mut seen) = (0, 0);
        while looks < 100 || start.elapsed() < Duration::from_secs(1) {
            let found = diagnose(block.first);
            assert_eq!(found.cause(), Cause::Listening, "{found}");
            assert_eq!(found.sockets().len(), 1, "{found}");
            let text = found.to_string();
            // On a busy machine there may be no time for all of them; it is said then.
            let is_seen = pids(&found.sockets()[0]).contains(&process::id());
            assert!(is_seen || lacked_time(&text), "{text}");
            seen += u32::from(is_seen);
            looks += 1;
        }
        let spawned = spawned.load(Ordering::Relaxed);
        assert!(spawned > 20, "{spawned} processes, {looks} looks");
        assert!(seen > 0, "of {looks} looks, none had the time to see whose it is");
    });
}

#[test]
fn a_listener_of_another_network_namespace_is_another_s() {
    let possible = Command::new("unshare").args(["--net", "true"]).status();
    if !possible.is_ok_and(|status| status.success()) {
        return skip("`unshare --net` is not possible here").unwrap_or(());
    }
    let block = Allotment::new();
    let mut inner = Command::new("unshare");
    inner.arg("--net").arg(support::child_path());
    inner.args(["serve-on", &format!("0.0.0.0:{}", block.first), "alone"]);
    let mut inner = TestChild::spawn(inner);
    inner.line_after("PORT=");
    let found = diagnose(block.first);
    assert_eq!((found.cause(), found.sockets().len()), (Cause::Free, 0), "{found}");
}

#[test]
fn udp_is_told_from_tcp() {
    let block = Allotment::new();
    let datagrams = UdpSocket::bind(localhost(block.first)).unwrap();
    let found = diagnose(block.first);
    assert!(found.sockets()[0].is_udp() && found.cause() == Cause::Udp);
    assert_eq!(sockets(&found), [(SocketState::Bound, localhost(block.first), None)]);
    let peer = UdpSocket::bind(localhost(block.first + 1)).unwrap();
    datagrams.connect(peer.local_addr().unwrap()).unwrap();
    let found = diagnose(block.first);
    let expected = (SocketState::Connected, localhost(block.first), peer.local_addr().ok());
    assert_eq!((found.cause(), sockets(&found)), (Cause::Connected, vec![expected]));
    // What keeps a TCP server away goes first.
    let _silent = bind(localhost(block.first + 1), false).unwrap();
    let found = diagnose(block.first + 1);
    let are_udp: Vec<_> = found.sockets().iter().map(Socket::is_udp).collect();
    assert_eq!((found.cause(), are_udp), (Cause::Bound, vec![false, true]));
}

/// By the wildcard, or, over TIME_WAIT, by an address that nobody uses besides.
#[test]
fn a_hold_is_known_by_its_lease() {
    let lease = portlease::lease().unwrap();
    let found = diagnose(lease.port());
    assert_eq!((found.cause(), found.lease().unwrap().pid()), (Cause::Leased, Some(process::id())));
    assert!(!found.sockets().is_empty() && found.sockets().iter().all(Socket::is_hold), "{found}");

    let port = lease.port();
    let listener = lease.bind().unwrap();
    let client = TcpStream::connect(lease.addr()).unwrap();
    support::end(listener.accept().unwrap().0, client);
    drop(listener);
    eventually("it is over", || {
        diagnose(port).sockets().iter().any(|it| it.state() == SocketState::TimeWait)
    });
    drop(lease);
    let lease = Lease::builder().exact(port).wait(support::DEADLINE).lease().unwrap();
    let found = diagnose(lease.port());
    assert_eq!(found.cause(), Cause::Leased);
    let bound = found.sockets().iter().filter(|it| it.state() == SocketState::Bound);
    let bound: Vec<_> = bound.map(Socket::is_hold).collect();
    assert_eq!(bound, [true, true], "{found}");
}

/// Our own socket, without a lease, is as much in the way as another's.
#[test]
fn a_silent_socket_of_ours_is_no_hold() {
    let own = OwnRegistry::new();
    let block = Allotment::new();
    let _silent = bind((Ipv4Addr::UNSPECIFIED, block.first).into(), false).unwrap();
    let found = diagnose(block.first);
    assert_eq!((found.cause(), found.sockets()[0].is_hold()), (Cause::Bound, false), "{found}");
    let error = own.request().exact(block.first).lease().unwrap_err();
    let text = error.to_string();
    assert!(text.contains("it is bound by somebody who does not listen, and not leased"), "{text}");
    // By this process; and by children of other tests, which have copies of it until their exec.
    assert!(text.contains(&format!(" bound 0.0.0.0:{}", block.first)), "{text}");
    let diagnosis = error.diagnosis().unwrap();
    assert_eq!((diagnosis.cause(), diagnosis.port()), (Cause::Bound, block.first));
}

#[test]
fn whether_addresses_can_be_bound() {
    let own = OwnRegistry::new();
    let block = Allotment::new();
    let mut snapshot = Snapshot::new("diagnosis/check");
    let mut varying = Varying::new();
    for (i, name) in
        ["PORT", "PORT2", "PORT3", "PORT4", "PORT5", "PORT6", "PORT7"].into_iter().enumerate()
    {
        varying = varying.number(usize::from(block.first) + i, name);
    }
    let port = |i: u16| localhost(block.first + i);
    let ready = |command| {
        let mut child = TestChild::spawn(command);
        child.line().expect("it is not ready");
        child
    };
    let listener = ready(child_command(&["serve-on", &port(0).to_string(), "alone"]));
    let silent = format!("0.0.0.0:{}", block.first + 1);
    let silent = ready(child_command(&["bind", &silent, "exclusive"]));
    let lease = own.request().exact(block.first + 2).lease().unwrap();
    let other = OwnRegistry::new();
    let number = port(4).port().to_string();
    let foreign = ready(child_command(&["hold-exact", &other.arg(), &number, "0"]));
    let server = ready(child_command(&["serve-on", &port(4).to_string(), "alone"]));
    let pids = [process::id(), listener.id(), silent.id(), foreign.id(), server.id()];
    for (pid, name) in pids.into_iter().zip(["TEST", "PID", "PID2", "HOLDER", "SERVER"]) {
        varying = varying.number(pid, name);
    }
    varying.word(&other.arg(), "REGISTRY");
    let mut answers = |heading: &str, addrs: &[SocketAddr], expected: &[bool]| {
        let addrs: Vec<_> = addrs.iter().map(SocketAddr::to_string).collect();
        let mut role = vec!["check"];
        role.extend(addrs.iter().map(String::as_str));
        let mut role = child_command(&role);
        own.lend_to(&mut role);
        let answer = in_time(|| Some(stdout_of(&role.output().unwrap()))).unwrap();
        let are_free = answer.lines().filter(|line| matches!(*line, "free" | "not free"));
        let are_free: Vec<_> = are_free.map(|line| line == "free").collect();
        assert_eq!(are_free, expected, "{answer}");
        snapshot.add(heading, varying.replace(&answer));
    };

    answers("nothing is on it", &[port(3)], &[true]);
    let beside = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), block.first));
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, block.first));
    answers("a listener on 127.0.0.1", &[port(0), beside, any], &[false, true, false]);
    let found = check([port(0), port(3)]);
    let told = found.iter().map(|it| it.diagnosis().map(Diagnosis::port));
    assert_eq!(told.collect::<Vec<_>>(), [Some(port(0).port()), None], "{found:?}");
    answers("a silent socket", &[port(1)], &[false]);
    answers("a lease", &[port(2)], &[false]);
    let all = SocketAddr::from((Ipv6Addr::UNSPECIFIED, block.first + 4));
    let beside = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), block.first + 4));
    answers("a lease of another registry, beside its server", &[beside], &[false]);
    drop(server);
    answers("a lease of another registry", &[port(4), all], &[false, false]);
    drop(foreign);
    let ours = other.request().exact(block.first + 5).lease().unwrap();
    let found = check([ours.addr()]);
    assert!(found[0].is_free(), "its server can start: {}", found[0]);
    drop(ours);
    // In the way of its own family alone.
    let v4 = TcpListener::bind((Ipv4Addr::UNSPECIFIED, block.first + 6)).unwrap();
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, block.first + 6));
    answers("an address beside a listener on 0.0.0.0", &[v6], &[true]);
    drop(v4);
    let far = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), block.first + 3));
    answers("an address of another machine", &[far], &[false]);

    let connection = TcpListener::bind(port(3)).unwrap();
    let client = TcpStream::connect(port(3)).unwrap();
    support::end(connection.accept().unwrap().0, client);
    drop(connection);
    eventually("it is over", || diagnose(port(3).port()).cause() == Cause::TimeWait);
    answers("TIME_WAIT", &[port(3)], &[true]);
    drop(lease);

    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if let Some(other) = SomebodyElse::new().filter(|_| first.trim() != "0") {
        let mut role = other.child_command(&["check", "127.0.0.1:1"]);
        role.env("PORTLEASE_DIR", other.home().join("registry"));
        let answer = stdout_of(&role.output().unwrap());
        snapshot.add("a port that may not be bound", answer);
    }
    snapshot.check();

    let ours = portlease::lease().unwrap();
    let checks = check([ours.addr()]);
    assert!(checks[0].is_free() && checks[0].diagnosis().is_none(), "its server can start");
    assert_eq!(checks[0].addr(), ours.addr());
    assert!(check([]).is_empty());
}

/// `PORTLEASE_TEST_CROWD=1 cargo test --release --test diagnosis_values -- --ignored --nocapture
/// what_a_diagnosis_costs`. Not without being asked for: its processes are in the way of other tests.
#[test]
#[ignore = "prints figures; 2 000 processes"]
fn what_a_diagnosis_costs() {
    if std::env::var_os("PORTLEASE_TEST_CROWD").is_none() {
        return println!("skipped: PORTLEASE_TEST_CROWD is not set");
    }
    const INSIDE: &str = "PORTLEASE_TEST_CROWDED";
    if std::env::var_os(INSIDE).is_none() {
        let flags = ["--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
        let script = "ip link set lo up; ulimit -n 15000; export PORTLEASE_TEST_CROWDED=1
                      exec \"$1\" --exact what_a_diagnosis_costs --ignored --nocapture";
        let tests = std::env::current_exe().unwrap();
        let output = support::unshare(&flags, script, &[tests.to_str().unwrap()]);
        if let Some(output) = output {
            println!("{}", stdout_of(&output));
        }
        return;
    }
    let busy = TcpListener::bind(localhost(1_100)).unwrap();
    let connect = |_| {
        let client = TcpStream::connect(localhost(1_100)).unwrap();
        (client, busy.accept().unwrap())
    };
    let _connections: Vec<_> = (0..1_000).map(connect).collect();
    let _listeners: Vec<_> =
        (2_000..6_000).map(|port| TcpListener::bind(localhost(port)).unwrap()).collect();
    let _datagrams: Vec<_> =
        (6_000..10_000).map(|port| UdpSocket::bind(localhost(port)).unwrap()).collect();
    let sleep = |_| support::Gone(Command::new("sleep").arg("1000").spawn().unwrap());
    let _processes: Vec<_> = (0..2_000).map(sleep).collect();
    let cases = [(2_500, Cause::Listening), (1_099, Cause::Free), (1_100, Cause::Listening)];
    for (port, expected) in cases {
        let mut times: Vec<_> = (0..11)
            .map(|_| {
                let start = Instant::now();
                assert_eq!(diagnose(port).cause(), expected);
                start.elapsed()
            })
            .collect();
        times.sort_unstable();
        println!("port {port}, {expected:?}: {:?}, at most {:?}", times[5], times[10]);
        // Half a second to look for owners; the machine may be busy.
        assert!(times[5] < Duration::from_secs(2));
    }
}

/// Netlink and `/proc` each do without the other; where both are missing, that is the answer. strace
/// refuses all sockets, as some sandboxes refuse netlink; by a filter, since it takes the time meant for
/// looking if it stops at each call.
#[test]
fn without_netlink() {
    if !support::has_strace() {
        return;
    }
    let mut server = TestChild::spawn(child_command(&["serve", "0"]));
    let port = server.line_after("PORT=");
    let traced = "exec strace -f --seccomp-bpf -qq -o /dev/null -e trace=socket \
                  -e inject=socket:error=EAFNOSUPPORT \"$0\" diagnose \"$1\"";
    let looks = |script: &str| {
        let output = support::unshare(&["--mount"], script, &[&port]);
        output.map(|output| stdout_of(&output))
    };
    if let Some(found) = looks(traced) {
        let who = format!("process {} (test-child) listens on 127.0.0.1:{port}\n", server.id());
        assert!(found.starts_with("Listening\n") && found.contains(&who), "{found}");
    }
    if let Some(found) = looks(&format!("mount -t tmpfs none /proc; {traced}")) {
        let (value, text) = found.split_once('\n').unwrap();
        let why = value.strip_prefix("Unknown, blind: ").expect(value);
        assert!(
            text.starts_with(&format!("port {port} is not to be looked at: {why}\n")),
            "{text}"
        );
    }
}

/// Before Linux 6.8, and by `/proc` still, the kernel tells of no socket that is bound and does not listen; a
/// bind does. strace refuses the one socket by which netlink is asked: which one that is, a first run tells.
#[test]
fn a_silent_socket_that_no_table_shows() {
    if !support::has_strace() {
        return;
    }
    let own = OwnRegistry::new();
    let port = own.port();
    let address = format!("0.0.0.0:{port}");
    let mut silent = TestChild::spawn(child_command(&["bind", &address, "exclusive"]));
    silent.line().expect("it has bound it");
    let trace = own.dir.path().join("trace");
    let look = |options: &[&str]| {
        let mut strace = Command::new("strace");
        strace.args(["-f", "--seccomp-bpf", "-qq", "-e", "trace=socket", "-o"]).arg(&trace);
        strace.args(options).arg(support::child_path()).args(["diagnose", &port.to_string()]);
        own.lend_to(&mut strace);
        let found = stdout_of(&strace.output().unwrap());
        (found, std::fs::read_to_string(&trace).unwrap())
    };
    let (found, trace) = look(&[]);
    assert!(found.contains(&format!("process {} ", silent.id())), "{found}");
    let sockets = || trace.lines().filter(|line| line.contains("socket("));
    let is_netlink = |line: &str| line.contains("AF_NETLINK");
    assert_eq!(sockets().filter(|line| is_netlink(line)).count(), 1, "{trace}");
    let place = 1 + sockets().position(is_netlink).unwrap();
    let (found, trace) = look(&["-e", &format!("inject=socket:error=EAFNOSUPPORT:when={place}")]);
    assert!(trace.lines().any(|it| is_netlink(it) && it.ends_with("(INJECTED)")), "{trace}");
    let expected = format!(
        "Bound\nport {port} is bound by somebody who does not listen\n  \
         next: let any port be chosen: who it is, the kernel does not tell; it may be a lease of \
         another user or registry"
    );
    assert_eq!(found, expected);
}
