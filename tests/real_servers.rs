//! Servers as people run them: of each, all is gone after a stop, whatever became of its main
//! process. The tests are ignored by default, because the servers have to be installed.

mod support;

use std::env;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use portlease::{ErrorKind, Server, ServerBuilder, Signal};
use support::{DEADLINE, OwnRegistry, TestChild, eventually, is_root, stdout_of};
use tempfile::TempDir;

/// `nobody`: PostgreSQL refuses to run as root, and wants a user who has a name.
const NOBODY: u32 = 65_534;

/// A server that works in a directory of its own.
struct Real {
    server: Server,
    own: OwnRegistry,
    dir: TempDir,
}

impl Real {
    /// Starts what `make` returns for a port and the directory, and waits until so many processes
    /// of it are there.
    fn start(
        dir: TempDir,
        processes: usize,
        mut make: impl FnMut(u16, &Path) -> Command + Send + 'static,
    ) -> Real {
        let own = OwnRegistry::new();
        let path = dir.path().to_owned();
        let builder = Server::with(move |ports| {
            let mut command = make(ports.main(), &path);
            command.current_dir(&path);
            command
        });
        // Whoever is killed after this did not heed the signal, however busy the machine is.
        let builder = builder.stop_grace(DEADLINE).start_timeout(DEADLINE);
        let server = builder.lease(own.request().lease().unwrap()).start().unwrap();
        let real = Real { server, own, dir };
        eventually("all its processes are there", || real.processes().len() >= processes);
        real
    }

    fn processes(&self) -> Vec<Process> {
        let mut all = Process::all();
        let mut family = vec![self.server.pid()];
        // Parents, because another user's directory may be hidden; the directory, because a process
        // that lost its parent, and overwrote its environment, still has it.
        while let Some(i) = all.iter().position(|process| {
            !family.contains(&process.pid)
                && (family.contains(&process.parent) || process.works_in(self.dir.path()))
        }) {
            family.push(all[i].pid);
        }
        all.retain(|process| family.contains(&process.pid));
        all
    }

    fn stop(self) {
        let processes = self.processes();
        self.stop_all(&processes);
    }

    fn stop_without_its_main_process(mut self) -> TempDir {
        let processes = self.processes();
        self.server.signal(Signal::Kill).unwrap();
        self.server.wait(DEADLINE).unwrap().expect("it ends of SIGKILL");
        self.stop_all(&processes)
    }

    fn stop_all(self, processes: &[Process]) -> TempDir {
        let Real { server, own, dir } = self;
        let addr = server.addr();
        let stopped = server.stop().unwrap();
        assert_none_is_left(processes, dir.path());
        assert!(!stopped.forced(), "{stopped:?}");
        let error = TcpStream::connect(addr).expect_err("somebody listens");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        drop(own.request().exact(addr.port()).lease().unwrap());
        dir
    }
}

fn assert_none_is_left(processes: &[Process], dir: &Path) {
    let mut left = Process::all();
    left.retain(|process| processes.iter().any(|was| process.is(was)) || process.works_in(dir));
    let names: Vec<_> = left.iter().map(|left| format!("{} ({})", left.pid, left.name)).collect();
    for process in left {
        // Nor after a test that failed.
        let _ = Command::new("kill").args(["-s", "KILL", &process.pid.to_string()]).status();
    }
    assert!(names.is_empty(), "of {}, these are left: {}", processes.len(), names.join(", "));
}

/// A living process.
struct Process {
    pid: u32,
    parent: u32,
    start: String,
    name: String,
}

impl Process {
    fn all() -> Vec<Process> {
        let pids = fs::read_dir("/proc").unwrap();
        let pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter_map(Process::read).collect()
    }

    fn read(pid: u32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (name, rest) = stat.rsplit_once(") ")?;
        let rest: Vec<_> = rest.split(' ').collect();
        let (state, parent, start) = (rest[0], rest[1].parse().ok()?, rest[19].to_owned());
        let name = name.split_once('(')?.1.to_owned();
        (!matches!(state, "Z" | "X")).then_some(Process { pid, parent, start, name })
    }

    fn is(&self, was: &Process) -> bool {
        (self.pid, &self.start) == (was.pid, &was.start)
    }

    fn works_in(&self, dir: &Path) -> bool {
        fs::read_link(format!("/proc/{}/cwd", self.pid)).is_ok_and(|cwd| cwd.starts_with(dir))
    }
}

/// Where a program is, which may not be in an ordinary user's `PATH`.
fn program(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let versions = versions.map(|version| version.unwrap().path().join("bin"));
    // PostgreSQL's own before those in PATH, which on Debian are wrappers.
    let dirs = versions.chain(env::split_paths(&path)).chain(["/usr/sbin".into()]);
    let mut candidates = dirs.map(|dir| dir.join(name));
    candidates.find(|program| program.exists()).unwrap_or_else(|| panic!("needs {name}"))
}

fn command(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program(name));
    command.args(arguments);
    command
}

fn dir_with(files: &[(&str, &str)]) -> TempDir {
    // As the kernel names it: without symbolic links.
    let dir = tempfile::tempdir_in(env::temp_dir().canonicalize().unwrap()).unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn gunicorn() -> Real {
    // In one write: `print` may make two, and then the lines of two workers become one.
    let app = "import os\nos.write(1, b'loaded\\n')\n\
               def app(environ, start_response):\n\
               \x20   start_response('200 OK', [])\n\
               \x20   return [b'hello']\n";
    let real = Real::start(dir_with(&[("hello.py", app)]), 3, |port, _| {
        let bind = format!("127.0.0.1:{port}");
        command("gunicorn", &["--workers", "2", "--bind", &bind, "hello:app"])
    });
    // Until then, a worker has its parent's handlers, and a SIGTERM is lost.
    let mut loaded = 0;
    let both = real.server.wait_for_line_where("of the second worker", DEADLINE, |line| {
        loaded += usize::from(line == "loaded");
        loaded == 2
    });
    both.unwrap();
    real
}

/// With a configuration that says whether it shall be a daemon.
fn nginx_command(port: u16, dir: &Path, daemon: &str) -> Command {
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|name| format!("{name}_temp_path {name};")).join(" ");
    let config = format!(
        "daemon {daemon}; worker_processes 2; pid nginx.pid; error_log stderr;\n\
             events {{}}\n\
             http {{ access_log off; {temporary}\n\
             server {{ listen 127.0.0.1:{port}; return 200 hello; }} }}\n"
    );
    fs::write(dir.join("nginx.conf"), config).unwrap();
    let mut command = command("nginx", &["-e", "stderr", "-c", "nginx.conf", "-p"]);
    command.arg(dir);
    command
}

fn nginx() -> Real {
    Real::start(dir_with(&[]), 3, |port, dir| nginx_command(port, dir, "off"))
}

fn postgres_data() -> TempDir {
    let dir = dir_with(&[]);
    if is_root() {
        chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let arguments = ["--no-sync", "--no-locale", "--auth=trust", "--username=test", "data"];
    let mut initdb = not_as_root(command("initdb", &arguments));
    stdout_of(&initdb.current_dir(dir.path()).output().unwrap());
    dir
}

/// The server, and a client whose query runs.
fn postgres(query: &str) -> (Real, TestChild) {
    let postgres = postgres_in(postgres_data());
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

fn not_as_root(mut command: Command) -> Command {
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn postgres_in(dir: TempDir) -> Real {
    // Itself, the checkpointer, two writers, and two launchers.
    Real::start(dir, 6, |port, _| {
        let mut command = command("postgres", &["-D", "data", "-p", &port.to_string()]);
        command.args(["--listen_addresses=127.0.0.1", "--unix_socket_directories="]);
        command.args(["--fsync=off", "--log_statement=all", "--statement_timeout=3min"]);
        not_as_root(command)
    })
}

fn php() -> Real {
    Real::start(dir_with(&[("index.php", "hello")]), 4, |port, _| {
        let mut command = command("php", &["-S", &format!("127.0.0.1:{port}"), "-t", "."]);
        command.env("PHP_CLI_SERVER_WORKERS", "3");
        command
    })
}

const SERVER_JS: &str = "require('http').createServer((request, response) => response.end('hello'))\
                         .listen(process.env.PORT, '127.0.0.1')";

fn npm() -> Real {
    let package = r#"{ "scripts": { "start": "node server.js" } }"#;
    let files = [("server.js", SERVER_JS), ("package.json", package)];
    Real::start(dir_with(&files), 2, |port, dir| {
        let mut command = command("npm", &["start"]);
        command.env("PORT", port.to_string()).env("HOME", dir).env("npm_config_cache", "cache");
        command.env("npm_config_update_notifier", "false");
        command
    })
}

fn shell() -> Real {
    Real::start(dir_with(&[("server.js", SERVER_JS)]), 2, |port, _| {
        let mut command = command("sh", &["-c", "node server.js; true"]);
        command.env("PORT", port.to_string());
        command
    })
}

fn haproxy_command(port: u16, dir: &Path, arguments: &[&str]) -> Command {
    let config = format!(
        "defaults\n mode http\n timeout client 9s\n timeout server 9s\n timeout connect 9s\n\
             frontend hello\n bind 127.0.0.1:{port}\n http-request return status 200\n"
    );
    fs::write(dir.join("haproxy.cfg"), config).unwrap();
    let mut command = command("haproxy", arguments);
    command.args(["-f", "haproxy.cfg"]);
    command
}

fn haproxy() -> Real {
    Real::start(dir_with(&[]), 2, |port, dir| haproxy_command(port, dir, &["-W", "-db"]))
}

fn redis() -> Real {
    Real::start(dir_with(&[]), 1, |port, _| {
        command("redis-server", &["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
    })
}

fn memcached() -> Real {
    Real::start(dir_with(&[]), 1, |port, _| {
        command("memcached", &["-p", &port.to_string(), "-l", "127.0.0.1", "-u", "nobody"])
    })
}

/// Starts what chooses its port, and talks to it.
fn chosen(builder: ServerBuilder, request: &str) {
    let server = builder.start_timeout(DEADLINE).start().unwrap();
    let mut stream = TcpStream::connect(server.addr()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
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
    let error = builder.lease(lease).start_timeout(DEADLINE).start().unwrap_err();
    println!("{error}");
    match error.kind() {
        ErrorKind::PortTaken => {
            let stranger = format!("process {} ", std::process::id());
            assert!(error.to_string().contains(&stranger), "{error}");
        }
        kind => assert_eq!(kind, ErrorKind::Exited, "{error}"),
    }
    assert_eq!(error.port(), Some(port));
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
    let builder = builder.stop_grace(DEADLINE).start_timeout(DEADLINE);
    match builder.lease(lease).start() {
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
    daemon("leave out `-D`", |port, dir| haproxy_command(port, dir, &["-D"]));
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
fn nginx_and_its_workers() {
    nginx().stop();
}

#[test]
#[ignore = "needs nginx"]
fn the_workers_of_a_killed_nginx() {
    nginx().stop_without_its_main_process();
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
    postgres_in(dir).stop();
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

#[test]
#[ignore = "needs HAProxy"]
fn haproxy_and_its_worker() {
    haproxy().stop();
}

#[test]
#[ignore = "needs Redis"]
fn redis_alone() {
    redis().stop();
}

#[test]
#[ignore = "needs memcached"]
fn memcached_alone() {
    memcached().stop();
}
