//! What a server printed, in the log of the test that failed.

use std::thread;

use super::output::Output;
use super::running::Running;
use super::say;

/// How many lines of the output are printed.
const MAX_LINES: usize = 200;

/// Prints the last of a server's output if it is dropped during a panic; made by
/// [`Server::log_on_panic`](crate::Server::log_on_panic).
#[must_use = "it prints when it is dropped during a panic; keep it in a variable (`let _log = ..`, \
              not `let _ = ..`)"]
#[derive(Debug)]
pub struct PanicLog {
    server: Option<(String, u16, Output)>,
}

impl PanicLog {
    pub(super) fn new(running: Option<&Running>) -> PanicLog {
        let server = running.map(|it| (it.name.clone(), it.ports.main, it.output.clone()));
        PanicLog { server }
    }
}

impl Drop for PanicLog {
    fn drop(&mut self) {
        let Some((name, port, output)) = self.server.take().filter(|_| thread::panicking()) else {
            return;
        };
        let tail = output.tail();
        let lines: Vec<_> = tail.lines().collect();
        let shown = &lines[lines.len().saturating_sub(MAX_LINES)..];
        let shown = if shown.is_empty() { "(nothing)".to_owned() } else { shown.join("\n  ") };
        say(&format!("server `{name}` on port {port}, the last it printed:\n  {shown}"));
    }
}
