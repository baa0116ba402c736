//! Who has a port, in words: each case as a text for a reviewer, seen by several. The same as a value:
//! `diagnosis_values`.
#![cfg(target_os = "linux")] // elsewhere, nobody looks

mod support;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use portlease::{Cause, Server, Socket, SocketState};
use support::real;
use support::snapshot::{Snapshot, Varying, in_time};
use support::{
    Gone, OwnRegistry, SomebodyElse, TestChild, child_command, eventually, stdout_of, table_has,
    unshare,
};

/// In a mount namespace of its own. Since Linux 5.8, each mount of `/proc` has options of its own.
const HIDEPID: &str = "mount -t proc -o hidepid=2 proc /proc
                       export PORTLEASE_DIR=\"$1\"
                       exec setpriv --reuid=12345 --regid=12345 --clear-groups \"$2\" diagnose \"$3\"";
const NO_PROC: &str = "mount -t tmpfs none /proc
                       export PORTLEASE_DIR=\"$1\" PORTLEASE_RANGE=\"$2\"
                       exec \"$0\" diagnose \"$3\"";

/// By which a child would say for which test its lease is; cargo says nothing to it.
const NEXTEST: &str = "NEXTEST_TEST_NAME";

/// As in a container that shares the network.
const CONTAINER: &str = "export PORTLEASE_DIR=\"$1\" PORTLEASE_RANGE=\"$2\"
                         exec \"$0\" diagnose \"$3\"";

/// What is to be seen of `port`, by all who look.
fn check(name: &str, own: &OwnRegistry, port: u16, varying: &Varying) {
    let mut snapshot = Snapshot::new(&format!("diagnosis/{name}"));
    let mut add = |who: &str, look: &mut dyn FnMut() -> Option<Output>| {
        let text = in_time(|| look().map(|output| stdout_of(&output)));
        text.iter().for_each(|text| snapshot.add(who, varying.replace(text)));
    };
    let port = port.to_string();

    let mut same = child_command(&["diagnose", &port]);
    own.lend_to(&mut same);
    let range = support::variable(&same, "PORTLEASE_RANGE");
    add("seen by the same user", &mut || same.output().ok());
    add("seen by the same user, without /proc", &mut || {
        unshare(&["--mount"], NO_PROC, &[&own.arg(), &range, &port])
    });

    let container = ["--pid", "--fork", "--kill-child", "--mount-proc"];
    add("seen from another pid namespace", &mut || {
        unshare(&container, CONTAINER, &[&own.arg(), &range, &port])
    });

    if let Some(other) = SomebodyElse::new() {
        let registry = other.home().join("registry").display().to_string();
        let mut his = other.child_command(&["diagnose", &port]);
        his.env("PORTLEASE_DIR", &registry);
        add("seen by another user", &mut || his.output().ok());
        let child = other.home().join("child").display().to_string();
        add("seen by another user, hidepid=2", &mut || {
            unshare(&["--mount"], HIDEPID, &[&registry, &child, &port])
        });
    }
    snapshot.check();
}

fn varying(port: u16, pid: u32) -> Varying {
    Varying::new().number(port, "PORT").number(pid, "PID")
}

fn wait_for_listener(port: u16) {
    wait_for_socket(&["tcp", "tcp6"], "0A", port);
}

/// In this state, of these tables. Not by `diagnose`: it binds a port on which it sees nothing, and a server
/// that binds it in the same moment would be refused.
fn wait_for_socket(tables: &[&str], state: &str, port: u16) {
    eventually("it is there", || tables.iter().any(|table| table_has(table, state, port)));
}

/// A server as people run it, whose lease is not in the registry of who looks.
fn foreign(mut command: Command, port: u16) -> TestChild {
    command.stderr(Stdio::null());
    let child = TestChild::spawn(command);
    wait_for_listener(port);
    child
}

#[test]
fn nothing_at_all() {
    let own = OwnRegistry::new();
    let port = own.port();
    check("nothing", &own, port, &Varying::new().number(port, "PORT"));
}

#[test]
fn a_lease_of_another_process() {
    let own = OwnRegistry::new();
    let mut holder = child_command(&["hold", &own.arg(), "1"]);
    own.lend_to(holder.env_remove(NEXTEST));
    let mut holder = TestChild::spawn(holder);
    let port = holder.line().unwrap().parse().unwrap();
    check("leased", &own, port, &varying(port, holder.id()));
    holder.finish();
}

/// Where there is no `/proc`, nobody is said to be gone.
#[test]
fn a_lease_of_who_looks() {
    let own = OwnRegistry::new();
    let mut snapshot = Snapshot::new("diagnosis/own-lease");
    let mut add = |heading: &str, text: &str| {
        let mut lines = text.splitn(3, '\n');
        let (port, pid) = (lines.next().unwrap(), lines.next().unwrap());
        let varying = Varying::new().number(port, "PORT").number(pid, "PID");
        snapshot.add(heading, varying.replace(lines.next().unwrap()));
    };
    let mut role = child_command(&["diagnose-own-lease"]);
    own.lend_to(role.env_remove(NEXTEST));
    add("by itself", &stdout_of(&role.output().unwrap()));
    let script = "mount -t tmpfs none /proc; export PORTLEASE_DIR=\"$1\" PORTLEASE_RANGE=\"$2\"
                  unset NEXTEST_TEST_NAME; exec \"$0\" diagnose-own-lease";
    let range = support::variable(&role, "PORTLEASE_RANGE");
    if let Some(output) = unshare(&["--mount"], script, &[&own.arg(), &range]) {
        add("by itself, without /proc", &stdout_of(&output));
    }
    snapshot.check();
}

#[test]
fn a_listener_in_python() {
    let own = OwnRegistry::new();
    let port = own.port();
    let arguments = ["-m", "http.server", &port.to_string(), "--bind", "127.0.0.1"];
    let python = foreign(real::command("python3", &arguments), port);
    check("python", &own, port, &varying(port, python.id()).program("python3"));
    python.kill();
}

#[test]
fn a_listener_in_node() {
    let own = OwnRegistry::new();
    let port = own.port();
    let dir = real::dir_with(&[("server.js", real::SERVER_JS)]);
    let mut command = real::command("node", &["server.js"]);
    command.current_dir(dir.path()).env("PORT", port.to_string());
    let node = foreign(command, port);
    let mut varying = varying(port, node.id()).program("node");
    varying.word("(MainThread)", "(node)"); // since version 22
    check("node", &own, port, &varying);
    node.kill();
}

#[test]
fn nginx_and_its_workers() {
    let own = OwnRegistry::new();
    let port = own.port();
    let dir = real::dir_with(&[]);
    let nginx = Asked(foreign(real::nginx_command(port, dir.path(), "off"), port));
    let nginx = &nginx.0;
    let workers = || support::children_of(nginx.id());
    eventually("its workers are there", || workers().len() == 2);
    let workers = workers();
    let mut varying = varying(port, nginx.id()).program("nginx");
    varying.word(dir.path().to_str().unwrap(), "DIR");
    let varying = varying.number(workers[0], "PID2").number(workers[1], "PID3");
    check("nginx", &own, port, &varying);
    support::signal("TERM", nginx.id());
    eventually("it is gone", || !support::lives(nginx.id()));
}

/// Asked to end when this is dropped, also by a test that fails: nginx's workers outlive its SIGKILL.
struct Asked(TestChild);

impl Drop for Asked {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-s", "TERM", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

#[test]
fn a_listener_of_another_user() {
    let Some(other) = SomebodyElse::new() else { return };
    let own = OwnRegistry::new();
    let port = own.port();
    let server = foreign(other.child_command(&["serve", &port.to_string()]), port);
    check("another-user", &own, port, &varying(port, server.id()));
    server.kill();
}

/// As that of a container, to whom the processes of its other users are shown in part. Another capability
/// is dropped too, or who has no more himself would be seen.
#[test]
fn a_listener_seen_by_a_lesser_root() {
    if SomebodyElse::new().is_none() {
        return;
    }
    let own = OwnRegistry::new();
    let port = own.port();
    let server = foreign(child_command(&["serve", &port.to_string()]), port);
    let mut look = Command::new("setpriv");
    look.args(["--bounding-set=-sys_ptrace,-kill"]).arg(support::child_path());
    look.args(["diagnose", &port.to_string()]);
    own.lend_to(&mut look);
    let text = in_time(|| look.output().ok().map(|output| stdout_of(&output))).unwrap();
    let mut snapshot = Snapshot::new("diagnosis/lesser-root");
    snapshot.add("seen by root without CAP_SYS_PTRACE", varying(port, server.id()).replace(&text));
    snapshot.check();
    server.kill();
}

#[test]
fn a_forked_pair() {
    let own = OwnRegistry::new();
    let port = own.port();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    let server = || {
        let mut command = child_command(&["serve-inherited"]);
        command.stdin(OwnedFd::from(listener.try_clone().unwrap()));
        Gone(command.spawn().unwrap())
    };
    let (one, two) = (server(), server());
    drop(listener);
    // It has its arguments a moment later than its program.
    let has_it = |it: &Gone| {
        let arguments = fs::read_to_string(format!("/proc/{}/cmdline", it.0.id())).unwrap();
        arguments.contains("serve-inherited")
    };
    eventually("both are the program", || has_it(&one) && has_it(&two));
    eventually("no child of another test has a copy", || {
        portlease::diagnose(port).sockets()[0].owners().len() == 2
    });
    let (first, second) = (one.0.id().min(two.0.id()), one.0.id().max(two.0.id()));
    check("forked-pair", &own, port, &varying(port, first).number(second, "PID2"));
}

#[test]
fn two_listeners_that_share_a_port() {
    let own = OwnRegistry::new();
    let port = own.port();
    let address = format!("127.0.0.1:{port}");
    let mut servers: Vec<_> = (0..2)
        .map(|_| {
            let mut server = TestChild::spawn(child_command(&["serve-on", &address, "shared"]));
            server.line_after("PORT=");
            server
        })
        .collect();
    servers.sort_by_key(|it| it.id());
    let varying = varying(port, servers[0].id()).number(servers[1].id(), "PID2");
    check("shared", &own, port, &varying);
}

#[test]
fn a_listener_with_clients() {
    let own = OwnRegistry::new();
    let port = own.port();
    let server = foreign(child_command(&["serve", &port.to_string()]), port);
    let _clients: Vec<_> = (0..3).map(|_| support::connect((Ipv4Addr::LOCALHOST, port))).collect();
    eventually("it has accepted one", || {
        let of_server =
            |it: &Socket| it.state() == SocketState::Connected && !it.owners().is_empty();
        portlease::diagnose(port).sockets().iter().any(of_server)
    });
    check("listener-with-clients", &own, port, &varying(port, server.id()));
}

#[test]
fn a_client_alone() {
    let own = OwnRegistry::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let port = own.port();
    let role = ["client", &port.to_string(), &address.to_string()];
    let mut client = TestChild::spawn(child_command(&role));
    client.line().expect("it is not connected");
    check("client", &own, port, &varying(port, client.id()).number(address.port(), "PORT2"));
    client.finish();
}

/// A connection that is over, on this port.
fn time_wait(port: u16) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = TcpListener::bind(address).unwrap();
    let client = TcpStream::connect(address).unwrap();
    support::end(listener.accept().unwrap().0, client);
    drop(listener);
    eventually("it is over", || portlease::diagnose(port).cause() == Cause::TimeWait);
}

#[test]
fn time_wait_alone() {
    let own = OwnRegistry::new();
    let port = own.port();
    time_wait(port);
    check("time-wait", &own, port, &Varying::new().number(port, "PORT"));
}

#[test]
fn a_silent_socket() {
    let own = OwnRegistry::new();
    let port = own.port();
    let address = format!("0.0.0.0:{port}");
    let mut silent = TestChild::spawn(child_command(&["bind", &address, "exclusive"]));
    silent.line().expect("it has bound it");
    check("silent", &own, port, &varying(port, silent.id()));
    silent.finish();
}

#[test]
fn a_udp_server() {
    let own = OwnRegistry::new();
    let port = own.port();
    let server = TestChild::spawn(child_command(&["datagrams", &port.to_string()]));
    wait_for_socket(&["udp"], "07", port);
    check("udp", &own, port, &varying(port, server.id()));
}

#[test]
fn a_server_of_a_living_test() {
    let own = OwnRegistry::new();
    let lease = own.request().label("api").lease().unwrap();
    let server = Server::builder(child_command(&["serve"])).env_port("PORT").lease(lease);
    let server = server.start().unwrap();
    let varying = varying(server.port(), server.pid()).number(std::process::id(), "TEST");
    check("server", &own, server.port(), &varying);
}

#[test]
fn an_orphan_of_a_killed_harness() {
    let own = OwnRegistry::new();
    let mut harness = child_command(&["escaping-harness", "exec setsid \"$0\" serve"]);
    own.lend_to(&mut harness);
    harness.stderr(Stdio::null());
    let mut harness = TestChild::spawn(harness);
    let orphan = Orphan(harness.line().expect("the harness failed").parse().unwrap());
    let port = own.registry.list().unwrap()[0].port();
    let harness_pid = harness.id();
    harness.kill();
    eventually("the watchdog has let its lease go", || own.registry.list().unwrap().is_empty());
    check("orphan", &own, port, &varying(port, orphan.0).number(harness_pid, "TEST"));
}

/// Nobody's child: it is ended when this is dropped, also by a test that fails.
struct Orphan(u32);

impl Drop for Orphan {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-s", "KILL", &self.0.to_string()]).status();
    }
}

#[test]
fn a_container_s_proxy() {
    let own = OwnRegistry::new();
    let port = own.port();
    let dir = tempfile::tempdir().unwrap();
    let proxy = dir.path().join("docker-proxy");
    support::copy(&support::child_path(), &proxy);
    let mut command = Command::new(&proxy);
    command.args(["serve", &port.to_string()]);
    let proxy = foreign(command, port);
    check("container", &own, port, &varying(port, proxy.id()).program("docker-proxy"));
    proxy.kill();
}

/// A cgroup in which its process looks as one of a service does.
struct Cgroup(PathBuf);

impl Cgroup {
    /// `None`: not possible here, and the reason was printed.
    fn new(names: &[&str]) -> Option<Cgroup> {
        let roots = ["systemd", "unified", "."].map(|it| Path::new("/sys/fs/cgroup").join(it));
        let is_tree = |root: &&PathBuf| support::is_root() && root.join("cgroup.procs").exists();
        let Some(root) = roots.iter().find(is_tree) else {
            return support::skip("needs root and cgroups, to look like a service");
        };
        let dir = names.iter().fold(root.clone(), |dir, name| dir.join(name));
        match fs::create_dir_all(&dir) {
            Ok(()) => Some(Cgroup(dir)),
            Err(error) => support::skip(&format!("no cgroup can be made here: {error}")),
        }
    }

    /// Where the shell that becomes the server writes its pid.
    fn command(&self, port: u16) -> Command {
        let script = "echo $$ >\"$1\" && exec \"$0\" serve \"$2\"";
        let mut command = support::shell(script);
        command.arg(self.0.join("cgroup.procs")).arg(port.to_string());
        command
    }
}

impl Drop for Cgroup {
    /// With those above it that are empty too, which the root is not. Whose last process has just ended is busy
    /// for a moment.
    fn drop(&mut self) {
        let is_gone = || fs::remove_dir(&self.0).is_ok() || !self.0.exists();
        let mut tries = 0..100;
        while !is_gone() && tries.next().is_some() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let mut above = self.0.ancestors().skip(1);
        while above.next().is_some_and(|dir| fs::remove_dir(dir).is_ok()) {}
    }
}

#[test]
fn a_service_of_the_system_and_one_of_a_user() {
    let unit = format!("portlease-{}.service", std::process::id());
    let user = format!("user@{}.service", std::process::id());
    let cases = [("service", vec![&unit[..]]), ("user-service", vec![&user, "app.slice", &unit])];
    for (name, names) in cases {
        let Some(cgroup) = Cgroup::new(&names) else { return };
        let own = OwnRegistry::new();
        let port = own.port();
        let server = foreign(cgroup.command(port), port);
        let mut varying = varying(port, server.id());
        varying.word(&unit, "UNIT");
        check(name, &own, port, &varying);
        server.kill();
    }
}

/// Below 1024, for who has no privilege.
#[test]
fn a_port_that_may_not_be_bound() {
    if SomebodyElse::new().is_none() {
        return; // the texts of who may are root's
    }
    let own = OwnRegistry::new();
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if first.trim() == "0" {
        return support::skip("every port may be bound here").unwrap_or(());
    }
    check("privileged", &own, 1, &Varying::new());
}
