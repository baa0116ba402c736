//! Servers as people run them: how each is started, and that nothing of it is left.

use std::env;
use std::fs::{self, File};
use std::io;
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use fs2::FileExt;
use portlease::{Server, Signal};
use tempfile::TempDir;

use super::twin::Twin;
use super::{DEADLINE, OwnRegistry, eventually, is_root, stdout_of};

/// `nobody`: PostgreSQL refuses to run as root, and wants a user who has a name.
const NOBODY: u32 = 65_534;

/// A server that works in a directory of its own.
pub(crate) struct Real<S> {
    pub(crate) server: S,
    /// How many of it are there when it has started.
    count: usize,
    own: OwnRegistry,
    dir: TempDir,
}

impl<S: Twin> Real<S> {
    /// Starts what `make` returns for a port and the directory, and waits until so many processes
    /// of it are there.
    pub(crate) fn start(
        dir: TempDir,
        count: usize,
        mut make: impl FnMut(u16, &Path) -> Command + Send + 'static,
    ) -> Real<S> {
        let own = OwnRegistry::new();
        let path = dir.path().to_owned();
        let builder = Server::with(move |ports| {
            let mut command = make(ports.main(), &path);
            command.current_dir(&path);
            command
        });
        // Whoever is killed after this did not heed the signal, however busy the machine is.
        let builder = builder.stop_grace(DEADLINE).start_timeout(DEADLINE);
        let server = S::start(builder.lease(own.request().lease().unwrap())).unwrap();
        let real = Real { server, count, own, dir };
        real.wait_for_all();
        real
    }

    fn wait_for_all(&self) {
        eventually("all its processes are there", || self.processes().len() >= self.count);
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

    /// On the same port, with nobody of before.
    pub(crate) fn restart(&mut self) {
        let (pid, port, processes) = (self.server.pid(), self.server.port(), self.processes());
        self.server.restart().unwrap();
        assert_eq!(self.server.port(), port);
        assert_ne!(self.server.pid(), pid);
        let mut left = Process::all();
        left.retain(|process| processes.iter().any(|was| process.is(was)));
        assert!(left.is_empty(), "of before, these are left: {}", described(&left));
        self.wait_for_all();
    }

    pub(crate) fn stop(self) {
        let processes = self.processes();
        self.stop_all(&processes);
    }

    pub(crate) fn stop_without_its_main_process(mut self) -> TempDir {
        let processes = self.processes();
        self.server.signal(Signal::Kill).unwrap();
        self.server.wait(DEADLINE).unwrap().expect("it ends of SIGKILL");
        self.stop_all(&processes)
    }

    fn stop_all(self, processes: &[Process]) -> TempDir {
        let Real { server, own, dir, .. } = self;
        let addr = server.addr();
        let stopped = server.stop().unwrap();
        assert_none_is_left(processes, dir.path());
        assert!(!stopped.forced(), "{stopped:?}");
        let error = TcpStream::connect(addr).expect_err("somebody listens");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(own.registry.list().unwrap(), []);
        // Without the library's help.
        let lock = File::open(own.slots().join(addr.port().to_string())).unwrap();
        lock.try_lock_exclusive().expect("the lock of its port is left");
        drop(lock);
        drop(own.request().exact(addr.port()).lease().unwrap());
        dir
    }
}

pub(crate) fn assert_none_is_left(processes: &[Process], dir: &Path) {
    let mut left = Process::all();
    left.retain(|process| processes.iter().any(|was| process.is(was)) || process.works_in(dir));
    for process in &left {
        // Nor after a test that failed.
        let _ = Command::new("kill").args(["-s", "KILL", &process.pid.to_string()]).status();
    }
    assert!(left.is_empty(), "of {}, these are left: {}", processes.len(), described(&left));
}

/// A living process.
pub(crate) struct Process {
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

fn described(processes: &[Process]) -> String {
    let describe = |process: &Process| format!("{} ({})", process.pid, process.name);
    processes.iter().map(describe).collect::<Vec<_>>().join(", ")
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

pub(crate) fn command(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program(name));
    command.args(arguments);
    command
}

pub(crate) fn dir_with(files: &[(&str, &str)]) -> TempDir {
    // As the kernel names it: without symbolic links.
    let dir = tempfile::tempdir_in(env::temp_dir().canonicalize().unwrap()).unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

/// With a configuration that says whether it shall be a daemon.
pub(crate) fn nginx_command(port: u16, dir: &Path, daemon: &str) -> Command {
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|name| format!("{name}_temp_path {name};")).join(" ");
    let config = format!(
        "daemon {daemon}; worker_processes 2; pid nginx.pid; error_log stderr;\n\
             events {{}}\n\
             http {{ access_log off; {temporary}\n\
             server {{ listen 127.0.0.1:{port}; root {}; }} }}\n",
        dir.display()
    );
    fs::write(dir.join("nginx.conf"), config).unwrap();
    let mut command = command("nginx", &["-e", "stderr", "-c", "nginx.conf", "-p"]);
    command.arg(dir);
    command
}

/// Serves the files.
pub(crate) fn nginx<S: Twin>(files: &[(&str, &str)]) -> Real<S> {
    let dir = dir_with(files);
    // Its workers are not root.
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    Real::start(dir, 3, |port, dir| nginx_command(port, dir, "off"))
}

pub(crate) fn postgres_data() -> TempDir {
    let dir = dir_with(&[]);
    if is_root() {
        chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let arguments = ["--no-sync", "--no-locale", "--auth=trust", "--username=test", "data"];
    let mut initdb = not_as_root(command("initdb", &arguments));
    stdout_of(&initdb.current_dir(dir.path()).output().unwrap());
    dir
}

pub(crate) fn not_as_root(mut command: Command) -> Command {
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

pub(crate) fn postgres_in<S: Twin>(dir: TempDir) -> Real<S> {
    // Itself, the checkpointer, two writers, and two launchers. Before these two are there, it turns
    // its clients away.
    Real::start(dir, 6, |port, _| {
        let mut command = command("postgres", &["-D", "data", "-p", &port.to_string()]);
        command.args(["--listen_addresses=127.0.0.1", "--unix_socket_directories="]);
        command.args(["--fsync=off", "--log_statement=all", "--statement_timeout=3min"]);
        not_as_root(command)
    })
}

/// `rule` says what becomes of a request.
pub(crate) fn haproxy_command(port: u16, dir: &Path, arguments: &[&str], rule: &str) -> Command {
    let timeouts = ["client", "server", "connect"].map(|of| format!("timeout {of} 60s\n"));
    let config = format!(
        "defaults\nmode http\n{}listen hello\nbind 127.0.0.1:{port}\n{rule}\n",
        timeouts.concat()
    );
    fs::write(dir.join("haproxy.cfg"), config).unwrap();
    let mut command = command("haproxy", arguments);
    command.args(["-f", "haproxy.cfg"]);
    command
}

pub(crate) fn haproxy<S: Twin>(rule: &str) -> Real<S> {
    let rule = rule.to_owned();
    Real::start(dir_with(&[]), 2, move |port, dir| {
        haproxy_command(port, dir, &["-W", "-db"], &rule)
    })
}

pub(crate) fn redis<S: Twin>() -> Real<S> {
    Real::start(dir_with(&[]), 1, |port, _| {
        command("redis-server", &["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
    })
}

pub(crate) fn memcached<S: Twin>() -> Real<S> {
    Real::start(dir_with(&[]), 1, |port, _| {
        command("memcached", &["-p", &port.to_string(), "-l", "127.0.0.1", "-u", "nobody"])
    })
}

/// Serves the files.
pub(crate) fn python<S: Twin>(files: &[(&str, &str)]) -> Real<S> {
    Real::start(dir_with(files), 1, |port, _| {
        command("python3", &["-m", "http.server", &port.to_string(), "--bind", "127.0.0.1"])
    })
}

/// Answers with its pid.
pub(crate) const SERVER_JS: &str = "require('http')\
    .createServer((request, response) => response.end(String(process.pid)))\
    .listen(process.env.PORT, '127.0.0.1')";

pub(crate) fn node<S: Twin>() -> Real<S> {
    Real::start(dir_with(&[("server.js", SERVER_JS)]), 1, |port, _| {
        let mut command = command("node", &["server.js"]);
        command.env("PORT", port.to_string());
        command
    })
}

/// Answers with its pid.
const SERVER_GO: &str = r#"package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:" + os.Getenv("PORT"))
	if err != nil {
		log.Fatal(err)
	}
	log.Print("listening on ", listener.Addr())
	answer := func(answer http.ResponseWriter, _ *http.Request) { fmt.Fprint(answer, os.Getpid()) }
	log.Fatal(http.Serve(listener, http.HandlerFunc(answer)))
}
"#;

/// A directory with the program `server`, on `$PORT` or a port of its choice.
pub(crate) fn go_program() -> TempDir {
    let dir = dir_with(&[("server.go", SERVER_GO)]);
    let mut build = command("go", &["build", "-o", "server", "server.go"]);
    // What is there will do: nothing is to be loaded, and nothing of it is to stay.
    build.env("GOFLAGS", "-mod=mod").env("GOPROXY", "off").env("GOCACHE", dir.path().join("cache"));
    stdout_of(&build.current_dir(dir.path()).output().unwrap());
    dir
}

pub(crate) fn go<S: Twin>() -> Real<S> {
    Real::start(go_program(), 1, |port, dir| {
        let mut command = Command::new(dir.join("server"));
        command.env("PORT", port.to_string());
        command
    })
}
