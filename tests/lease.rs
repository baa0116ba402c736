//! Leases, as one process sees them: what can be asked for, and what the answers say.

mod support;

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
#[cfg(unix)]
use std::process::Command;
use std::time::Duration;

use portlease::{Bound, ErrorKind, Holder, Lease, LeaseBuilder, Registry, Server, ServerBuilder};
use support::{Allotment, OwnRegistry, TestChild, child_command};

#[test]
fn public_types_cross_threads() {
    fn crosses_threads<T: Send + Sync + std::fmt::Debug + 'static>() {}
    crosses_threads::<Bound>();
    crosses_threads::<Bound<UdpSocket>>();
    crosses_threads::<portlease::Error>();
    crosses_threads::<ErrorKind>();
    crosses_threads::<Holder>();
    crosses_threads::<Lease>();
    crosses_threads::<LeaseBuilder>();
    crosses_threads::<portlease::Ports>();
    crosses_threads::<Registry>();
    crosses_threads::<Server>();
    crosses_threads::<ServerBuilder>();
    crosses_threads::<portlease::Stopped>();
}

#[test]
fn a_lease_keeps_its_port_until_it_is_dropped() {
    let own = OwnRegistry::new();
    let lease = own.request().label("db").lease().unwrap();
    let holders = own.registry.list().unwrap();
    assert_eq!(holders.len(), 1);
    assert_eq!(holders[0].port(), lease.port());
    assert_eq!(lease.url("/a"), format!("http://127.0.0.1:{lease}/a"));
    assert_eq!(holders[0].pid(), Some(std::process::id()));
    assert_eq!(holders[0].label(), Some("db"));
    assert_eq!(holders[0].test(), Some("a_lease_keeps_its_port_until_it_is_dropped"));
    assert_eq!(holders[0].dir(), Some(std::env::current_dir().unwrap().as_path()));
    assert!(holders[0].program().unwrap().starts_with("lease-"));
    assert!(holders[0].since().unwrap().elapsed().unwrap() < Duration::from_secs(60));
    lease.release().unwrap();
    assert_eq!(own.registry.list().unwrap(), []);
}

#[test]
fn several_at_once_are_all_different() {
    let own = OwnRegistry::new();
    // macOS lets a process have 256 descriptors, and other tests take theirs.
    let count = if cfg!(target_os = "macos") { 60 } else { 300 };
    let leases = own.request().range(20_000..=29_999).lease_many(count).unwrap();
    let ports: HashSet<_> = leases.iter().map(Lease::port).collect();
    assert_eq!(ports.len(), count);
    assert_eq!(own.registry.list().unwrap().len(), count);
    assert_eq!(own.request().lease_many(0).unwrap().len(), 0);
}

#[test]
fn all_or_none() {
    let own = OwnRegistry::new();
    let block = Allotment::new();
    let request = || own.request().range(block.first..=block.first + 3);
    let one = request().lease().unwrap();
    let error = request().lease_many(4).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert_eq!(own.registry.list().unwrap().len(), 1, "nothing is left of the failed call");
    assert_eq!(request().lease_many(3).unwrap().len(), 3);
    drop(one);
    assert_eq!(request().lease_many(4).unwrap().len(), 4);
}

#[test]
fn an_exhausted_range_says_who_has_it() {
    let own = OwnRegistry::new();
    let block = Allotment::new();
    let range = block.first..=block.first + 4;
    let stranger = TcpListener::bind((Ipv4Addr::UNSPECIFIED, block.first)).unwrap();
    let _leases = own.request().label("mine").range(range.clone()).lease_many(4).unwrap();
    let error = own.request().range(range).lease().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    let text = error.to_string();
    let numbers = "(5 ports): found 4 leased, 1 in use by programs that did not lease them\n";
    assert!(text.contains(numbers), "{text}");
    let holder = format!("4 leased by pid {} (lease-", std::process::id());
    assert!(text.contains(&holder) && text.contains("label `mine`"), "{text}");
    drop(stranger);
}

#[test]
fn blocks_are_consecutive_and_go_around_obstacles() {
    let own = OwnRegistry::new();
    let block = Allotment::new();
    let (first, last) = (block.first, block.first + 9);
    // Of ten ports, the fourth is a stranger's and the eighth is leased: 0 1 2 x 4 5 6 x 8 9.
    let _stranger = TcpListener::bind((Ipv4Addr::LOCALHOST, first + 3)).unwrap();
    let _leased = own.request().exact(first + 7).lease().unwrap();
    let request = || own.request().range(first..=last);
    let one = request().lease_block(3).unwrap();
    let two = request().lease_block(3).unwrap();
    let mut starts = [one[0].port() - first, two[0].port() - first];
    starts.sort_unstable();
    assert_eq!(starts, [0, 4]);
    for three in [&one, &two] {
        assert_eq!(three[0].port() + 1, three[1].port());
        assert_eq!(three[0].port() + 2, three[2].port());
    }
    let error = request().lease_block(3).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert!(error.to_string().contains("3 consecutive ports"), "{error}");
    assert_eq!(request().lease_block(2).unwrap()[0].port(), first + 8);
    drop((one, two));
    let again = request().lease_block(3);
    drop(again.expect("ports that were used a moment ago are better than none"));
}

#[test]
fn a_block_is_of_rested_ports_if_there_is_one() {
    for _ in 0..3 {
        let own = OwnRegistry::new();
        let block = Allotment::new();
        let first = block.first;
        drop(own.request().exact(first + 3).lease().unwrap());
        // Around the port that rests: 0 1 2 x 4 5 6.
        let request = || own.request().range(first..=first + 6);
        let blocks = [request().lease_block(3).unwrap(), request().lease_block(3).unwrap()];
        let mut starts = blocks.each_ref().map(|block| block[0].port() - first);
        starts.sort_unstable();
        assert_eq!(starts, [0, 4]);
    }
}

/// In a process that does nothing else: here, a spawn of another test could keep a copy of a hold
/// for a moment, and another port would be chosen rightly.
#[test]
fn a_released_port_rests_and_comes_back_when_nothing_else_is_left() {
    let own = OwnRegistry::new();
    let block = Allotment::new();
    let (first, last) = (block.first.to_string(), (block.first + 1).to_string());
    let role = ["one-by-one", &own.arg(), &first, &last, "4"];
    let answer = support::stdout_of(&child_command(&role).output().unwrap());
    let ports: Vec<_> = answer.lines().collect();
    assert_ne!(ports[0], ports[1], "the first one rests");
    assert_eq!([ports[0], ports[1]], [ports[2], ports[3]], "who has rested longer is next");
}

/// Of a hundred, in a network namespace of its own. The longest rested of any 64 is among the 37 longest
/// rested of all; and if all were looked at, it would be the longest rested each time.
#[cfg(target_os = "linux")]
#[test]
fn of_resting_ports_one_is_taken_that_has_rested_longer_than_most() {
    let own = OwnRegistry::new();
    let role = ["one-by-one", &own.arg(), "20100", "20199", "300"];
    let child = support::child_path();
    let arguments = [&[child.to_str().unwrap()], &role[..]].concat();
    let Some(output) = support::unshare(&["--net"], "ip link set lo up; exec \"$@\"", &arguments)
    else {
        return;
    };
    let answer = support::stdout_of(&output);
    let (mut last_use, mut ranks) = (std::collections::HashMap::new(), Vec::new());
    for (turn, port) in answer.lines().enumerate() {
        if last_use.len() == 100 {
            ranks.push(last_use.values().filter(|&&last| last < last_use[port]).count());
        }
        last_use.insert(port, turn);
    }
    assert!(!ranks.is_empty() && ranks.iter().all(|&rank| rank < 37), "{ranks:?}");
    assert!(ranks.iter().any(|&rank| rank > 0), "all of them were looked at");
}

/// Ports of another registry are in no table of ours: after some of them, a resting port will do.
#[cfg(target_os = "linux")] // elsewhere, another registry's leases are not seen
#[test]
fn a_resting_port_is_found_among_those_of_another_registry() {
    let (own, other) = (OwnRegistry::new(), OwnRegistry::new());
    let block = Allotment::new();
    let range = block.first..=block.last;
    let free: HashSet<u16> =
        own.request().range(range.clone()).lease_many(2).unwrap().iter().map(Lease::port).collect();
    let theirs: Vec<_> = range.clone().filter(|port| !free.contains(port)).collect();
    let _theirs: Vec<_> =
        theirs.iter().map(|&port| other.request().exact(port).lease().unwrap()).collect();
    for _ in 0..10 {
        let lease = own.request().range(range.clone()).lease().unwrap();
        assert!(free.contains(&lease.port()), "{lease} is another registry's");
    }
}

/// Each of them costs a third of a lease; strace counts them. The resting ones lie so that with whatever
/// stride the range is walked, no more than seven others are between two of them.
#[cfg(target_os = "linux")]
#[test]
fn not_all_ports_of_another_registry_are_tried_before_a_resting_one() {
    if !support::has_strace() {
        return;
    }
    let (own, other) = (OwnRegistry::new(), OwnRegistry::new());
    let block = Allotment::new();
    let range = block.first..=block.last;
    let resting = [0, 1, 2, 4, 8, 16, 24, 28].map(|number| block.first + number);
    resting.iter().for_each(|&port| drop(own.request().exact(port).lease().unwrap()));
    let theirs = range.filter(|port| !resting.contains(port));
    let theirs: Vec<_> = theirs.map(|port| other.request().exact(port).lease().unwrap()).collect();
    let trace = own.dir.path().join("trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "--seccomp-bpf", "-qq", "-e", "trace=bind", "-o"]).arg(&trace);
    strace.arg(support::child_path()).arg("try").env("PORTLEASE_DIR", own.path());
    strace.env("PORTLEASE_RANGE", format!("{}-{}", block.first, block.last));
    let said = support::stdout_of(&strace.output().unwrap());
    assert!(said.starts_with("leased "), "{said}");
    let trace = std::fs::read_to_string(&trace).unwrap();
    let refused = trace.lines().filter(|line| line.contains("EADDRINUSE")).count();
    assert!((1..theirs.len()).contains(&refused), "{refused} of {}", theirs.len());
}

#[test]
fn an_exact_port_that_is_leased_says_by_whom() {
    let own = OwnRegistry::new();
    let lease = own.request().label("the first").lease().unwrap();
    let error = own.request().exact(lease.port()).lease().unwrap_err();
    assert_eq!((error.kind(), error.port()), (ErrorKind::PortTaken, Some(lease.port())));
    let text = error.to_string();
    let expected = format!(
        "port {lease}: it is leased\n  leased by this very process, pid {}",
        std::process::id()
    );
    assert!(text.contains(&expected) && text.contains("label `the first`"), "{text}");
    let port = lease.port();
    drop(lease);
    assert_eq!(own.request().exact(port).lease().unwrap().port(), port, "at once, without a rest");
}

#[test]
fn an_exact_port_that_a_stranger_has_says_so() {
    let own = OwnRegistry::new();
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = stranger.local_addr().unwrap().port();
    let error = own.request().exact(port).lease().unwrap_err();
    assert_eq!((error.kind(), error.port()), (ErrorKind::PortTaken, Some(port)));
    let text = error.to_string();
    assert!(text.contains("it is in use, and not leased from this registry\n"), "{text}");
    assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::AddrInUse);
    if cfg!(not(target_os = "linux")) {
        assert!(text.contains("whose it is was not looked at"), "{text}");
        return;
    }
    assert!(support::says_that_we_listen(&text, &format!("127.0.0.1:{port}")), "{text}");

    let bound = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any = std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    bound.bind(&any.into()).unwrap();
    let port = bound.local_addr().unwrap().as_socket().unwrap().port();
    let silent = own.request().exact(port).lease().unwrap_err();
    let silent = silent.to_string();
    assert!(silent.contains("it is bound by somebody who does not listen, and not"), "{silent}");
}

#[test]
fn a_wait_ends_when_the_port_is_free() {
    let own = OwnRegistry::new();
    let lease = own.request().lease().unwrap();
    let other = own.request().lease().unwrap();
    let port = lease.port();
    let wait = |time| own.request().exact(port).wait(time);
    let error = wait(Duration::from_millis(50)).lease().unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::PortTaken);
    let expected = format!("for it. Meanwhile this process holds {other}: two who");
    assert!(text.contains(&expected), "{text}");
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| wait(support::DEADLINE).lease().unwrap().port()))
            .collect();
        std::thread::sleep(Duration::from_millis(20)); // not needed, but then they wait indeed
        drop(lease);
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), port);
        }
    });
}

#[test]
fn a_wait_also_waits_for_a_stranger() {
    let own = OwnRegistry::new();
    let block = Allotment::new();
    let stranger = TcpListener::bind((Ipv4Addr::LOCALHOST, block.first)).unwrap();
    std::thread::scope(|scope| {
        let request = own.request().exact(block.first).wait(support::DEADLINE);
        let waiter = scope.spawn(move || request.lease().map(|lease| lease.port()));
        std::thread::sleep(Duration::from_millis(20));
        assert!(!waiter.is_finished());
        drop(stranger);
        assert_eq!(waiter.join().unwrap().unwrap(), block.first);
    });
}

#[test]
fn a_wait_for_any_port_of_a_range() {
    let own = OwnRegistry::new();
    let block = Allotment::new();
    let request = || own.request().range(block.first..=block.first);
    let lease = request().lease().unwrap();
    let error = request().wait(Duration::from_millis(20)).lease().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| request().wait(support::DEADLINE).lease().map(drop));
        drop(lease);
        waiter.join().unwrap().unwrap();
    });
}

#[test]
fn a_wait_without_end_is_no_panic() {
    let own = OwnRegistry::new();
    let lease = own.request().wait(Duration::MAX).lease().unwrap();
    let port = lease.port();
    drop(lease);
    drop(own.request().exact(port).wait(Duration::MAX).lease().unwrap());
}

#[test]
fn exact_ports_keep_their_order_and_are_all_or_none() {
    let own = OwnRegistry::new();
    let block = Allotment::new();
    let ports = [block.first + 2, block.first, block.first + 1];
    let leases = own.request().lease_exact(&ports).unwrap();
    assert_eq!(leases.iter().map(Lease::port).collect::<Vec<_>>(), ports);
    let error = own.request().lease_exact(&[block.first + 3, block.first]).unwrap_err();
    assert_eq!((error.kind(), error.port()), (ErrorKind::PortTaken, Some(block.first)));
    drop(own.request().exact(block.first + 3).lease().expect("it was let go"));
    let twice = own.request().lease_exact(&[9, 8, 9]).unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::InvalidInput);
}

#[cfg(unix)] // on Windows, it keeps nobody away
#[test]
fn time_wait_does_not_keep_an_exact_port_away() {
    let own = OwnRegistry::new();
    let other = OwnRegistry::new();
    for host in ["127.0.0.1", "[::1]"] {
        let block = Allotment::new();
        let lease = own.request().exact(block.first).lease().unwrap();
        let address = format!("{host}:{}", block.first);
        let listener = match TcpListener::bind(&address) {
            // A machine without IPv6.
            Err(error) if error.kind() == std::io::ErrorKind::AddrNotAvailable => continue,
            listener => listener.unwrap(),
        };
        let client = std::net::TcpStream::connect(&address).unwrap();
        support::end(listener.accept().unwrap().0, client);
        drop((listener, lease));

        let plain =
            socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None).unwrap();
        plain.set_only_v6(false).unwrap();
        let wildcard: std::net::SocketAddr = format!("[::]:{}", block.first).parse().unwrap();
        plain.bind(&wildcard.into()).expect_err("no connection is in TIME_WAIT");

        let lease = own.request().exact(block.first).lease().unwrap();
        if cfg!(target_os = "linux") {
            // By the hold.
            let error = other.request().exact(block.first).lease().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PortTaken, "another registry, {host}");
        }
        drop(TcpListener::bind(&address).expect("the next server starts"));
        drop(lease);

        let stranger = TcpListener::bind(&address).unwrap();
        let error = own.request().exact(block.first).lease().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PortTaken, "somebody listens, {host}");
        drop(stranger);

        let range = block.first..=block.first;
        drop(own.request().range(range).lease().expect("a range of nothing but TIME_WAIT"));
    }
}

#[test]
fn udp_is_asked_for_as_well() {
    let own = OwnRegistry::new();
    let block = Allotment::new();
    let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, block.first)).unwrap();
    let request = || own.request().exact(block.first);
    drop(request().lease().expect("TCP alone is free"));
    assert_eq!(request().udp().lease().unwrap_err().kind(), ErrorKind::PortTaken);
    drop(stranger);
    let lease = request().udp().lease().unwrap();
    let socket = lease.bind_udp().unwrap();
    assert_eq!(socket.local_addr().unwrap(), lease.addr());
    assert_eq!(lease.bind_udp().unwrap_err().kind(), ErrorKind::PortTaken);
}

#[test]
fn the_lease_binds_its_own_port() {
    let own = OwnRegistry::new();
    let lease = own.request().lease().unwrap();
    let listener = lease.bind().unwrap();
    assert_eq!(listener.local_addr().unwrap(), lease.addr());
    let error = lease.bind().unwrap_err();
    assert_eq!((error.kind(), error.port()), (ErrorKind::PortTaken, Some(lease.port())));
}

#[test]
fn what_makes_no_sense_is_said() {
    let own = OwnRegistry::new();
    #[expect(clippy::reversed_empty_ranges)]
    let empty = 20..=10;
    let cases: [Result<(), portlease::Error>; 6] = [
        own.request().exact(0).lease().map(drop),
        own.request().range(0..=9).lease().map(drop),
        own.request().range(empty).lease().map(drop),
        own.request().exact(9).lease_many(2).map(drop),
        own.request().from_env("X").lease_block(2).map(drop),
        own.request().lease_exact(&[0]).map(drop),
    ];
    for (index, case) in cases.into_iter().enumerate() {
        assert_eq!(case.unwrap_err().kind(), ErrorKind::InvalidInput, "case {index}");
    }
}

/// Environment variables are set for a child, since they belong to a whole process.
fn try_lease(own: &OwnRegistry, role: &[&str], variables: &[(&str, &str)]) -> String {
    let mut command = child_command(role);
    command.env("PORTLEASE_DIR", own.path()).envs(variables.iter().copied());
    support::stdout_of(&command.output().unwrap())
}

#[test]
fn a_range_from_the_environment() {
    let own = OwnRegistry::new();
    let block = Allotment::new();
    let (first, last) = (block.first, block.last);
    for range in [format!("{first}-{first}"), format!(" {first} "), format!("{first},{first}")] {
        let answer = try_lease(&own, &["try"], &[("PORTLEASE_RANGE", &range)]);
        assert_eq!(answer, format!("leased {first}"), "{range:?}");
    }
    for bad in ["x", "0-10", "9-1", &format!("{first}-{last}x"), "70000"] {
        let answer = try_lease(&own, &["try"], &[("PORTLEASE_RANGE", bad)]);
        let expected = format!("InvalidInput: PORTLEASE_RANGE is {bad:?}, which is not a range");
        assert!(answer.starts_with(&expected), "{answer}");
    }
    assert!(try_lease(&own, &["try"], &[("PORTLEASE_RANGE", "")]).starts_with("leased 2"));
}

#[test]
fn an_exact_port_from_the_environment() {
    let own = OwnRegistry::new();
    let block = Allotment::new();
    let port = block.first.to_string();
    let role = ["try-variable", "API_PORT"];
    assert_eq!(try_lease(&own, &role, &[("API_PORT", &port)]), format!("leased {port}"));
    assert!(try_lease(&own, &role, &[]).starts_with("leased 2"), "unset: any");
    for bad in ["", "0", "70000", "http", "-1", "80 "] {
        let answer = try_lease(&own, &role, &[("API_PORT", bad)]);
        let expected = format!("InvalidInput: the environment variable API_PORT is {bad:?}");
        assert!(answer.starts_with(&expected), "{answer}");
    }
}

#[cfg(target_os = "linux")] // elsewhere, every user may have it, or nobody can become another
#[test]
fn a_privileged_port_is_excluded_and_not_taken() {
    let Some(other) = support::SomebodyElse::new() else { return };
    let mut command = other.child_command(&["try-variable", "API_PORT"]);
    command.env("API_PORT", "81").env("PORTLEASE_DIR", other.home().join("registry"));
    let answer = support::stdout_of(&command.output().unwrap());
    assert!(answer.starts_with("PortExcluded: failed to lease port 81: the system"), "{answer}");
    assert!(answer.contains("below 1024") && answer.contains("Permission denied"), "{answer}");
    // Nor is it waited for.
    let dir = other.home().join("registry");
    let mut command = other.child_command(&["hold-exact", dir.to_str().unwrap(), "81", "600"]);
    assert_eq!(support::stdout_of(&command.output().unwrap()), "PortExcluded");
}

#[test]
fn in_the_output_of_a_test_a_lease_is_its_number() {
    let own = OwnRegistry::new();
    let lease = own.request().lease().unwrap();
    assert_eq!(lease.to_string(), lease.port().to_string());
    assert_eq!(format!("{lease:?}"), format!("Lease {{ port: {}, .. }}", lease.port()));
    let bound = portlease::bind().unwrap();
    assert_eq!(bound.to_string(), bound.port().to_string());
    assert_eq!(bound.listener().local_addr().unwrap(), bound.addr());
}

#[test]
fn what_can_never_be_is_not_waited_for() {
    let own = OwnRegistry::new();
    let block = Allotment::new();
    let request = || own.request().range(block.first..=block.first + 4).wait(Duration::MAX);
    for error in [request().lease_many(6).unwrap_err(), request().lease_block(6).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("it has 5 ports, or no such run"), "{error}");
    }
    let none = std::ops::RangeInclusive::new(block.last, block.first);
    let error = own.request().range(none).lease().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("it needs a lower and an upper port"), "{error}");
}

/// A look locks a slot for a moment; two who want all of a range are in each other's way.
#[test]
fn what_passes_in_a_moment_is_no_refusal() {
    let own = OwnRegistry::new();
    let block = Allotment::new();
    let range = block.first..=block.first + 7;
    let look = || {
        own.registry.list().unwrap();
    };
    support::meanwhile(1, look, || {
        let one = own.request().range(block.last..=block.last);
        let all = own.request().range(range);
        let outcome: Result<(), _> = (0..200).try_for_each(|_| {
            one.clone().lease().and_then(|_| all.clone().lease_many(8)).map(drop)
        });
        outcome.unwrap();
    });
}

#[cfg(unix)] // by a shell
#[test]
fn a_limit_on_the_size_of_files_is_no_reason_to_fail() {
    let own = OwnRegistry::new();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 100; exec \"$0\" try \"$1\""]).arg(support::child_path());
    let output = command.arg(own.path()).output().unwrap();
    assert!(support::stdout_of(&output).starts_with("leased 2"));
}

/// A container may have 127.0.0.1 and no other address of the loopback network.
#[cfg(target_os = "linux")] // by a namespace
#[test]
fn without_the_address_that_time_wait_is_told_by() {
    let own = OwnRegistry::new();
    let script = "ip address add 127.0.0.1/32 dev lo; ip link set lo up; \
                  ip address del 127.0.0.1/8 dev lo 2>/dev/null || true; \
                  PORT=11700 \"$0\" serve & server=$!; \
                  until \"$0\" connect 11700; do :; done; \
                  \"$0\" hold-exact \"$1\" 11700 0 </dev/null; \
                  PORTLEASE_RANGE=11700-11701 \"$0\" try \"$1\"; kill $server";
    let Some(output) = support::unshare(&["--net"], script, &[&own.arg()]) else { return };
    assert_eq!(support::stdout_of(&output), "PortTaken\nleased 11701");
}

/// A process whose directory was removed, and made anew by another, uses the new one.
#[cfg(unix)] // on Windows, it cannot be removed while it is used
#[test]
fn a_directory_that_another_process_made_anew() {
    let own = OwnRegistry::new();
    drop(own.request().lease().unwrap());
    std::fs::remove_dir_all(own.path()).unwrap();
    let mut child = TestChild::spawn(child_command(&["hold", &own.arg(), "1"]));
    child.line().unwrap();
    let _lease = own.request().label("here").lease().unwrap();
    let here = own.registry.list().unwrap();
    assert_eq!(here.len(), 2);
    let labels: HashSet<_> = here.iter().map(Holder::label).collect();
    assert_eq!(labels, HashSet::from([Some("held"), Some("here")]));
    let there = child_command(&["labels", &own.arg()]).output().unwrap();
    let there = support::stdout_of(&there);
    assert!(there.contains("held") && there.contains("here"), "{there}");
    child.finish();
}

#[cfg(unix)]
#[test]
fn a_directory_that_is_removed_while_somebody_waits() {
    let own = OwnRegistry::new();
    let lease = own.request().lease().unwrap();
    std::thread::scope(|scope| {
        let request = own.request().exact(lease.port()).wait(support::DEADLINE);
        let waiter = scope.spawn(move || request.lease().map(drop));
        std::thread::sleep(Duration::from_millis(50)); // not needed, but then he waits indeed
        std::fs::remove_dir_all(own.path()).unwrap();
        drop(lease);
        waiter.join().unwrap().unwrap();
    });
}

#[cfg(unix)] // by a shell
#[test]
fn out_of_descriptors_is_said() {
    let own = OwnRegistry::new();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 20; exec \"$0\" hold \"$1\" 100"]).arg(support::child_path());
    let output = command.arg(own.path()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(stderr.contains("OutOfDescriptors: failed to"), "{stderr}");
    assert!(
        stderr.contains("no file descriptor is left") && stderr.contains("ulimit -n"),
        "{stderr}"
    );
    assert_eq!(own.registry.list().unwrap(), [], "what was taken on the way is free again");
}

#[test]
fn other_processes_are_listed_and_vanish() {
    let own = OwnRegistry::new();
    let mut child = TestChild::spawn(child_command(&["hold", &own.arg(), "3"]));
    let line = child.line().unwrap();
    let ports: Vec<u16> = line.split(' ').map(|port| port.parse().unwrap()).collect();
    let holders = own.registry.list().unwrap();
    assert_eq!(
        holders.iter().map(Holder::port).collect::<HashSet<_>>(),
        ports.iter().copied().collect()
    );
    assert!(holders.iter().all(|holder| holder.pid() == Some(child.id())));
    assert!(holders.iter().all(|holder| holder.label() == Some("held")));
    let taken = own.request().exact(ports[0]).lease().unwrap_err();
    assert!(taken.to_string().contains(&format!("leased by pid {}", child.id())), "{taken}");
    child.kill();
    assert_eq!(own.registry.list().unwrap(), [], "killed");
    drop(own.request().lease_exact(&ports).expect("free at once, nothing to clean"));
}
