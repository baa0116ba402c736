//! What leaves its server's group: found by a stop, or, after the harness died, by `reap`.
//!
//! Orphans are those of the whole machine, and pids come round: each test has a pid namespace of its
//! own, in which it is pid 1 and reaps nobody but its children.
#![cfg(target_os = "linux")] // elsewhere, nobody looks

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::thread;

use portlease::{Server, orphans, reap};
use support::alone::in_own_pid_namespace;
use support::{
    MARK, SomebodyElse, TestChild, child_command, child_path, eventually, lives, processes_with,
    stat,
};

/// A harness with a server that left the group, by way of `script`; and the server's pid.
fn harness(script: &str) -> (TestChild, u32) {
    let mut harness = child_command(&["escaping-harness", script]);
    harness.stderr(Stdio::null());
    let mut harness = TestChild::spawn(harness);
    let pid = harness.line().expect("the harness failed").parse().unwrap();
    (harness, pid)
}

#[test]
fn who_left_the_group_of_a_dead_harness_is_an_orphan() {
    if !in_own_pid_namespace("who_left_the_group_of_a_dead_harness_is_an_orphan") {
        return;
    }
    let (polite, polite_pid) = harness("exec setsid \"$0\" serve");
    let (stubborn, stubborn_pid) = harness("trap '' TERM; exec setsid \"$0\" serve");
    let (alive, alive_pid) = harness("exec setsid \"$0\" serve");
    let (tidy, tidy_pid) = harness("exec \"$0\" serve");
    assert_eq!(orphans().unwrap(), [], "their harnesses live");
    let harness_pid = polite.id();
    for harness in [polite, stubborn, tidy] {
        harness.kill();
    }
    eventually("the watchdog ends who is in the group", || !lives(tidy_pid));
    let found = orphans().unwrap();
    let mut pids: Vec<_> = found.iter().map(portlease::Orphan::pid).collect();
    pids.sort_unstable();
    assert_eq!(pids, [polite_pid, stubborn_pid]);
    let polite = found.iter().find(|orphan| orphan.pid() == polite_pid).unwrap();
    let command = format!("{} serve", child_path().display());
    let expected =
        format!("{polite_pid} ({command}), left by process {harness_pid}, which is gone");
    assert_eq!((polite.to_string(), polite.harness_pid()), (expected, harness_pid));

    assert_eq!(reap().unwrap(), found);
    assert!(!lives(polite_pid) && !lives(stubborn_pid));
    assert!(lives(alive_pid), "its harness lives");
    assert_eq!(orphans().unwrap(), []);
    alive.kill();
    assert_eq!(reap().unwrap().len(), 1);
    assert!(!lives(alive_pid));
}

/// A command by which a server is ready is in no server's group.
#[test]
fn a_command_that_a_dead_harness_ran_is_an_orphan() {
    if !in_own_pid_namespace("a_command_that_a_dead_harness_ran_is_an_orphan") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let pid = || fs::read_to_string(&file).unwrap_or_default().trim().parse::<u32>().ok();
    eventually("a harness is killed while the command runs, and not after its two seconds", || {
        let command = child_command(&["checking-harness", file.to_str().unwrap()]);
        let harness = TestChild::spawn(command);
        eventually("the command runs", || pid().is_some());
        harness.kill();
        let found = reap().unwrap();
        assert!(!lives(pid().unwrap()));
        fs::remove_file(&file).unwrap();
        found.iter().any(|orphan| orphan.command().contains("sleep 1000"))
    });
}

/// From outside, a harness of another pid namespace looks dead: nobody has its number.
#[test]
fn the_servers_of_another_pid_namespace_are_no_orphans() {
    if !in_own_pid_namespace("the_servers_of_another_pid_namespace_are_no_orphans") {
        return;
    }
    let mut inner = Command::new("unshare");
    inner.args(["--pid", "--fork", "--kill-child", "--mount-proc"]).arg(child_path());
    inner.args(["escaping-harness", "exec setsid \"$0\" serve"]).env(MARK, "inner");
    let mut inner = TestChild::spawn(inner);
    inner.line().expect("the harness failed");
    let seen = processes_with(MARK, "inner").into_iter().filter(|&pid| {
        fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| {
            String::from_utf8_lossy(&environment).contains("PORTLEASE_COOKIE=")
        })
    });
    assert_eq!(seen.count(), 1, "its server is to be seen from here, cookie and all");
    assert_eq!(orphans().unwrap(), []);
    assert_eq!(reap().unwrap(), []);

    // With the `/proc` of this namespace, whose numbers mean others there, nothing can be told.
    let mut blind = Command::new("unshare");
    blind.args(["--pid", "--fork", "--kill-child"]).arg(child_path()).arg("orphans");
    let answer = support::stdout_of(&blind.output().unwrap());
    assert!(answer.starts_with("Io: failed to look for orphans, which takes a /proc"), "{answer}");
}

/// A worker in a session of its own ends while the server is being stopped, and a stranger gets its
/// pid: no signal is sent to him, and nobody waits for him.
#[test]
fn a_stranger_who_gets_the_pid_of_ours_is_left_alone() {
    if !in_own_pid_namespace("a_stranger_who_gets_the_pid_of_ours_is_left_alone") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (asked, go) = (dir.path().join("asked"), dir.path().join("go"));
    // The server may be ready, and asked to end, before the shell has gone on to the next command.
    let script = "trap ': >\"$ASKED\"; until [ -e \"$GO\" ]; do sleep 0.01; done
                        kill -s KILL $!; exit' TERM
                  setsid \"$0\" sleep & echo WORKER=$!
                  (trap '' TERM; exec \"$0\" serve) &
                  wait";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).arg(child_path()).env("ASKED", &asked).env("GO", &go);
    let builder = Server::builder(command).env_port("PORT").stop_grace(10 * support::DEADLINE);
    let server = builder.start().unwrap();
    let line = server.wait_for_line("WORKER=", support::DEADLINE).unwrap();
    let worker: u32 = line.text().strip_prefix("WORKER=").unwrap().parse().unwrap();
    eventually("the worker has left the group", || session(worker) == Some(worker));
    let started = start(worker);
    let stopping = thread::spawn(move || server.stop().unwrap());
    eventually("the stop has begun, and knows the worker", || asked.exists());
    let kill = Command::new("kill").args(["-s", "KILL", &worker.to_string()]).status();
    assert!(kill.unwrap().success());
    let mut stranger = with_pid(worker, started);
    fs::write(go, "").unwrap();
    let stopped = stopping.join().unwrap();
    assert!(!stopped.forced(), "{stopped:?}");
    assert!(stranger.try_wait().unwrap().is_none(), "the stranger got a signal");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

/// It may be the child of another thread, between its fork and its exec, which has all our files: the
/// server's output is no sign of it.
#[test]
fn a_copy_of_the_harness_is_left_alone() {
    if !in_own_pid_namespace("a_copy_of_the_harness_is_left_alone") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (child, program) = (child_path().display().to_string(), dir.path().join("server"));
    // It is in its place before the server starts: `$(...)` waits until it has another output.
    let copy = format!("env -i {MARK}=copy setsid sh -c 'echo; exec {child} sleep >&2' &");
    let script = format!("#!/bin/sh\n: \"$({copy})\"\nexec {child} serve\n");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let registry = dir.path().join("registry");
    let role =
        ["blocking", "start-and-stop", registry.to_str().unwrap(), program.to_str().unwrap()];
    let mut harness = TestChild::spawn(child_command(&role));
    let stopped = std::iter::from_fn(|| harness.line()).last().unwrap();
    assert_eq!(stopped, "forced: false, 0 leased");
    harness.finish();
    assert_eq!(processes_with(MARK, "copy").len(), 1, "the copy got a signal");
}

/// Such as a test that is run by a server whose own harness was killed: its own children, and their
/// watchdogs, carry the cookie too.
#[test]
fn who_looks_is_no_orphan_whatever_is_in_its_environment() {
    if !in_own_pid_namespace("who_looks_is_no_orphan_whatever_is_in_its_environment") {
        return;
    }
    let (dead, orphan) = harness("exec setsid \"$0\" serve");
    let (other, other_orphan) = harness("exec setsid \"$0\" serve");
    dead.kill();
    other.kill();
    let environment = fs::read_to_string(format!("/proc/{orphan}/environ")).unwrap();
    let mut variables = environment.split('\0').filter_map(|entry| entry.split_once('='));
    let (name, cookie) = variables.find(|(name, _)| *name == "PORTLEASE_COOKIE").unwrap();
    let mut shell = support::shell("\"$0\" orphans; exit $?");
    let answer = support::stdout_of(&shell.env(name, cookie).output().unwrap());
    let found = answer.matches("command: ").count();
    assert!(found == 1 && answer.contains(&format!("pid: {other_orphan},")), "{answer}");
    reap().unwrap();
}

/// It handles no signal until it goes on.
#[test]
fn an_orphan_that_is_stopped_is_asked_all_the_same() {
    if !in_own_pid_namespace("an_orphan_that_is_stopped_is_asked_all_the_same") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let asked = dir.path().join("asked");
    let trap = format!("trap \": >{}; exit\" TERM", asked.display());
    let (dead, orphan) =
        harness(&format!("exec setsid sh -c '{trap}; \"$0\" serve & wait' \"$0\""));
    dead.kill();
    support::signal("STOP", orphan);
    eventually("it is stopped", || support::stat(orphan).unwrap()[0] == "T");
    assert_eq!(reap().unwrap().len(), 2, "it, and its child");
    assert!(asked.exists(), "it was killed without being asked");
}

fn session(pid: u32) -> Option<u32> {
    stat(pid)?[3].parse().ok()
}

fn start(pid: u32) -> String {
    stat(pid).unwrap()[19].clone()
}

/// A process of that pid, once it is free, with another start time: the clock ticks every 10 ms, in
/// which no pid comes round but by force.
fn with_pid(pid: u32, started: String) -> Child {
    let mut found = None;
    eventually("a process has the wanted pid", || {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        if child.id() == pid && start(pid) != started {
            found = Some(child);
        } else {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        found.is_some()
    });
    found.unwrap()
}

/// A harness may be hidden from who looks (`hidepid`): then it cannot be told to be dead.
#[test]
fn the_server_of_a_hidden_harness_is_no_orphan() {
    let Some(other) = SomebodyElse::new() else { return };
    if !in_own_pid_namespace("the_server_of_a_hidden_harness_is_no_orphan") {
        return;
    }
    let hidden = Command::new("mount").args(["-o", "remount,hidepid=2", "/proc"]).status();
    if !hidden.is_ok_and(|status| status.success()) {
        return support::skip("`mount -o remount,hidepid=2 /proc` is not possible here")
            .unwrap_or(());
    }
    let child = other.home().join("child").display().to_string();
    let as_other = "exec setpriv --reuid=12345 --regid=12345 --clear-groups";
    let (harness, server) = harness(&format!("{as_other} {child} serve"));
    let looks = || support::stdout_of(&other.child_command(&["orphans"]).output().unwrap());
    assert_eq!(looks(), "[]", "the harness of {server} lives");
    harness.kill();
    eventually("the watchdog ends it", || !lives(server));
}
