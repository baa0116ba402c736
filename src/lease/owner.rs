//! Who takes a lease: what this process writes into the table.

use std::env;
use std::path::PathBuf;
use std::process;
use std::sync::OnceLock;
use std::thread;
use std::time::SystemTime;

use crate::holder::Holder;
use crate::sys;

/// What does not change while the process lives (but for the working directory, of which the one at
/// the first lease will do to tell two checkouts apart); with its pid, because a fork copies it.
struct Process {
    pid: u32,
    start: Option<u64>,
    program: Option<String>,
    dir: Option<PathBuf>,
}

/// The record of a lease that this thread takes now. The port is filled in by the caller.
pub(super) fn record(label: Option<&str>) -> Holder {
    static PROCESS: OnceLock<Process> = OnceLock::new();
    let process = PROCESS.get_or_init(look);
    let forked;
    let process = if process.pid == process::id() {
        process
    } else {
        forked = look();
        &forked
    };
    Holder {
        pid: Some(process.pid),
        process_start: process.start,
        since: Some(SystemTime::now()),
        program: process.program.clone(),
        test: test_name(),
        label: label.map(str::to_owned),
        dir: process.dir.clone(),
        ..Holder::unknown(0)
    }
}

/// Whether the process that wrote a record still lives, as far as can be seen from here.
pub(super) fn lives(holder: &Holder) -> bool {
    let started = holder.pid.and_then(sys::process_start);
    started.is_some() && started == holder.process_start
}

fn look() -> Process {
    let pid = process::id();
    let path = env::current_exe().ok();
    let name = path.as_deref().and_then(|path| path.file_name());
    Process {
        pid,
        start: sys::process_start(pid),
        program: name.map(|name| name.to_string_lossy().into_owned()),
        dir: env::current_dir().ok(),
    }
}

/// nextest names the test; libtest names the test's thread after it.
fn test_name() -> Option<String> {
    if let Ok(name) = env::var("NEXTEST_TEST_NAME") {
        return Some(name);
    }
    thread::current().name().filter(|&name| name != "main").map(str::to_owned)
}
