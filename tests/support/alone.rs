//! For tests that must be alone: in a process of their own, where what they count is nobody else's,
//! or in a pid namespace of their own.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{self, Command, Output};

use super::stdout_of;
#[cfg(unix)]
use super::unshare;

/// Names the test that is run inside.
const INSIDE: &str = "PORTLEASE_TEST_INSIDE";

/// Runs the test `name` once more, in a process that runs nothing else. There this is true; elsewhere
/// it returns when that is done.
pub(crate) fn in_own_process(name: &str) -> bool {
    if is_inside(name) {
        return true;
    }
    let mut command = Command::new(env::current_exe().unwrap());
    passed(&command.args(only(name)).env(INSIDE, name).output().unwrap());
    false
}

/// Runs the test `name` once more, in a pid namespace where it is pid 1 and nobody reaps orphans. There
/// this is true; elsewhere it returns when that is done, or not possible.
#[cfg(unix)]
pub(crate) fn in_own_pid_namespace(name: &str) -> bool {
    is_inside(name) || again_in_namespaces(name, &[], "exec env \"$@\"")
}

/// The same, but that a shell is pid 1, which reaps orphans; and that mounts, ports and the registry are
/// nobody else's either.
#[cfg(unix)]
pub(crate) fn in_own_small_world(name: &str) -> bool {
    if is_inside(name) {
        return true;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        "ip link set lo up; env PORTLEASE_DIR=\"{}/registry\" \"$@\"; exit $?",
        dir.path().display()
    );
    again_in_namespaces(name, &["--net"], &script)
}

#[cfg(unix)]
fn again_in_namespaces(name: &str, further: &[&str], script: &str) -> bool {
    let flags = ["--pid", "--fork", "--kill-child", "--mount-proc"];
    let tests = env::current_exe().unwrap();
    let variable = format!("{INSIDE}={name}");
    let mut arguments = vec![variable.as_str(), tests.to_str().unwrap()];
    arguments.extend(only(name));
    if let Some(output) = unshare(&[&flags[..], further].concat(), script, &arguments) {
        passed(&output);
    }
    false
}

fn is_inside(name: &str) -> bool {
    env::var_os(INSIDE).is_some_and(|inside| inside == name)
}

fn only(name: &str) -> [&str; 4] {
    ["--exact", name, "--include-ignored", "--nocapture"]
}

fn passed(output: &Output) {
    let stdout = stdout_of(output);
    println!("{stdout}");
    eprint!("{}", String::from_utf8_lossy(&output.stderr)); // what was skipped
    assert!(stdout.contains("1 passed"), "there is no test of that name");
}

/// The open descriptors of this process: of each, what it is. A number would be used again.
pub(crate) fn descriptors() -> Vec<PathBuf> {
    let links = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    let mut targets: Vec<_> = links.map(|link| fs::read_link(link).unwrap()).collect();
    targets.sort_unstable();
    targets
}

pub(crate) fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

/// Living or zombies.
pub(crate) fn children() -> usize {
    let parent = format!(" {} ", process::id());
    let stats = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok());
    stats.filter(|stat| stat.rsplit(") ").next().unwrap()[1..].starts_with(&parent)).count()
}
