//! Every message that mentions a port, as the text that `unwrap` prints, for a reviewer. Each is provoked.
#![cfg(target_os = "linux")] // shells, and what is seen of sockets

mod support;

use std::error::Error as _;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::process::{self, Command, Stdio};
use std::thread;
use std::time::Duration;

use portlease::{Bound, Cause, Error, Group, Ready, Registry, Server, ServerBuilder, Supervision};
use support::snapshot::{Snapshot, Varying, lacked_time};
use support::{
    Allotment, Gone, OwnRegistry, SomebodyElse, TestChild, child_command, shell, skip, stdout_of,
    unshare,
};

/// How long a server has to show what is wrong with it.
const PATIENCE: Duration = Duration::from_secs(3);

/// As it is for a port that only its test knows.
fn varying(port: u16) -> Varying {
    let varying = Varying::new().number(process::id(), "TEST").number(port, "PORT");
    varying.number(port + 1, "PORT+1").number(port + 2, "PORT+2").number(port + 3, "PORT+3")
}

fn text(error: &Error) -> String {
    assert_eq!(
        error.diagnosis().map(portlease::Diagnosis::port),
        error.diagnosis().and(error.port())
    );
    // It is not said twice.
    let source = error.source().map(|source| source.to_string()).unwrap_or_default();
    assert!(source.is_empty() || !error.to_string().contains(&source), "{error:?}");
    format!("{error:?}")
}

/// What is said when there was time to look: on a busy machine, there is not each time. `None`: there was not.
fn in_time(mut says: impl FnMut() -> Option<String>) -> String {
    let mut said = None;
    support::eventually("there is time to look", || {
        said = says().filter(|said| !lacked_time(said));
        said.is_some()
    });
    said.unwrap()
}

fn localhost(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

#[test]
fn of_leases_that_are_not_to_be_had() {
    let own = OwnRegistry::new();
    let block = Allotment::new();
    let port = block.first;
    let mut snapshot = Snapshot::new("messages/leases");
    let mut add = |heading: &str, fails: &mut dyn FnMut() -> Error, varying: Varying| {
        // Of a socket of this process, a child of another test may have a copy until its exec.
        let of_one = |said: &String| !said.contains("\n  processes ");
        let said = in_time(|| Some(text(&fails())).filter(of_one));
        snapshot.add(heading, varying.replace(&said));
    };
    let exact = |port| own.request().exact(port);

    let role = ["hold-exact", &own.arg(), &port.to_string(), "0"];
    let mut holder = child_command(&role);
    holder.env_remove("NEXTEST_TEST_NAME"); // as under cargo
    let mut holder = TestChild::spawn(holder);
    assert_eq!(holder.line().as_deref(), Some("held"));
    let held = || varying(port).number(holder.id(), "PID");
    add("leased by another process", &mut || exact(port).lease().unwrap_err(), held());
    let mine = exact(port + 1).label("mine").lease().unwrap();
    let mut waited = || exact(port).wait(Duration::from_millis(100)).lease().unwrap_err();
    add("leased by another process, and waited for with a lease", &mut waited, held());
    add("leased by this process", &mut || exact(port + 1).lease().unwrap_err(), varying(port));
    let served = exact(port + 6).lease().unwrap();
    let server = Server::builder(child_command(&["serve"])).env_port("PORT").lease(served);
    let server = server.start().unwrap();
    let mut error = || exact(port + 6).lease().unwrap_err();
    let of_server = varying(port).number(port + 6, "PORT+6").number(server.pid(), "SERVER");
    add("leased by this process, whose server listens", &mut error, of_server);
    drop(server);
    let other = OwnRegistry::new();
    let mut error = || other.request().exact(port + 1).lease().unwrap_err();
    let mut varied = Varying::default();
    varied.word(&own_command(), "COMMAND");
    add("leased from another registry", &mut error, varied.and(varying(port)));

    let stranger = format!("127.0.0.1:{}", port + 2);
    let mut stranger = TestChild::spawn(child_command(&["serve-on", &stranger, "alone"]));
    stranger.line().expect("it does not listen");
    let stranger_s = || varying(port).number(stranger.id(), "PID");
    add("in use by a stranger", &mut || exact(port + 2).lease().unwrap_err(), stranger_s());
    let mut waited = || exact(port + 2).wait(Duration::from_millis(300)).lease().unwrap_err();
    add("in use by a stranger, and waited for with a lease", &mut waited, stranger_s());
    let silent = format!("0.0.0.0:{}", port + 3);
    let mut silent = TestChild::spawn(child_command(&["bind", &silent, "exclusive"]));
    silent.line().expect("it is not bound");
    let mut error = || exact(port + 3).lease().unwrap_err();
    add("bound by a stranger", &mut error, varying(port).number(silent.id(), "PID"));
    let udp = own.request().udp().lease().unwrap();
    let mut datagrams = TestChild::spawn(child_command(&["datagrams", &udp.to_string()]));
    datagrams.line_after("PORT=");
    let number = udp.port();
    let mut error = || udp.bind_udp().unwrap_err();
    let of_udp = || Varying::new().number(number, "PORT").number(datagrams.id(), "PID");
    add("a lease's port that is bound for UDP", &mut error, of_udp());
    drop(udp);
    let mut error = || exact(number).udp().lease().unwrap_err();
    add("bound for UDP by a stranger", &mut error, of_udp());

    let address = mine.addr().to_string();
    let mut server = TestChild::spawn(child_command(&["serve-on", &address, "alone"]));
    server.line().expect("it does not listen");
    let mut error = || mine.bind().unwrap_err();
    add("a lease's port that is listened on", &mut error, varying(port).number(server.id(), "PID"));

    // On the very address that is asked about in the presence of TIME_WAIT.
    let token = SocketAddr::from((Ipv4Addr::new(127, 83, 71, 9), port + 7));
    let listener = TcpListener::bind(token).unwrap();
    let client = TcpStream::connect(token).unwrap();
    support::end(listener.accept().unwrap().0, client);
    drop(listener);
    let is_over = || portlease::diagnose(port + 7).cause() == Cause::TimeWait;
    support::eventually("it is over", is_over);
    let mut error = || exact(port + 7).lease().unwrap_err();
    add("used a moment ago", &mut error, varying(port).number(port + 7, "PORT+7"));

    let range = || own.request().range(port..=port + 2);
    let mut error = || range().lease().unwrap_err();
    add("a range", &mut error, held());
    add("more than there are", &mut || range().lease_many(4).unwrap_err(), varying(port));
    add("a block that there is not", &mut || range().lease_block(4).unwrap_err(), varying(port));
    add("two of a range", &mut || range().lease_many(2).unwrap_err(), held());
    let two = || own.request().range(port..=port + 1);
    add("a block of a range", &mut || two().lease_block(2).unwrap_err(), held());

    let slot = own.slots().join((port + 5).to_string());
    fs::create_dir(&slot).unwrap();
    let unusable = || {
        let mut varying = varying(port).number(port + 5, "PORT+5");
        varying.word(own.slots().to_str().unwrap(), "REGISTRY");
        varying
    };
    add("a slot that cannot be used", &mut || exact(port + 5).lease().unwrap_err(), unusable());
    let mut error = || own.request().range(port + 5..=port + 5).lease().unwrap_err();
    add("a range of slots that cannot be used", &mut error, unusable());
    let mut error = || own.request().range(port + 1..=port + 5).lease_many(4).unwrap_err();
    add("a range with a slot that cannot be used", &mut error, unusable());
    snapshot.check();
}

/// The command line of this process, as it is shown.
fn own_command() -> String {
    let arguments: Vec<_> = std::env::args().collect();
    arguments.join(" ").chars().take(200).collect()
}

#[test]
fn of_ports_that_may_not_be_bound() {
    let Some(other) = SomebodyElse::new() else { return };
    let mut snapshot = Snapshot::new("messages/excluded");
    // In a network namespace, where such a thing can be set: for 1, and for many.
    let script = "echo 21000 >/proc/sys/net/ipv4/ip_unprivileged_port_start
                  export PORTLEASE_DIR=\"$1\" PORTLEASE_RANGE=\"$3\" WANTED=\"$4\"
                  exec setpriv --reuid=12345 --regid=12345 --clear-groups \"$2\" try-variable $5";
    let registry = other.home().join("registry").display().to_string();
    let child = other.home().join("child").display().to_string();
    for (heading, range, wanted, variable) in [
        ("below 1024", "20000-20002", "80", "WANTED"),
        ("above", "20000-20002", "20001", "WANTED"),
        ("a range", "20000-20002", "", "NOT_SET"),
    ] {
        let arguments = [&registry, &child, range, wanted, variable];
        let Some(output) = unshare(&["--net"], script, &arguments) else { return };
        snapshot.add(heading, stdout_of(&output));
    }
    snapshot.check();
}

#[test]
fn of_settings() {
    let own = OwnRegistry::new();
    let mut snapshot = Snapshot::new("messages/settings");
    let mut add = |heading: &str, error: &Error| snapshot.add(heading, text(error));
    add("port 0", &own.request().exact(0).lease().unwrap_err());
    add("port 0 of several", &own.request().lease_exact(&[7, 0]).unwrap_err());
    add("the same twice", &own.request().lease_exact(&[9, 8, 9]).unwrap_err());
    add("a range from 0", &own.request().range(0..=9).lease().unwrap_err());
    add("many exact ones", &own.request().exact(9).lease_many(2).unwrap_err());
    add("a free port of another machine", &Bound::on([192, 0, 2, 1]).unwrap_err());
    let start = |builder: ServerBuilder| builder.start().unwrap_err();
    let builder = || Server::builder(child_command(&["serve"])).name("api");
    add("a server without a port", &start(builder()));
    let lease = || own.request().lease().unwrap();
    add("a server with two ports", &start(builder().report_port().lease(lease())));
    let named = builder().env_port_named("a:b", "ADMIN_PORT").lease(lease());
    add("a port's name", &start(named.env_port("PORT")));
    add("an inherited UDP socket", &start(builder().inherit_port().udp().lease(lease())));

    let mut role = |heading: &str, role: &[&str], name: &str, value: &str| {
        let mut command = child_command(role);
        command.env("PORTLEASE_DIR", own.path()).env(name, value);
        snapshot.add(heading, stdout_of(&command.output().unwrap()));
    };
    role("a variable", &["try-variable", "WANTED"], "WANTED", "x");
    role("a variable that is empty", &["try-variable", "WANTED"], "WANTED", "");
    role("the registry's range", &["try"], "PORTLEASE_RANGE", "9-8");
    snapshot.check();

    let file = own.dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Registry::open(&file).and_then(|it| it.list()).unwrap_err();
    assert_eq!(error.port(), None, "{error:?}");
}

/// A case: what it is called, and the server on a port, with a stranger who is there before.
type Case<'a> = (&'a str, fn(u16) -> (ServerBuilder, Option<Gone>));

fn told(command: Command) -> ServerBuilder {
    Server::builder(command).env_port("PORT").start_timeout(support::DEADLINE)
}

fn inherits(command: Command) -> ServerBuilder {
    Server::builder(command).inherit_port().start_timeout(support::DEADLINE)
}

/// One whose start ends because it takes too long, and no earlier.
fn late(builder: ServerBuilder) -> (ServerBuilder, Option<Gone>) {
    (builder.start_timeout(PATIENCE), None)
}

/// The same of one that has to come up before that.
fn late_up(builder: ServerBuilder) -> (ServerBuilder, Option<Gone>) {
    (builder.start_timeout(3 * PATIENCE), None)
}

fn stranger(address: &str) -> Option<Gone> {
    let mut child = child_command(&["serve-on", address, "alone"]);
    let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
    child.stdout.take().unwrap().read_exact(&mut [0; 5]).unwrap();
    Some(Gone(child))
}

#[test]
fn of_servers_on_a_port_that_they_are_told() {
    let own = OwnRegistry::new();
    let cases: [Case<'_>; 22] = [
        ("it ends", |_| (told(shell("echo no licence; exit 3")), None)),
        ("it ends, the port is in use", |_| {
            (told(shell("echo bind: Address already in use; exit 98")), None)
        }),
        ("it ends, its own port is in use", |_| {
            (told(shell("echo \"bind 127.0.0.1:$PORT: Address already in use\"; exit 98")), None)
        }),
        ("it ends, and has not taken what it inherited", |_| {
            let server = shell("echo bind: Address already in use; exit 98");
            (inherits(server), None)
        }),
        ("it ends, and has bound the port that it inherited", |port| {
            let complains =
                format!("echo 'bind 127.0.0.1:{port}: Address already in use'; exit 98");
            let server = shell(&complains);
            (inherits(server), None)
        }),
        ("a stranger has just come to listen in its place", |port| {
            let server = told(shell("exec sleep 1000")).start_timeout(Duration::ZERO);
            (server, stranger(&localhost(port).to_string()))
        }),
        ("it ends, a stranger has the port", |port| {
            let address = localhost(port).to_string();
            let server = told(child_command(&["serve-on", &address, "alone"]));
            // Who listens is not looked at, or the stranger may be seen before the end.
            let end = Ready::at_once().and(Ready::line("never printed"));
            (server.ready(end), stranger(&address))
        }),
        ("it says that a stranger has the port, and goes on", |port| {
            let complains =
                "echo \"bind to 0.0.0.0:$PORT: Address already in use\" >&2; exec sleep 1000";
            (told(shell(complains)), stranger(&format!("127.0.0.2:{port}")))
        }),
        ("it ends for want of another port, which a stranger has", |_| {
            // Of nobody else's: each of the other cases has a port of the same allotment.
            let other = Box::leak(Box::new(Allotment::new())).first;
            let complains = "echo \"listen tcp $0: bind: address already in use\" >&2; exit 1";
            let mut server = Command::new("/bin/sh");
            server.args(["-c", complains]).arg(localhost(other).to_string());
            (told(server), stranger(&localhost(other).to_string()))
        }),
        ("it may not have its port", |_| {
            (told(shell("echo \"listen tcp :$PORT: bind: permission denied\" >&2; exit 1")), None)
        }),
        ("it becomes a daemon", |_| (told(child_command(&["daemon", "ends-first", "full"])), None)),
        ("it does not listen", |_| late(told(shell("exec sleep 1000")))),
        ("it listens on another port", |_| {
            late_up(told(child_command(&["serve-on", "127.0.0.1:0", "alone"])))
        }),
        ("it listens on another address", |port| {
            late_up(told(child_command(&["serve-on", &format!("127.0.0.2:{port}"), "alone"])))
        }),
        ("it does not serve by UDP", |_| late_up(told(child_command(&["serve"])).udp())),
        ("it does not answer as it should", |_| {
            late_up(told(child_command(&["serve"])).ready(Ready::http_status("/", 204)))
        }),
        ("nothing accepts", |_| late(told(shell("exec sleep 1000")).ready(Ready::connects()))),
        ("it does not accept on what it inherited", |_| late(inherits(shell("exec sleep 1000")))),
        ("it inherits a port of another machine", |_| {
            let builder = inherits(child_command(&["serve"]));
            (builder.host([192, 0, 2, 1]), None)
        }),
        ("it inherits a port that a stranger listens on", |port| {
            let builder = inherits(child_command(&["serve"]));
            (builder, stranger(&localhost(port).to_string()))
        }),
        ("a stranger listens in its place", |port| {
            let command = child_command(&["serve-on", &format!("[::]:{port}"), "v6only"]);
            (told(command), stranger(&localhost(port).to_string()))
        }),
        ("a stranger listens beside it", |port| {
            let (builder, _) = late(told(shell("exec sleep 1000")));
            (builder, stranger(&format!("127.0.0.2:{port}")))
        }),
    ];
    let fails = |make: fn(u16) -> (ServerBuilder, Option<Gone>)| {
        let lease = own.request().lease().unwrap();
        let port = lease.port();
        let (builder, stranger) = make(port);
        let builder = builder.name("api").lease(lease);
        let error = builder.start().unwrap_err();
        let varying = Varying::new().number(process::id(), "TEST").number(port, "PORT");
        let varying = match &stranger {
            Some(stranger) => varying.number(stranger.0.id(), "STRANGER"),
            None => varying,
        };
        let varying = varying.after("127.0.0.1:", "ANOTHER").after("PORT=", "ANOTHER");
        let varying = varying.after("complains of port ", "ANOTHER");
        let varying = varying.after("DAEMON=", "PID").after("and left ", "PID");
        let said = varying.after("process ", "PID").replace(&text(&error));
        // Who was not seen in time is not told of as a stranger.
        Some(said).filter(|said| stranger.is_none() || said.contains("\n  process STRANGER"))
    };
    let mut snapshot = Snapshot::new("messages/servers");
    thread::scope(|scope| {
        let says = |make| in_time(|| fails(make));
        let cases = cases.map(|(heading, make)| (heading, scope.spawn(move || says(make))));
        for (heading, text) in cases {
            snapshot.add(heading, text.join().unwrap());
        }
    });
    snapshot.check();
}

#[test]
fn of_servers_that_choose_their_port() {
    let sleep = || Server::builder(shell("exec sleep 1000"));
    let elsewhere = child_command(&["serve-on", "127.0.0.2:0", "alone"]);
    let elsewhere = Server::builder(elsewhere).report_port();
    let silent = Server::builder(child_command(&["chooses", "2", "stdout", "quiet"]));
    let two = "http://127.0.0.1:{0} http://127.0.0.1:{1}";
    let two = Server::builder(child_command(&["chooses", "2", "stdout", two]));
    let neither = shell("echo http://127.0.0.1:1/; echo http://127.0.0.1:2/; exec sleep 1000");
    let neither = Server::builder(neither).report_port();
    // Said before it listens: then it cannot be late.
    let beside = Allotment::new();
    let debugger = shell(&format!(
        "echo Debugger listening on ws://127.0.0.1:{0}/4711; \
         exec \"$0\" serve-on 127.0.0.1:{0} alone >/dev/null",
        beside.first
    ));
    let debugger = Server::builder(debugger);
    // How long: those that end by themselves may take long, and those that have to come up, too.
    let (ends, comes_up) = (support::DEADLINE, 3 * PATIENCE);
    let cases: [(&str, ServerBuilder, Duration, &[&str]); 8] = [
        ("it reports nothing", sleep().report_port(), PATIENCE, &[]),
        ("it writes nothing", sleep().report_port_file("port"), PATIENCE, &[]),
        ("it listens nowhere", sleep().observe_port(), PATIENCE, &[]),
        ("it listens for others", elsewhere, comes_up, &["port ", "127.0.0.2:", "PORT="]),
        ("it listens on two", silent.report_port(), ends, &["listens on ", " and "]),
        ("it reports two", two.report_port(), ends, &["reports ", " and ", "127.0.0.1:"]),
        ("it reports two, and listens on neither", neither, comes_up, &[]),
        (
            "it listens for its debugger",
            debugger.report_port(),
            comes_up,
            &["listens on ", "127.0.0.1:"],
        ),
    ];
    let fails = |builder: ServerBuilder, at_most, names: &[&str]| {
        let error = builder.name("api").start_timeout(at_most).start().unwrap_err();
        let varying = names.iter().fold(Varying::new(), |it, name| it.after(name, "PORT"));
        varying.after("ready after ", "SOME").replace(&text(&error))
    };
    let mut snapshot = Snapshot::new("messages/choosing");
    thread::scope(|scope| {
        let cases = cases.map(|(heading, builder, at_most, names)| {
            (heading, scope.spawn(move || fails(builder, at_most, names)))
        });
        for (heading, text) in cases {
            snapshot.add(heading, text.join().unwrap());
        }
    });
    snapshot.check();
}

/// What is printed meanwhile.
#[test]
fn of_what_is_said_while_servers_start() {
    let own = OwnRegistry::new();
    let mut snapshot = Snapshot::new("messages/said");
    // On a busy machine, any start may be slow, and one that is may be so more than once.
    let says = |role: &[&str], slow: usize| {
        let mut command = child_command(role);
        own.lend_to(&mut command);
        let output = command.env("RUST_BACKTRACE", "0").output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let said = said
            .lines()
            .filter(|line| !line.contains("panicked at") && !line.contains("RUST_BACKTRACE"));
        let (is_slow, others): (Vec<_>, Vec<_>) =
            said.partition(|line| line.contains(" is not ready after "));
        let said: Vec<_> = is_slow.into_iter().take(slow).chain(others).collect();
        let varying = Varying::new().after("on port ", "PORT").after("127.0.0.1:", "PORT");
        let varying = varying.after("ready after ", "SOME").after(": port ", "PORT");
        varying.after("process ", "PID").replace(&said.join("\n"))
    };
    let mut add = |heading: &str, said: String| snapshot.add(heading, said);
    add("it is slow", says(&["blocking", "one-start", "told", "sleep 5; exec \"$0\" serve"], 1));
    add("it is kept out", says(&["blocking", "one-start", "told", "echo EADDRINUSE; exit 98"], 0));
    let moved = || Some(says(&["moved"], 0)).filter(|said| said.contains("\n  process PID"));
    add("a stranger has the port", in_time(moved));
    let silent = "\"$0\" serve >/dev/null & wait";
    add("it does not say its port", says(&["blocking", "one-start", "reported", silent], 0));
    add("a panic", says(&["blocking", "one-server", "panic"], 0));
    if let Some(other) = SomebodyElse::new() {
        add("it cannot be told who listens", of_one_who_is_not_to_be_seen(&own, &other));
    }
    snapshot.check();
}

/// What is said to somebody else, of whose server's port another user has come to listen on.
fn of_one_who_is_not_to_be_seen(own: &OwnRegistry, other: &SomebodyElse) -> String {
    let told = other.home().join("port");
    let script = "echo \"$PORT\" >\"$PORTLEASE_TEST_TOLD.new\"
                  mv \"$PORTLEASE_TEST_TOLD.new\" \"$PORTLEASE_TEST_TOLD\"; sleep 10; exit 3";
    let mut command = other.child_command(&["blocking", "one-start", "told", script]);
    own.lend_to(&mut command);
    command.env("PORTLEASE_DIR", other.home().join("registry")).env("PORTLEASE_TEST_TOLD", &told);
    let starts = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    support::eventually("it has started", || told.exists());
    let port = fs::read_to_string(told).unwrap().trim().parse().unwrap();
    let _listener = TcpListener::bind(localhost(port)).unwrap();
    let said = String::from_utf8(starts.wait_with_output().unwrap().stderr).unwrap();
    // On a busy machine, there is no listener yet when it is said first.
    let mut slow = said.lines().filter(|line| line.contains("is not ready after"));
    let said = slow.find(|line| line.contains("cannot be told")).expect(&said);
    Varying::new().number(port, "PORT").after("ready after ", "SOME").replace(said)
}

#[test]
fn of_a_server_that_is_started_again() {
    let own = OwnRegistry::new();
    let lease = own.request().lease().unwrap();
    let address = lease.addr().to_string();
    let server = Server::builder(child_command(&["serve-on", &address, "shared"]));
    let often = Supervision::restarts(1).check_every(Duration::from_millis(5));
    let server = server.env_port("PORT").lease(lease).name("api");
    let server = server.supervise(often.unready_for(Duration::from_millis(20))).unwrap();
    let port = server.port();
    let stranger = TestChild::spawn(child_command(&["serve-on", &address, "shared"]));
    server.wait_for_restarts(1, support::DEADLINE).unwrap();
    let why = server.restarts()[0].why().to_owned();
    let (before, why) = why.split_once(" s: ").expect(&why);
    assert!(before.starts_with("it was not ready any more for "), "{before}");
    let varying = Varying::new().number(port, "PORT").number(stranger.id(), "STRANGER");
    let mut snapshot = Snapshot::new("messages/restarts");
    snapshot.add("a stranger shares its port", varying.replace(why));
    snapshot.check();
}

#[test]
fn of_sockets_on_free_ports() {
    let mut snapshot = Snapshot::new("messages/bound");
    let up = "ip link set lo up; ";
    let no_ipv6 = format!("{up}echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; ");
    let one_port = format!("{up}echo 40001 40001 >/proc/sys/net/ipv4/ip_local_port_range; ");
    for (what, setting) in [
        ("TCP", &one_port),
        ("UDP", &one_port),
        ("TCP and UDP", &one_port),
        ("both families", &no_ipv6),
    ] {
        let script = format!("{setting}exec \"$0\" bound \"$1\"");
        let Some(output) = unshare(&["--net"], &script, &[what]) else { return };
        snapshot.add(what, stdout_of(&output));
    }
    snapshot.check();
}

/// strace lets the unlock fail; which of the locks' calls that is, a first run tells.
#[test]
fn of_a_lease_that_cannot_be_released() {
    if !support::has_strace() {
        return;
    }
    let own = OwnRegistry::new();
    let trace = own.dir.path().join("trace");
    let release = |options: &[&str]| {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-e", "trace=flock", "-o"]).arg(&trace).args(options);
        strace.arg(support::child_path()).arg("release");
        own.lend_to(&mut strace);
        (stdout_of(&strace.output().unwrap()), fs::read_to_string(&trace).unwrap())
    };
    let (released, trace) = release(&[]);
    assert_eq!(released, "Ok(())");
    let mut calls = trace.lines().filter(|line| line.contains("flock("));
    let place = 1 + calls.position(|line| line.contains("LOCK_UN")).unwrap();
    let (said, _) = release(&["-e", &format!("inject=flock:error=EIO:when={place}")]);
    let mut snapshot = Snapshot::new("messages/release");
    snapshot.add("it cannot be unlocked", Varying::new().after("port ", "PORT").replace(&said));
    snapshot.check();
}

#[test]
fn of_a_start_that_is_called_off_and_a_server_that_stays() {
    let mut snapshot = Snapshot::new("messages/ends");
    let group = Group::builder()
        .server("web", &[], |_| Ok(Server::builder(shell("exec sleep 1000")).env_port("PORT")))
        .server("api", &[], |_| Ok(Server::builder(shell("sleep 0.3; exit 3")).env_port("PORT")));
    let error = group.start().unwrap_err();
    snapshot.add("of a group", Varying::new().after("on port ", "PORT").replace(&text(&error)));
    if let Some(other) = SomebodyElse::new() {
        let dir = other.home().join("registry").display().to_string();
        let setpriv = other.setuid_setpriv().display().to_string();
        let mut stays =
            TestChild::spawn(other.child_command(&["blocking", "unstoppable", &dir, &setpriv]));
        let pid = stays.line().unwrap();
        let said = stays.line().unwrap();
        support::signal("KILL", pid.parse().unwrap());
        let varying = Varying::new().number(&pid, "PID").after("on port ", "PORT");
        snapshot.add("it does not stop", varying.replace(&said));
    } else {
        return skip("nobody else, who could keep a server").unwrap_or(());
    }
    snapshot.check();
}

/// Of those who use `portlease::child`, as their processes print them.
#[test]
fn of_the_childs_half() {
    let own = OwnRegistry::new();
    let block = Allotment::new();
    let port = block.first;
    let mut snapshot = Snapshot::new("messages/child");
    let said = |mut command: Command, variable: &str, value: &OsStr| {
        own.lend_to(&mut command);
        for name in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"] {
            command.env_remove(name);
        }
        let output = command.env(variable, value).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    for (heading, value) in [
        ("PORT is empty", ""),
        ("it is no number", "x"),
        ("it has spaces", " 8080"),
        ("it is too large", "65536"),
    ] {
        snapshot.add(heading, said(child_command(&["own-half"]), "PORT", value.as_ref()));
    }
    let bytes = OsStr::from_bytes(b"80\xff");
    snapshot.add("it is not UTF-8", said(child_command(&["port-from-env"]), "PORT", bytes));
    let linked =
        said(child_command(&["own-half", "my-db"]), "MY_DB_PORT", "tcp://10.0.0.1:80".as_ref());
    snapshot.add("that of a further port is no number", linked);

    let number = port.to_string();
    let mut taken = |heading: &str, role: &[&str], variable: &str, varying: Varying| {
        let text = in_time(|| Some(said(child_command(role), variable, number.as_ref())));
        let varying = varying.number(&number, "PORT").after("process ", "PID");
        snapshot.add(heading, varying.replace(&text));
    };
    let stranger = stranger(&localhost(port).to_string()).unwrap();
    let strangers = || Varying::new().number(stranger.0.id(), "STRANGER");
    taken("a stranger has the port", &["own-half"], "PORT", strangers());
    taken("a stranger has a further port", &["own-half", "grpc"], "GRPC_PORT", strangers());
    drop(stranger);
    taken("it has the port itself", &["own-half-twice"], "PORT", Varying::new());
    let elsewhere = &["own-half-on", "192.0.2.1"];
    taken("a port of another machine", elsewhere, "PORT", Varying::new());
    let elsewhere = said(child_command(elsewhere), "PORT", "0".as_ref());
    snapshot.add("any port of another machine", elsewhere);

    let full = shell("exec \"$0\" announce 40123 >/dev/full");
    snapshot.add("it cannot be announced", said(full, "PORT", "".as_ref()));
    let zero = said(child_command(&["announce", "grpc", "0"]), "PORT", "".as_ref());
    snapshot.add("port 0 is announced", zero);

    if let Some(other) = SomebodyElse::new() {
        let script = "echo 21000 >/proc/sys/net/ipv4/ip_unprivileged_port_start; ip link set lo up
                      setpriv --reuid=12345 --regid=12345 --clear-groups env PORT=\"$2\" \
                      \"$1\" own-half 2>&1 || true";
        let child = other.home().join("child").display().to_string();
        for (heading, number) in [("a port below 1024", "80"), ("a port that is kept", "20001")] {
            let Some(output) = unshare(&["--net"], script, &[&child, number]) else { break };
            snapshot.add(heading, stdout_of(&output));
        }
    }
    snapshot.check();
}

/// As it is seen by who has started it.
#[test]
fn of_the_childs_half_under_a_test() {
    let own = OwnRegistry::new();
    let says = || {
        let lease = own.request().lease().unwrap();
        let port = lease.port();
        let stranger = stranger(&localhost(port).to_string()).unwrap();
        let mut command = child_command(&["own-half"]);
        own.lend_to(&mut command);
        // Who listens is not looked at, or the stranger may be seen before the end.
        let end = Ready::at_once().and(Ready::line("never printed"));
        let error = told(command).ready(end).name("api").lease(lease).start().unwrap_err();
        let varying = varying(port).number(stranger.0.id(), "STRANGER").after("process ", "PID");
        let said = varying.replace(&text(&error));
        Some(said).filter(|said| said.contains("\n  process STRANGER"))
    };
    let mut snapshot = Snapshot::new("messages/child-under-test");
    snapshot.add("a stranger has its port", in_time(says));
    snapshot.check();
}

#[test]
fn of_descriptors() {
    let own = OwnRegistry::new();
    let mut command = child_command(&["bind-without-descriptors"]);
    own.lend_to(&mut command);
    let output = command.output().unwrap();
    let mut snapshot = Snapshot::new("messages/descriptors");
    let varying = Varying::new().after("127.0.0.1:", "PORT");
    snapshot.add("a listener", varying.replace(&stdout_of(&output)));
    let mut server = TestChild::spawn(child_command(&["serve", "0"]));
    let port = server.line_after("PORT=");
    let varying = || Varying::new().number(&port, "PORT").number(server.id(), "PID");
    let mut add = |heading: &str, mut command: Command| {
        own.lend_to(&mut command);
        let said = in_time(|| Some(stdout_of(&command.output().unwrap())));
        snapshot.add(heading, varying().replace(&said));
    };
    // One is enough, if nobody takes that too once the sockets are seen.
    for (heading, spare) in [("a diagnosis", "0"), ("a diagnosis, with one left", "1")] {
        add(heading, child_command(&["diagnose-without-descriptors", &port, spare]));
    }
    if support::has_strace() {
        let mut strace = Command::new("strace");
        let no_list = ["-P", "/proc", "-e", "trace=openat", "-e", "inject=openat:error=EMFILE"];
        strace.args(["-f", "-o", "/dev/null"]).args(no_list);
        strace.arg(support::child_path()).args(["diagnose", &port]);
        add("a diagnosis, with none left to look at processes", strace);
    }
    snapshot.check();
}
