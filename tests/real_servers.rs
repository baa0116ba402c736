//! Servers as people run them, in several processes, as daemons, beside strangers: of each, all is
//! gone after a stop, whatever became of its main process. How they serve: `protocols.rs`. The tests
//! are ignored by default, because the servers have to be installed.
#![cfg(target_os = "linux")] // as Linux has them

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use portlease::{ErrorKind, Server, ServerBuilder};
use support::real::{
    Real, SERVER_JS, assert_none_is_left, command, dir_with, go_program, haproxy_command, nginx,
    nginx_command, not_as_root, postgres_data, postgres_in,
};
use support::{DEADLINE, OwnRegistry, TestChild, connect, get};
use tempfile::TempDir;

/// In one write: `print` may make two, and then the lines of two workers become one.
const HELLO_PY: &str = "import os\nos.write(1, b'loaded\\n')\n\
                        def app(environ, start_response):\n\
                        \x20   start_response('200 OK', [])\n\
                        \x20   return [b'hello']\n";

fn gunicorn() -> Real<Server> {
    let real = Real::<Server>::start(dir_with(&[("hello.py", HELLO_PY)]), 3, |port, _| {
        let bind = format!("127.0.0.1:{port}");
        command("gunicorn", &["--workers", "2", "--bind", &bind, "hello:app"])
    });
    // Until then, a worker has its parent's handlers, and a SIGTERM is lost.
    let mut loaded = 0;
    let both = real.server.wait_for_line_where("of the second worker", DEADLINE, move |line| {
        loaded += usize::from(line == "loaded");
        loaded == 2
    });
    both.unwrap();
    real
}

/// The server, and a client whose query runs.
fn postgres(query: &str) -> (Real<Server>, TestChild) {
    let postgres = postgres_in::<Server>(postgres_data());
    let port = postgres.server.port().to_string();
    let database = ["--host=127.0.0.1", "--port", &port, "--username=test", "--dbname=postgres"];
    let mut psql = command("psql", &database);
    psql.args(["--no-psqlrc", "--command", query]);
    psql.stderr(Stdio::null()); // it complains when its server goes
    let client = TestChild::spawn(psql);
    let line = format!("statement: {query}");
    postgres.server.wait_for_line(&line, DEADLINE).unwrap();
    (postgres, client)
}

fn php() -> Real<Server> {
    Real::start(dir_with(&[("index.php", "hello")]), 4, |port, _| {
        let mut command = command("php", &["-S", &format!("127.0.0.1:{port}"), "-t", "."]);
        command.env("PHP_CLI_SERVER_WORKERS", "3");
        command
    })
}

fn npm() -> Real<Server> {
    let package = r#"{ "scripts": { "start": "node server.js" } }"#;
    let files = [("server.js", SERVER_JS), ("package.json", package)];
    Real::start(dir_with(&files), 2, |port, dir| {
        let mut command = command("npm", &["start"]);
        command.env("PORT", port.to_string()).env("HOME", dir).env("npm_config_cache", "cache");
        command.env("npm_config_update_notifier", "false");
        command
    })
}

fn shell() -> Real<Server> {
    Real::start(dir_with(&[("server.js", SERVER_JS)]), 2, |port, _| {
        let mut command = command("sh", &["-c", "node server.js; true"]);
        command.env("PORT", port.to_string());
        command
    })
}

/// On a busy machine, they take their time.
fn patient(builder: ServerBuilder) -> ServerBuilder {
    builder.start_timeout(DEADLINE).stop_grace(DEADLINE)
}

/// Starts what chooses its port, and talks to it.
fn chosen(builder: ServerBuilder, request: &str) {
    let server = patient(builder).start().unwrap();
    let mut stream = connect(server.addr());
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).unwrap();
    assert!(matches!(&answer, b"HTTP/" | b"VERSI"), "{answer:?}");
    assert!(!server.stop().unwrap().forced());
}

const GET: &str = "GET / HTTP/1.0\r\n\r\n";

/// Its report stays in its buffer.
#[test]
#[ignore = "needs Python"]
fn python_on_a_port_of_its_choice() {
    let arguments = ["-m", "http.server", "0", "--bind", "127.0.0.1"];
    chosen(Server::builder(command("python3", &arguments)).report_port(), GET);
}

/// It tells its debugger's port first.
#[test]
#[ignore = "needs Node"]
fn node_on_a_port_of_its_choice() {
    let script = "const server = require('http').createServer((request, response) => response.end());\
                  server.listen(0, '127.0.0.1', () => console.log(server.address()))";
    chosen(Server::builder(command("node", &["--inspect=0", "-e", script])).report_port(), GET);
}

#[test]
#[ignore = "needs Go"]
fn go_on_a_port_of_its_choice() {
    let dir = go_program();
    let mut command = Command::new(dir.path().join("server"));
    command.env("PORT", "0");
    chosen(Server::builder(command).report_port(), GET);
}

#[test]
#[ignore = "needs PHP"]
fn php_on_a_port_of_its_choice() {
    chosen(Server::builder(command("php", &["-S", "127.0.0.1:0"])).report_port(), GET);
}

/// It prints nothing.
#[test]
#[ignore = "needs memcached"]
fn memcached_on_a_port_of_its_choice() {
    let arguments = ["-p", "-1", "-l", "127.0.0.1", "-u", "nobody"];
    chosen(Server::builder(command("memcached", &arguments)).observe_port(), "version\r\n");
}

/// Starts what serves on the socket that it inherits, twice.
fn inherits(command: Command) {
    let mut server = patient(Server::builder(command).inherit_port()).start().unwrap();
    for _ in 0..2 {
        assert_eq!(get(server.addr(), "/"), "hello");
        server.restart().unwrap();
    }
    assert!(!server.stop().unwrap().forced());
}

/// It takes the socket only if `LISTEN_PID` is its own pid.
#[test]
#[ignore = "needs gunicorn"]
fn gunicorn_with_an_inherited_socket() {
    let dir = dir_with(&[("hello.py", HELLO_PY)]);
    let mut gunicorn = portlease::socket_activated(command("gunicorn", &[]).get_program());
    gunicorn.arg("hello:app").current_dir(dir.path());
    inherits(gunicorn);
}

#[test]
#[ignore = "needs Node"]
fn node_with_an_inherited_socket() {
    let answer = "(request, response) => response.end('hello')";
    let script = format!("require('http').createServer({answer}).listen({{ fd: 3 }})");
    inherits(command("node", &["-e", &script]));
}

/// A stranger has 127.0.0.1, and the server what is left, [::]: it stays alive, and its clients would
/// get to the stranger.
fn beside_a_stranger(dir: TempDir, mut make: impl FnMut(u16) -> Command + Send + 'static) {
    let own = OwnRegistry::new();
    let lease = own.request().lease().unwrap();
    let port = lease.port();
    let stranger = TcpListener::bind(lease.addr()).unwrap();
    let path = dir.path().to_owned();
    let builder = Server::with(move |ports| {
        let mut command = make(ports.main());
        command.current_dir(&path);
        command
    });
    // What it does then is its own choice: to live without that address, or to end.
    let error = patient(builder).lease(lease).start().unwrap_err();
    println!("{error}");
    assert_eq!((error.kind(), error.port()), (ErrorKind::PortTaken, Some(port)), "{error}");
    let name = format!("process {} ", std::process::id());
    assert!(error.to_string().contains(&name), "{error}");
    stranger.set_nonblocking(true).unwrap();
    assert!(stranger.accept().is_err(), "the stranger was talked to");
}

#[test]
#[ignore = "needs memcached"]
fn memcached_beside_a_stranger() {
    beside_a_stranger(dir_with(&[]), |port| {
        command("memcached", &["-p", &port.to_string(), "-u", "nobody"])
    });
}

#[test]
#[ignore = "needs mosquitto"]
fn mosquitto_beside_a_stranger() {
    let config = "allow_anonymous true\n";
    beside_a_stranger(dir_with(&[("mosquitto.conf", config)]), |port| {
        command("mosquitto", &["-c", "mosquitto.conf", "-p", &port.to_string()])
    });
}

#[test]
#[ignore = "needs PostgreSQL"]
fn postgres_beside_a_stranger() {
    beside_a_stranger(postgres_data(), |port| {
        let mut command = command("postgres", &["-D", "data", "-p", &port.to_string()]);
        command.args(["--listen_addresses=*", "--unix_socket_directories=", "--fsync=off"]);
        not_as_root(command)
    });
}

#[test]
#[ignore = "needs WEBrick"]
fn webrick_beside_a_stranger() {
    beside_a_stranger(dir_with(&[]), |port| {
        let server = format!("WEBrick::HTTPServer.new(Port: {port}).start");
        command("ruby", &["-r", "webrick", "-e", &server])
    });
}

/// Starts what makes itself a daemon: refused with advice and stopped; or, if it was found to listen
/// before its first process ended, stopped by a stop.
fn daemon(advice: &str, mut make: impl FnMut(u16, &Path) -> Command + Send + 'static) {
    let own = OwnRegistry::new();
    let dir = dir_with(&[("hello.py", "def app(environ, start_response): pass\n")]);
    let path = dir.path().to_owned();
    let builder = Server::with(move |ports| {
        let mut command = make(ports.main(), &path);
        command.current_dir(&path);
        command
    });
    let lease = own.request().lease().unwrap();
    let port = lease.port();
    match patient(builder).lease(lease).start() {
        Err(error) => {
            let text = error.to_string();
            println!("{text}");
            assert!(
                text.contains("if it made itself a daemon, run it in the foreground"),
                "{text}"
            );
            assert!(text.contains(advice), "{text}");
        }
        Ok(server) => drop(server.stop().unwrap()),
    }
    assert_none_is_left(&[], dir.path());
    drop(own.request().exact(port).lease().unwrap());
}

#[test]
#[ignore = "needs nginx"]
fn nginx_as_a_daemon() {
    daemon("`daemon off;`", |port, dir| nginx_command(port, dir, "on"));
}

#[test]
#[ignore = "needs Redis"]
fn redis_as_a_daemon() {
    daemon("`--daemonize no`", |port, dir| {
        let dir = dir.to_str().unwrap();
        command("redis-server", &["--port", &port.to_string(), "--daemonize", "yes", "--dir", dir])
    });
}

#[test]
#[ignore = "needs memcached"]
fn memcached_as_a_daemon() {
    daemon("leave out `-d`", |port, _| {
        command("memcached", &["-d", "-p", &port.to_string(), "-l", "127.0.0.1", "-u", "nobody"])
    });
}

#[test]
#[ignore = "needs HAProxy"]
fn haproxy_as_a_daemon() {
    daemon("leave out `-D`", |port, dir| {
        haproxy_command(port, dir, &["-D"], "http-request return status 200")
    });
}

#[test]
#[ignore = "needs gunicorn"]
fn gunicorn_as_a_daemon() {
    daemon("leave out `-D`", |port, _| {
        command("gunicorn", &["--daemon", "--bind", &format!("127.0.0.1:{port}"), "hello:app"])
    });
}

#[test]
#[ignore = "needs mosquitto"]
fn mosquitto_as_a_daemon() {
    daemon("leave out `-d`", |port, _| command("mosquitto", &["-d", "-p", &port.to_string()]));
}

#[test]
#[ignore = "needs gunicorn"]
fn gunicorn_and_its_workers() {
    gunicorn().stop();
}

#[test]
#[ignore = "needs gunicorn"]
fn the_workers_of_a_killed_gunicorn() {
    gunicorn().stop_without_its_main_process();
}

#[test]
#[ignore = "needs nginx"]
fn the_workers_of_a_killed_nginx() {
    nginx::<Server>(&[]).stop_without_its_main_process();
}

#[test]
#[ignore = "needs PostgreSQL"]
fn postgres_while_a_query_runs() {
    let (postgres, _client) = postgres("select pg_sleep(1000)");
    postgres.stop();
}

#[test]
#[ignore = "needs PostgreSQL"]
fn the_rest_of_a_killed_postgres() {
    // While it computes, it does not notice that its parent is gone.
    let (postgres, _client) = postgres("do 'begin loop end loop; end'");
    let dir = postgres.stop_without_its_main_process();
    // Refused while somebody uses the shared memory of the one before, which is removed then.
    postgres_in::<Server>(dir).stop();
}

#[test]
#[ignore = "needs PHP"]
fn php_and_its_workers() {
    php().stop();
}

#[test]
#[ignore = "needs PHP"]
fn the_workers_of_a_killed_php() {
    php().stop_without_its_main_process();
}

#[test]
#[ignore = "needs npm"]
fn npm_and_its_script() {
    npm().stop();
}

#[test]
#[ignore = "needs npm"]
fn the_script_of_a_killed_npm() {
    npm().stop_without_its_main_process();
}

#[test]
#[ignore = "needs Node"]
fn a_shell_and_its_node() {
    shell().stop();
}

#[test]
#[ignore = "needs Node"]
fn the_node_of_a_killed_shell() {
    shell().stop_without_its_main_process();
}
