//! A network namespace of one's own: nobody else's connections are in the figures, and nobody else's tests
//! fail because nearly all ports are taken, or suffer the peers' collisions.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Set where it is done.
const INSIDE: &str = "PORTLEASE_PEERS_INSIDE";

/// Starts this program again in a network namespace of its own, as the same process. Whether it is there
/// by now: without root, user namespaces or `unshare`, it stays where it is.
pub fn enter() -> bool {
    if env::var_os(INSIDE).is_some() {
        return true;
    }
    [&["--net"][..], &["--net", "--user", "--map-root-user"]].into_iter().any(|flags| {
        let script = "ip link set lo up && exec env \"$@\"";
        let inside = |program: &str| {
            let mut command = Command::new("unshare");
            command.args(flags).args(["sh", "-c", script, "sh", program]);
            command
        };
        // Once it is this process that does it, there is no way back.
        let possible = inside("true").stderr(Stdio::null()).status().is_ok_and(|it| it.success());
        if !possible {
            return false;
        }
        let mut command = inside(&format!("{INSIDE}=1"));
        command.arg(env::current_exe().expect("this program")).args(env::args_os().skip(1));
        panic!("unshare: {}", command.exec());
    })
}

/// What to say about it.
pub fn note(alone: bool) -> &'static str {
    match alone {
        true => "In a network namespace of its own.",
        false => "In the network namespace that it was started in, with all that others do there.",
    }
}
