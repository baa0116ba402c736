//! The program that the tests start as another process. Its first argument says what it is to be;
//! what it has to say, it prints, a line at a time.

#[cfg(unix)]
mod actor;
#[cfg(unix)]
mod dice;
#[cfg(unix)]
mod rehearsal;
mod twin;

use std::env;
use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::iter;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
#[cfg(unix)]
use std::ops::RangeInclusive;
#[cfg(unix)]
use std::os::{fd::AsFd, unix::process::parent_id};
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::{Arc, Barrier, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use portlease::{
    Bound, ErrorKind, Lease, LeaseBuilder, Ports, Ready, Registry, Server, ServerBuilder, Signal,
    Supervision, child,
};
use twin::Twin;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve"] => serve(env::var("PORT").map_or(0, |port| port.parse().unwrap())),
        ["serve", port] => serve(port.parse().unwrap()),
        ["serve-on", address, how] => serve_on(address.parse().unwrap(), how),
        ["serve-near", port, how] => serve_near(port.parse().unwrap(), how),
        ["chooses", count, stream, text] => chooses(count.parse().unwrap(), stream, text),
        ["datagrams", port] => datagrams(port.parse().unwrap()),
        ["datagrams-and-serve", port] => {
            let port = port.parse().unwrap();
            thread::spawn(move || datagrams(port));
            serve(port)
        }
        #[cfg(unix)]
        ["serve-inherited"] => serve_inherited(),
        ["serve-all", ref ports @ ..] => serve_all(ports),
        ["serve-from", file] => {
            let port = std::fs::read_to_string(file).unwrap().parse().unwrap();
            let started = OpenOptions::new().append(true).create(true).open("started");
            started.unwrap().write_all(format!("{}\n", process::id()).as_bytes()).unwrap();
            serve(port)
        }
        ["say-and-serve"] => {
            say("one");
            eprintln!("two");
            thread::sleep(Duration::from_millis(100));
            say("three");
            serve(env::var("PORT").unwrap().parse().unwrap())
        }
        ["read-and-serve"] => {
            let mut line = String::new();
            thread::spawn(|| serve(env::var("PORT").unwrap().parse().unwrap()));
            io::stdin().read_line(&mut line).unwrap();
            say(format_args!("got {line:?}"));
            sleep_for_ever()
        }
        ["serve-and-warm-up", file] => {
            thread::spawn(|| serve(env::var("PORT").unwrap().parse().unwrap()));
            say("is warm");
            thread::sleep(Duration::from_millis(100));
            std::fs::write(file, "").unwrap();
            sleep_for_ever()
        }
        ["exists", path] => process::exit(i32::from(!Path::new(path).exists())),
        ["exit", code] => process::exit(code.parse().unwrap()),
        ["own-half", ref names @ ..] => own_half(names),
        #[cfg(feature = "tokio")]
        ["own-half-awaited", ref names @ ..] => own_half_awaited(names),
        ["own-half-on", ip] => {
            serve_with_each(&[or_exit(child::listener_on(ip.parse::<IpAddr>().unwrap()))]);
        }
        ["own-half-by-threads", count] => own_half_by_threads(count.parse().unwrap()),
        ["own-half-twice"] => {
            let _listener = or_exit(child::listener());
            or_exit(child::listener());
        }
        ["own-half-then", script] => {
            let _listener = or_exit(child::listener());
            process::exit(
                Command::new("/bin/sh").args(["-c", script]).status().unwrap().code().unwrap(),
            );
        }
        ["own-half-opened"] => {
            // As what this process opens itself, and does not inherit.
            let _file = std::fs::File::open("/dev/null").unwrap();
            or_exit(child::listener());
        }
        ["announce", port] => or_exit(child::announce(port.parse().unwrap())),
        ["announce", name, port] => {
            or_exit(child::announce_named(name, port.parse().unwrap()));
        }
        ["port-from-env"] => say(format_args!("{:?}", or_exit(child::port_from_env()))),
        ["serve-once"] => {
            let port: u16 = env::var("PORT").unwrap().parse().unwrap();
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
            answer(listener.accept().unwrap().0);
        }
        ["bind", address, how] => {
            let _socket = bind(address.parse().unwrap(), how).unwrap();
            say("bound");
            io::stdin().read_to_end(&mut Vec::new()).unwrap();
        }
        ["client", from, address] => {
            let _stream = client(from.parse().unwrap(), address.parse().unwrap());
            say("connected");
            io::stdin().read_to_end(&mut Vec::new()).unwrap();
        }
        ["diagnose", port] => {
            let diagnosis = portlease::diagnose(port.parse().unwrap());
            say(format_args!("{}\n{diagnosis}", values(&diagnosis)));
        }
        ["diagnose-without-descriptors", port, spare] => {
            let port = port.parse().unwrap();
            portlease::diagnose(port); // the registry is open now
            let mut files = all_descriptors();
            files.truncate(files.len() - spare.parse::<usize>().unwrap());
            let diagnosis = portlease::diagnose(port);
            drop(files);
            say(format_args!("{}\n{diagnosis}", values(&diagnosis)));
        }
        ["diagnose-own-lease"] => {
            let lease = portlease::lease().unwrap();
            let diagnosis = portlease::diagnose(lease.port());
            let values = values(&diagnosis);
            say(format_args!("{lease}\n{}\n{values}\n{diagnosis}", process::id()));
        }
        ["release"] => say(format_args!("{:?}", portlease::lease().unwrap().release())),
        ["bound", what] => bound(what),
        ["moved"] => moved(),
        ["bind-without-descriptors"] => {
            let lease = portlease::lease().unwrap();
            let _files = all_descriptors();
            say(format_args!("{:?}", lease.bind().unwrap_err()));
        }
        ["check", ref addrs @ ..] => {
            for check in portlease::check(addrs.iter().map(|addr| addr.parse().unwrap())) {
                say(format_args!("{}\n{check}", if check.is_free() { "free" } else { "not free" }));
            }
        }
        ["hear", port] => hear(port.parse().unwrap()),
        ["serve-twice"] => {
            // A worker in the same group: whoever stops only the first one leaves this one.
            let mut worker = Command::new(own_path()).arg("sleep").spawn().unwrap();
            say(format_args!("WORKER={}", worker.id()));
            thread::spawn(move || worker.wait());
            serve(env::var("PORT").unwrap().parse().unwrap());
        }
        #[cfg(unix)]
        ["serve-orphaned", parent, port] => {
            say("waiting");
            while parent_id().to_string() == parent {
                thread::sleep(Duration::from_millis(2));
            }
            serve(port.parse().unwrap());
        }
        ["serve-with-worker"] => serve_with_worker(),
        ["plain-harness"] => plain_harness(),
        ["daemon", way, environment] => daemonize(way, environment),
        ["sleep"] => sleep_for_ever(),
        ["hold", dir, count] => hold(dir, count.parse().unwrap()),
        ["try"] => report_lease(Lease::builder()),
        ["try", dir] => match Registry::open(dir) {
            Ok(registry) => report_lease(Lease::builder().registry(&registry)),
            Err(error) => say(format_args!("{error:?}")),
        },
        ["list-own", dir] => {
            let registry = Registry::open(dir).unwrap();
            let _lease = Lease::builder().registry(&registry).lease().unwrap();
            let holders = registry.list().unwrap();
            let without = holders.iter().filter(|holder| holder.pid().is_none()).count();
            say(format_args!("{without} without a record"));
        }
        ["labels", dir] => say(format_args!("{:?}", Registry::open(dir).unwrap().list().unwrap())),
        ["connect", port] => {
            let port: u16 = port.parse().unwrap();
            let connected = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
            process::exit(i32::from(!connected));
        }
        ["try-variable", name] => report_lease(Lease::builder().from_env(name)),
        ["one-by-one", dir, first, last, count] => {
            let registry = Registry::open(dir).unwrap();
            let range = first.parse().unwrap()..=last.parse().unwrap();
            let request = || Lease::builder().registry(&registry).range(range.clone());
            // A child of the test may still have copies of sockets on these ports.
            drop(request().wait(Duration::from_secs(60)).lease_many(range.len()).unwrap());
            for _ in 0..count.parse().unwrap() {
                thread::sleep(Duration::from_millis(10)); // the registry's clock ticks in 2 ms
                say(request().lease().unwrap());
            }
        }
        ["hold-exact", dir, port, wait] => {
            hold_exact(dir, port.parse().unwrap(), Duration::from_secs(wait.parse().unwrap()));
        }
        ["probe", first, last] => {
            let ports = first.parse::<u16>().unwrap()..=last.parse().unwrap();
            say(ports.into_iter().all(nothing_is_on));
        }
        ["contend", dir, witness, first, last, rounds] => contend(
            &Registry::open(dir).unwrap(),
            Path::new(witness),
            (first.parse().unwrap(), last.parse().unwrap()),
            rounds.parse().unwrap(),
        ),
        ["churn", dir, first, last] => {
            churn(&Registry::open(dir).unwrap(), first.parse().unwrap(), last.parse().unwrap());
        }
        ["queue", dir, port, log, turns] => {
            queue(dir, port.parse().unwrap(), log, turns.parse().unwrap());
        }
        ["pair", dir, one, two, rounds] => {
            pair(dir, one.parse().unwrap(), two.parse().unwrap(), rounds.parse().unwrap());
        }
        ["blocking", "harness", way, fate] => harness(way, fate),
        ["blocking", ref role @ ..] => with_a_server::<Server>(role),
        #[cfg(feature = "tokio")]
        ["awaited", "harness", way, fate] => awaited_harness(way, fate),
        #[cfg(feature = "tokio")]
        ["awaited", ref role @ ..] => with_a_server::<portlease::tokio::Server>(role),
        ["escaping-harness", script] => escaping_harness(script),
        ["checking-harness", file] => checking_harness(file.to_owned()),
        ["orphans"] => match portlease::orphans() {
            Ok(orphans) => say(format_args!("{orphans:?}")),
            Err(error) => say(format_args!("{error:?}")),
        },
        // Reaps the one that it started, and nobody else: orphans stay zombies for ever.
        ["pid1", ref role @ ..] => {
            let status = Command::new(own_path()).args(role).status().unwrap();
            process::exit(status.code().unwrap_or(1));
        }
        #[cfg(unix)]
        ["act", dir, first, last, seed, steps, patience] => actor::act(
            actor::Place { dir: Path::new(dir), ports: ports(first, last) },
            seed.parse().unwrap(),
            steps.parse().unwrap(),
            Duration::from_secs(patience.parse().unwrap()),
        ),
        #[cfg(unix)]
        ["rehearse", what, dir, first, last] => {
            let place = actor::Place { dir: Path::new(dir), ports: ports(first, last) };
            rehearsal::rehearse(what, place);
        }
        ["supervise-without-descriptors"] => supervise_without_descriptors(),
        ["full-namespace", dir, first, last] => {
            in_a_full_namespace(dir, first.parse().unwrap(), last.parse().unwrap());
        }
        ref other => panic!("no such role: {other:?}"),
    }
}

#[cfg(unix)]
fn ports(first: &str, last: &str) -> RangeInclusive<u16> {
    first.parse().unwrap()..=last.parse().unwrap()
}

/// The roles that there are with servers of either form.
fn with_a_server<S: Twin>(role: &[&str]) {
    match *role {
        ["one-server", fate] => one_server::<S>(fate),
        ["one-start", way, script] => one_start::<S>(way, script),
        ["flooded", script] => flooded::<S>(script),
        ["start-and-stop", dir, program] => start_and_stop::<S>(dir, program),
        ["unstoppable", dir, program] => unstoppable::<S>(dir, program),
        ["stop-with-an-orphan"] => stop_with_an_orphan::<S>(),
        ["unreaped"] => unreaped::<S>(),
        ["stop-without-descriptors", spare] => {
            stop_without_descriptors::<S>(spare.parse().unwrap());
        }
        ["stop-without-proc"] => stop_without_proc::<S>(),
        ref other => panic!("no such role: {other:?}"),
    }
}

/// Not even a connection in TIME_WAIT, over which a lease would be had.
fn nothing_is_on(port: u16) -> bool {
    let sockets = [(Domain::IPV4, "0.0.0.0"), (Domain::IPV6, "[::]")];
    sockets.into_iter().all(|(domain, any)| {
        let Ok(socket) = Socket::new(domain, Type::STREAM, None) else { return true }; // no IPv6
        let address: SocketAddr = format!("{any}:{port}").parse().unwrap();
        socket.bind(&address.into()).is_ok()
    })
}

fn own_path() -> PathBuf {
    env::current_exe().unwrap()
}

fn say(lines: impl std::fmt::Display) {
    say_to(io::stdout().lock(), lines);
}

/// In one write: on a busy machine, it may take long to the next.
fn say_to(mut stream: impl Write, lines: impl std::fmt::Display) {
    let lines = format!("{lines}\n");
    stream.write_all(lines.as_bytes()).and_then(|()| stream.flush()).unwrap();
}

fn sleep_for_ever() -> ! {
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

/// An HTTP server that answers with its pid; on a port of its own choice if that is 0.
fn serve(port: u16) -> ! {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    if port == 0 {
        say(format_args!("PORT={}", listener.local_addr().unwrap().port()));
    }
    let _ = writeln!(io::stderr(), "serving"); // who is left by a harness has no reader
    loop {
        answer(listener.accept().unwrap().0);
    }
}

/// The same server, beside a worker that it starts, which serves too; says where that is.
fn serve_with_worker() -> ! {
    let mut worker = Command::new(own_path());
    let mut worker = worker.arg("serve").env_remove("PORT").stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(worker.stdout.take().unwrap()).read_line(&mut line).unwrap();
    say(format_args!("WORKER {}", line.trim_end()));
    thread::spawn(move || worker.wait());
    serve(env::var("PORT").unwrap().parse().unwrap())
}

/// Starts that server, says where both are, and waits to be killed.
fn plain_harness() -> ! {
    let mut command = Command::new(own_path());
    command.arg("serve-with-worker");
    let server = Server::builder(command).env_port("PORT").start().unwrap();
    let line = server.wait_for_line("WORKER", Duration::from_secs(60)).unwrap();
    say(format_args!("serving {} {}", server.port(), line.text()));
    sleep_for_ever()
}

/// The same server on the socket that is its standard input.
#[cfg(unix)]
fn serve_inherited() -> ! {
    let listener = TcpListener::from(io::stdin().as_fd().try_clone_to_owned().unwrap());
    loop {
        answer(listener.accept().unwrap().0);
    }
}

fn answer(mut stream: TcpStream) {
    let mut line = String::new();
    let _ = BufReader::new(&stream).read_line(&mut line);
    let body = process::id().to_string();
    let _ = write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
}

/// The same server on ports of its own choice, which it prints, or writes to a file, in a text of
/// yours: `{0}`, `{1}`...
fn chooses(count: usize, stream: &str, text: &str) -> ! {
    let bind = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let listeners: Vec<_> = (0..count).map(bind).collect();
    let mut text = text.to_owned();
    for (i, listener) in listeners.iter().enumerate() {
        let port = listener.local_addr().unwrap().port().to_string();
        text = text.replace(&format!("{{{i}}}"), &port);
    }
    match stream {
        "stdout" => say(text),
        "stderr" => say_to(io::stderr(), text),
        file => std::fs::write(file, text).unwrap(),
    }
    let Some(main) = listeners.first() else { sleep_for_ever() };
    loop {
        answer(main.accept().unwrap().0);
    }
}

/// A UDP server that answers with its pid; on a port of its own choice if that is 0.
fn datagrams(port: u16) -> ! {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    say(format_args!("PORT={}", socket.local_addr().unwrap().port()));
    loop {
        let (_, client) = socket.recv_from(&mut [0; 16]).unwrap();
        socket.send_to(process::id().to_string().as_bytes(), client).unwrap();
    }
}

/// The same server on all of these ports, of which some may be names of variables.
fn serve_all(ports: &[&str]) -> ! {
    let port = |port: &&str| env::var(port).as_deref().unwrap_or(port).parse().unwrap();
    let bind = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    let listeners: Vec<_> = ports.iter().map(port).map(bind).collect();
    serve_with_each(&listeners)
}

fn serve_with_each(listeners: &[TcpListener]) -> ! {
    thread::scope(|scope| {
        for listener in listeners {
            scope.spawn(move || {
                loop {
                    answer(listener.accept().unwrap().0);
                }
            });
        }
    });
    sleep_for_ever()
}

/// The same server on its main port, and further ones of these names, by the child's half.
fn own_half(names: &[&str]) -> ! {
    let named = names.iter().map(|name| child::listener_named(name));
    let listeners = named.chain(iter::once_with(child::listener));
    serve_with_each(&listeners.map(or_exit).collect::<Vec<_>>())
}

/// The same server on tokio, which ends by itself when it is asked to.
#[cfg(feature = "tokio")]
#[tokio::main(flavor = "current_thread")]
async fn own_half_awaited(names: &[&str]) {
    use portlease::tokio::child;

    // Before it is ready, from when on it may be asked to end.
    #[cfg(unix)]
    let mut asked = {
        use tokio::signal::unix::{SignalKind, signal};
        signal(SignalKind::terminate()).unwrap()
    };
    #[cfg(windows)]
    let mut asked = tokio::signal::windows::ctrl_break().unwrap();
    let named = names.iter().map(|name| child::listener_named(name));
    for listener in named.chain(iter::once_with(child::listener)) {
        let listener = or_exit(listener);
        tokio::spawn(async move {
            loop {
                let stream = listener.accept().await.unwrap().0.into_std().unwrap();
                stream.set_nonblocking(false).unwrap();
                answer(stream);
            }
        });
    }
    asked.recv().await;
    say("asked to end");
}

/// The same server, whose main port so many threads ask for at once. What one gets who is not the first,
/// he prints, when all have asked.
fn own_half_by_threads(count: usize) -> ! {
    let barrier = Barrier::new(count);
    let ask = || {
        barrier.wait();
        child::listener()
    };
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let (listeners, errors): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    errors.into_iter().for_each(|error| say(format_args!("{:?}", error.unwrap_err())));
    say("all have asked");
    serve_with_each(&listeners.into_iter().map(or_exit).collect::<Vec<_>>())
}

/// As a server does whose `main` returns the error.
fn or_exit<T>(result: portlease::Result<T>) -> T {
    result.unwrap_or_else(|error| {
        eprintln!("{error:?}");
        process::exit(1)
    })
}

/// The same server on any address.
fn serve_on(address: SocketAddr, how: &str) -> ! {
    match listen(address, how) {
        Ok(listener) => serve_with(&listener),
        Err(error) => {
            eprintln!("{error}");
            process::exit(1);
        }
    }
}

/// A connection from a port that the test chose: the kernel's choice may have others at once, to elsewhere.
fn client(from: u16, address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, from)).into()).unwrap();
    socket.connect(&address.into()).unwrap();
    socket
}

/// The same server on the first port from this one on that it gets, as those of web developers do it.
fn serve_near(port: u16, how: &str) -> ! {
    for port in port.. {
        match listen((Ipv4Addr::LOCALHOST, port).into(), how) {
            Ok(listener) => serve_with(&listener),
            Err(_) => eprintln!("port {port} is taken, trying the next one"),
        }
    }
    panic!("no port is left");
}

fn listen(address: SocketAddr, how: &str) -> io::Result<TcpListener> {
    let socket = bind(address, how)?;
    socket.listen(16)?;
    Ok(socket.into())
}

fn bind(address: SocketAddr, how: &str) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(how != "exclusive")?;
    match how {
        "alone" | "exclusive" => {}
        #[cfg(unix)]
        "shared" => socket.set_reuse_port(true)?,
        "both" => socket.set_only_v6(false)?,
        "v6only" => socket.set_only_v6(true)?,
        other => panic!("no such way: {other}"),
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

fn serve_with(listener: &TcpListener) -> ! {
    say(format_args!("PORT={}", listener.local_addr().unwrap().port()));
    loop {
        answer(listener.accept().unwrap().0);
    }
}

/// Listens until its standard input ends, and says whether anybody came.
fn hear(port: u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    say("listening");
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
    listener.set_nonblocking(true).unwrap();
    say(if listener.accept().is_ok() { "heard somebody" } else { "heard nothing" });
}

/// Starts a server in a session of its own, and ends at once (the daemon waits for it), or once the
/// daemon serves, or not by itself. A daemon with a `bare` environment keeps the test's mark only.
#[allow(clippy::zombie_processes)] // who ends does not reap its daemon
fn daemonize(way: &str, environment: &str) {
    let port = env::var("PORT").unwrap();
    let mut daemon = Command::new("setsid");
    daemon.arg(own_path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match way {
        "ends-first" => {
            daemon.args(["serve-orphaned", &process::id().to_string(), &port]);
            daemon.stdout(Stdio::piped());
        }
        _ => _ = daemon.args(["serve", &port]),
    }
    if environment == "bare" {
        let mark = "PORTLEASE_TEST_CHILD";
        daemon.env_clear().env(mark, env::var_os(mark).unwrap());
    }
    let mut daemon = daemon.spawn().unwrap();
    say(format_args!("DAEMON={}", daemon.id())); // `setsid` becomes it
    if let Some(stdout) = daemon.stdout.take() {
        BufReader::new(stdout).read_line(&mut String::new()).unwrap();
        return;
    }
    let addr = (Ipv4Addr::LOCALHOST, port.parse().unwrap());
    while TcpStream::connect(addr).is_err() {
        thread::sleep(Duration::from_millis(2));
    }
    match way {
        "ends-second" => {}
        "stays" => sleep_for_ever(),
        other => panic!("no such way: {other}"),
    }
}

/// Takes leases, prints their ports, and keeps them until its standard input ends.
fn hold(dir: &str, count: usize) {
    let registry = Registry::open(dir).unwrap();
    let leases = Lease::builder().registry(&registry).label("held").lease_many(count).unwrap();
    let ports: Vec<_> = leases.iter().map(Lease::to_string).collect();
    say(ports.join(" "));
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// Takes a lease, and says which, or why not.
fn report_lease(request: LeaseBuilder) {
    match request.lease() {
        Ok(lease) => say(format_args!("leased {lease}")),
        Err(error) => say(format_args!("{error:?}")),
    }
}

/// Takes one port, says so or why not, and keeps it until its standard input ends.
fn hold_exact(dir: &str, port: u16, wait: Duration) {
    let registry = Registry::open(dir).unwrap();
    match Lease::builder().registry(&registry).exact(port).wait(wait).lease() {
        Ok(_lease) => {
            say("held");
            io::stdin().read_to_end(&mut Vec::new()).unwrap();
        }
        Err(error) => say(format_args!("{:?}", error.kind())),
    }
}

/// Takes, checks and releases leases in four threads. Whoever has a port creates a file of its
/// number, which fails if another has it: a witness that knows nothing of locks.
fn contend(registry: &Registry, witness: &Path, (first, last): (u16, u16), rounds: u32) {
    let exhausted: u32 = thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| contender(registry, witness, first, last, rounds)))
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    say(format_args!("exhausted {exhausted}"));
}

fn contender(registry: &Registry, witness: &Path, first: u16, last: u16, rounds: u32) -> u32 {
    let mut exhausted = 0;
    for _ in 0..rounds {
        let lease = loop {
            match Lease::builder().registry(registry).range(first..=last).lease() {
                Ok(lease) => break lease,
                Err(error) if error.kind() == ErrorKind::Exhausted => exhausted += 1,
                Err(error) => panic!("{error:?}"),
            }
        };
        let mark = Mark::set(witness.join(lease.to_string()));
        let listener = lease.bind().unwrap();
        thread::yield_now();
        drop(listener);
        drop(mark);
        drop(lease);
    }
    exhausted
}

/// Says who has a port, and goes before its lease does, on a panic too: the next holder would be taken for
/// a second one.
struct Mark(PathBuf);

impl Mark {
    fn set(path: PathBuf) -> Mark {
        let us = format!("process {}, {:?}", process::id(), thread::current().id());
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(mut file) => {
                let mark = Mark(path);
                file.write_all(us.as_bytes()).unwrap();
                mark
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Empty, if the other one has not written yet.
                let other = std::fs::read_to_string(&path);
                panic!("two holders of {}: {us}, and {other:?}", path.display());
            }
            Err(error) => panic!("{us} cannot make {}: {error:?}", path.display()),
        }
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        let removed = std::fs::remove_file(&self.0);
        if !thread::panicking() {
            removed.unwrap_or_else(|error| panic!("{} stays: {error:?}", self.0.display()));
        }
    }
}

/// Takes and releases until it is killed, at any point of it; or until who should have done that is gone.
fn churn(registry: &Registry, first: u16, last: u16) -> ! {
    thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        process::exit(0);
    });
    say("churning");
    loop {
        let _ = Lease::builder().registry(registry).range(first..=last).lease();
        let _ = Lease::builder().registry(registry).range(first..=last).lease_many(2);
    }
}

/// Waits in line for one port, again and again, and notes in a shared file when it asks and gets.
fn queue(dir: &str, port: u16, log: &str, turns: u32) {
    let registry = Registry::open(dir).unwrap();
    let note = |what: &str| {
        // Locked, and let go by its drop: wine loses some of what many append at the same time.
        let mut log = OpenOptions::new().read(true).append(true).create(true).open(log).unwrap();
        fs2::FileExt::lock_exclusive(&log).unwrap();
        log.write_all(format!("{what} {}\n", process::id()).as_bytes()).unwrap();
    };
    say("ready");
    io::stdin().read_to_end(&mut Vec::new()).unwrap(); // all start together
    for _ in 0..turns {
        note("asks");
        let request = Lease::builder().registry(&registry).exact(port);
        let lease = request.wait(Duration::from_secs(60)).lease().unwrap();
        note("gets");
        thread::sleep(Duration::from_millis(150)); // the work that is done with the port
        drop(lease);
    }
}

/// Takes two ports at once, again and again.
fn pair(dir: &str, one: u16, two: u16, rounds: u32) {
    let registry = Registry::open(dir).unwrap();
    for _ in 0..rounds {
        let request = Lease::builder().registry(&registry).wait(Duration::from_secs(60));
        let leases = request.lease_exact(&[one, two]).unwrap();
        assert_eq!((leases[0].port(), leases[1].port()), (one, two));
    }
    say("done");
}

/// What a harness starts.
fn harness_builder(way: &str) -> ServerBuilder {
    let lease = portlease::lease().unwrap();
    say(format_args!("leased {lease}"));
    let script = match way {
        "polite" => "exec \"$0\" serve",
        // Says that it was asked to end, does so once it may, and leaves a file if it got the time.
        "tidy" => {
            "trap 'exec 2>/dev/null; cd \"$PORTLEASE_TEST_TIDY\"; PATH=/bin:/usr/bin; : >asked; \
             until [ -e may-end ]; do sleep 0.02; done; : >tidied; exit' TERM; \"$0\" serve & wait"
        }
        "stubborn" | "briefly stubborn" => "trap '' TERM; \"$0\" sleep & exec \"$0\" serve",
        other => panic!("no such way: {other}"),
    };
    let make = move |ports: &Ports| {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).arg(own_path()).env("PORT", ports.main().to_string());
        ports.write_file("in/a/directory", "of its own");
        command
    };
    let builder = Server::with(make).lease(lease);
    match way {
        "briefly stubborn" => builder.stop_grace(Duration::from_millis(100)),
        _ => builder,
    }
}

/// Starts a server as a test would, and ends as `fate` says once its standard input has.
fn harness(way: &str, fate: &str) {
    static SERVER: OnceLock<Server> = OnceLock::new();
    let mut server = harness_builder(way).start().unwrap();
    say(format_args!("serving {} {} {}", process::id(), server.pid(), server.port()));
    if fate == "sleep" {
        sleep_for_ever();
    }
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
    match fate {
        "restart" => {
            say("restarting");
            server.restart().unwrap();
            say("restarted");
            sleep_for_ever();
        }
        "stop" => {
            say("stopping");
            server.stop().unwrap();
            say("stopped");
            sleep_for_ever();
        }
        "panic on a thread" => {
            let panicking = thread::spawn(move || {
                let _server = server;
                panic!("with a server at hand");
            });
            panicking.join().unwrap_err();
            return;
        }
        "drop" => return drop(server),
        "drop and stay" => drop_and_stay(server),
        _ => _ = SERVER.set(server),
    }
    match fate {
        "return" => {}
        "exit" => process::exit(7),
        "abort" => process::abort(),
        "panic" => panic!("with a server in a static"),
        other => panic!("no such fate: {other}"),
    }
}

/// Says when the drop is through, which is when the port is free.
fn drop_and_stay(server: impl Twin) -> ! {
    let registry = Registry::open(env::var_os("PORTLEASE_DIR").unwrap()).unwrap();
    say("dropping");
    drop(server);
    let start = Instant::now();
    while !registry.list().unwrap().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(60), "the drop does not end");
        thread::sleep(Duration::from_millis(2));
    }
    say("dropped");
    sleep_for_ever()
}

/// The same, all of it in a runtime: of one thread, or of several.
#[cfg(feature = "tokio")]
fn awaited_harness(way: &str, fate: &str) {
    match fate.strip_prefix("on threads: ") {
        Some(fate) => twin::block_on_threads(in_a_runtime(way, fate)),
        None => twin::block_on(in_a_runtime(way, fate)),
    }
}

#[cfg(feature = "tokio")]
async fn in_a_runtime(way: &str, fate: &str) {
    static SERVER: OnceLock<portlease::tokio::Server> = OnceLock::new();
    let mut server = portlease::tokio::Server::start(harness_builder(way)).await.unwrap();
    say(format_args!("serving {} {} {}", process::id(), server.pid(), server.port()));
    if fate == "sleep" {
        std::future::pending::<()>().await;
    }
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
    match fate {
        "restart" => {
            say("restarting");
            server.restart().await.unwrap();
            say("restarted");
            std::future::pending::<()>().await;
        }
        "stop" => {
            say("stopping");
            server.stop().await.unwrap();
            say("stopped");
            std::future::pending::<()>().await;
        }
        // Nobody waits for the thread that ends the server.
        "drop" => drop(server),
        "drop and stay" => drop_and_stay(server),
        "panic" => panic!("with a server at hand"),
        "panic on a thread" => {
            let panicking = tokio::spawn(async move {
                let _server = server;
                panic!("with a server at hand");
            });
            panicking.await.unwrap_err();
        }
        "return" => _ = SERVER.set(server),
        "exit" => process::exit(7),
        "abort" => process::abort(),
        other => panic!("no such fate: {other}"),
    }
}

/// Starts a server by a shell's script, says its pid, and waits to be killed.
fn escaping_harness(script: &str) -> ! {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).arg(own_path());
    let server = Server::builder(command).env_port("PORT").start().unwrap();
    say(server.pid());
    sleep_for_ever()
}

/// Starts a server, and looks whether it is ready by a command that takes for ever, whose pid is in `file`.
fn checking_harness(file: String) {
    let mut command = Command::new(own_path());
    command.arg("serve");
    let for_ever = Ready::command(move |_| {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo $$ >\"$0\"; exec sleep 1000"]).arg(&file);
        command
    });
    drop(Server::builder(command).env_port("PORT").ready(for_ever).start());
}

/// Starts a server, which is named so that its name is no file name, and ends as `fate` says.
fn one_server<S: Twin>(fate: &str) {
    let mut command = Command::new(own_path());
    command.arg("serve");
    let server = S::start(Server::builder(command).env_port("PORT").name("a/b: c")).unwrap();
    server.wait_for_line("serving", Duration::from_secs(60)).unwrap();
    match fate {
        "stop" => drop(server.stop().unwrap()),
        "panic" => panic!("with a server at hand"),
        #[cfg(feature = "tokio")]
        "panic-inside" => twin::block_on(async move {
            let _server = server;
            panic!("with a server in a runtime");
        }),
        "panic-static" => {
            let server: &'static S = Box::leak(Box::new(server)); // no static is generic
            let _log = server.log_on_panic();
            panic!("with a server in a static");
        }
        other => panic!("no such fate: {other}"),
    }
}

/// Starts a server by a shell's script, and stops it, for what is said of it meanwhile.
fn one_start<S: Twin>(way: &str, script: &str) {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).arg(own_path());
    let builder = Server::builder(command).name("api");
    let builder = match way {
        "told" => builder.env_port("PORT"),
        "reported" => builder.report_port(),
        "observed" => builder.observe_port(),
        other => panic!("no such way: {other}"),
    };
    let server = S::start(builder).unwrap();
    say(server.port());
    server.stop().unwrap();
}

/// Starts a server by a script that prints a lot before, and says how much of it was kept, and how
/// much memory this process has ever had.
fn flooded<S: Twin>(script: &str) {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).arg(own_path());
    let builder = Server::builder(command).env_port("PORT");
    let server = S::start(builder.start_timeout(Duration::from_secs(600))).unwrap();
    let kept = server.output().len().max(server.stop().unwrap().output().len());
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    say(format_args!("{kept} {}", peak.trim().trim_end_matches(" kB")));
}

/// Starts `program` as a server, says whether it can be looked at, and stops it.
fn start_and_stop<S: Twin>(dir: &str, program: &str) {
    let registry = Registry::open(dir).unwrap();
    let lease = Lease::builder().registry(&registry).lease().unwrap();
    let mut command = Command::new(program);
    command.arg("serve");
    let builder = Server::builder(command).env_port("PORT").lease(lease);
    let server = S::start(builder.stop_grace(Duration::from_secs(30))).unwrap();
    let readable = std::fs::read(format!("/proc/{}/environ", server.pid())).is_ok();
    say(server.pid());
    say(if readable { "readable" } else { "not readable" });
    let stopped = server.stop().unwrap();
    let leased = registry.list().unwrap().len();
    say(format_args!("forced: {}, {leased} leased", stopped.forced()));
}

/// Starts a server that becomes somebody whom this process may not kill, and tries to stop it.
fn unstoppable<S: Twin>(dir: &str, program: &str) {
    let registry = Registry::open(dir).unwrap();
    let lease = Lease::builder().registry(&registry).lease().unwrap();
    let mut command = Command::new(program);
    command.args(["--reuid=0", "--regid=0", "--clear-groups"]).arg(own_path()).arg("serve");
    let builder = Server::builder(command).env_port("PORT").stop_grace(Duration::from_millis(50));
    let mut server = S::start(builder.lease(lease)).unwrap();
    say(server.pid());
    let error = server.restart().unwrap_err();
    say(format_args!("{error:?}").to_string().lines().next().unwrap());
    say(format_args!("{:?}", server.restart().unwrap_err().kind()));
    drop(server);
    say(format_args!("{} leased", registry.list().unwrap().len()));
}

/// Asks for sockets on free ports, in a network namespace where there is one port, or no IPv6.
fn bound(what: &str) {
    let _listener = (what == "TCP").then(|| portlease::bind().unwrap());
    let _socket = what.contains("UDP").then(|| Bound::udp().unwrap());
    let error = match what {
        "TCP" => portlease::bind().err(),
        "UDP" => Bound::udp().err(),
        "TCP and UDP" => Bound::tcp_and_udp().err(),
        "both families" => Bound::both_families().err(),
        other => panic!("no such sockets: {other}"),
    };
    say(format_args!("{:?}", error.unwrap()));
}

/// Starts a server whose port somebody who has not leased it takes first: this process.
fn moved() {
    let mut stranger = None;
    let server = Server::with(move |ports| {
        stranger.get_or_insert_with(|| TcpListener::bind(ports.addr()).unwrap());
        let mut command = Command::new(own_path());
        command.args(["serve-on", &ports.addr().to_string(), "alone"]);
        command
    });
    // Who listens is not looked at, or the stranger may be seen before the server's end.
    let ready = Ready::at_once().and(Ready::line("PORT="));
    server.name("api").ready(ready).start().unwrap().stop().unwrap();
}

/// What a program is told of a diagnosis, where that is more than the sockets and their owners.
fn values(diagnosis: &portlease::Diagnosis) -> String {
    let mut values = vec![format!("{:?}", diagnosis.cause())];
    if diagnosis.lease().is_some() {
        values.push(format!("holder_lives: {:?}", diagnosis.holder_lives()));
    }
    let unseen = diagnosis.sockets().iter().filter_map(|socket| socket.unseen());
    values.extend(unseen.map(|why| format!("unseen: {why:?}")));
    values.extend(diagnosis.blind().map(|why| format!("blind: {why}")));
    values.join(", ")
}

/// Files, until no descriptor is left.
fn all_descriptors() -> Vec<std::fs::File> {
    std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect()
}

/// Stops a server while so few descriptors are left, for a moment, that `/proc` cannot be looked at.
fn stop_without_descriptors<S: Twin>(spare: usize) {
    let mut command = Command::new("/bin/sh");
    let script = "(trap 'sleep 0.3; echo tidied; exit' TERM; echo UP; while :; do sleep 0.05; done) & \
                  exec \"$0\" serve";
    command.args(["-c", script]).arg(own_path());
    let server = S::start(Server::builder(command).env_port("PORT")).unwrap();
    server.wait_for_line("UP", Duration::from_secs(60)).unwrap();
    let mut files = all_descriptors();
    files.truncate(files.len() - spare);
    let stopping = thread::spawn(move || server.stop().unwrap());
    thread::sleep(Duration::from_millis(200)); // it has looked by then, most likely
    drop(files);
    let stopped = stopping.join().unwrap();
    let tidied = stopped.output().contains("tidied");
    say(format_args!("forced: {}, tidied: {tidied}", stopped.forced()));
}

/// Looks after a server for a while in which no descriptor is left to look.
fn supervise_without_descriptors() {
    let mut command = Command::new(own_path());
    command.arg("serve");
    let often = Supervision::restarts(1).check_every(Duration::from_millis(5));
    let builder = Server::builder(command).env_port("PORT");
    let supervised = builder.supervise(often.unready_for(Duration::from_millis(20))).unwrap();
    let files = all_descriptors();
    thread::sleep(Duration::from_millis(300)); // it has looked often by then, most likely
    drop(files);
    supervised.with(|_| ()); // no restart is under way
    say(format_args!("{:?}", supervised.restarts()));
}

/// Run in a pid namespace with the `/proc` of another: stops a server whose worker ignores SIGTERM, and makes
/// files in the server's directory. It is known to be portlease's there too, for the half that
/// `portlease::child` is.
fn stop_without_proc<S: Twin>() {
    let dir = Arc::new(Mutex::new(PathBuf::new()));
    let shared = Arc::clone(&dir);
    let builder = Server::with(move |ports| {
        // By several, so that the directory is hardly ever empty when it is to be removed.
        let makes_files = "for who in 1 2 3 4; do
                               (while i=$((i + 1)); do true >$who.$i || sleep 1; done) &
                           done; wait";
        let script = "trap '' TERM; sh -c \"$1\" & echo WORKER=$!; trap - TERM; \
                      echo COOKIE=$PORTLEASE_COOKIE; exec \"$0\" serve";
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).arg(own_path()).arg(makes_files).current_dir(ports.dir());
        ports.dir().clone_into(&mut shared.lock().unwrap());
        command
    });
    let server = S::start(builder.env_port("PORT")).unwrap();
    let line = server.wait_for_line("WORKER=", Duration::from_secs(60)).unwrap();
    let worker = line.text().strip_prefix("WORKER=").unwrap().to_owned();
    server.wait_for_line("COOKIE=none", Duration::from_secs(60)).unwrap();
    server.stop().unwrap();
    // Until pid 1 has reaped it, it answers.
    let lives = || Command::new("kill").args(["-0", &worker]).output().unwrap().status.success();
    let answers = (0..500).all(|_| {
        thread::sleep(Duration::from_millis(10));
        lives()
    });
    let is_left = dir.lock().unwrap().exists();
    say(if answers {
        "the worker lives"
    } else if is_left {
        "its directory is left"
    } else {
        "gone"
    });
}

/// Stops a server whose worker is nobody's child any more, and says what the worker is then.
fn stop_with_an_orphan<S: Twin>() {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "(\"$0\" sleep & echo WORKER=$!); exec \"$0\" serve"]).arg(own_path());
    let server = S::start(Server::builder(command).env_port("PORT")).unwrap();
    let line = server.wait_for_line("WORKER=", Duration::from_secs(60)).unwrap();
    let worker = line.text().strip_prefix("WORKER=").unwrap().to_owned();
    let stopped = server.stop().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{worker}/stat")).unwrap();
    let state = stat.rsplit(") ").next().unwrap().split(' ').next().unwrap();
    say(format_args!("killed: {:?}, worker: {state}", stopped.killed()));
}

/// Run where SIGCHLD is ignored: the kernel tells nobody how a server ended.
fn unreaped<S: Twin>() {
    let start = || {
        let mut command = Command::new(own_path());
        command.arg("serve");
        S::start(Server::builder(command).name("unreaped").env_port("PORT")).unwrap()
    };
    let mut killed = start();
    killed.signal(Signal::Kill).unwrap();
    let error = killed.wait(Duration::from_secs(60)).unwrap_err();
    say(format_args!("{:?}: {error}", error.kind()));
    let stopped = start().stop().unwrap();
    say(format_args!("status {:?}, killed {:?}", stopped.status(), stopped.killed()));
}

/// Run in a network namespace whose ephemeral range is `first` to `last`: holds all of it, and
/// checks that the kernel gives none of it away.
fn in_a_full_namespace(dir: &str, first: u16, last: u16) {
    let registry = Registry::open(dir).unwrap();
    let other = Registry::open(format!("{dir}-other")).unwrap();
    let request = || Lease::builder().registry(&registry).range(first..=last);
    let leases = request().lease_many(usize::from(last - first) + 1).unwrap();
    for ip in [Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST] {
        let error = TcpListener::bind((ip, 0)).expect_err("the kernel gave a held port away");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{ip}");
    }
    // Outside of the range, so that only connections need ephemeral ports.
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, first - 1)).unwrap();
    let target = server.local_addr().unwrap();
    let error = TcpStream::connect(target).expect_err("a connection got a held port");
    assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    for lease in &leases {
        let stranger = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let error = stranger.bind(&lease.addr().into()).expect_err("bound without SO_REUSEADDR");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let error = Lease::builder().registry(&other).exact(lease.port()).lease().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PortTaken, "another registry");
        for host in ["127.0.0.1", "0.0.0.0", "[::1]", "[::]"] {
            let host_address = format!("{host}:{lease}");
            match TcpListener::bind(&host_address) {
                Ok(_) => {}
                // A namespace without IPv6 has neither address.
                Err(error)
                    if host.starts_with('[') && error.kind() == io::ErrorKind::AddrNotAvailable => {
                }
                Err(error) => panic!("a server does not start on {host_address}: {error}"),
            }
        }
    }
    // A hold of both families keeps this out, and one without IPv6 does not.
    let ipv6 = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
    ipv6.set_only_v6(true).unwrap();
    let held = ipv6.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, first)).into()).is_err();
    drop(leases);
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a released port is free");
    say(if held { "both families" } else { "ipv4" });
}
