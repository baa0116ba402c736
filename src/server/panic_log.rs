//! What a server printed, in the log of the test that failed.

use std::thread;

use super::printed::Printed;
use super::{Server, say};

/// How many lines of the output are printed.
const MAX_LINES: usize = 200;

/// Prints the last of a server's output if it is dropped during a panic; made by
/// [`Server::log_on_panic`](crate::Server::log_on_panic).
#[must_use = "it prints when it is dropped during a panic; keep it in a variable (`let _log = ..`, \
              not `let _ = ..`)"]
#[derive(Debug)]
pub struct PanicLog {
    printed: Option<Printed>,
}

impl PanicLog {
    pub(crate) fn of(server: Option<&Server>) -> PanicLog {
        PanicLog { printed: server.and_then(|server| server.printed().ok()) }
    }
}

impl Drop for PanicLog {
    fn drop(&mut self) {
        let printed = self.printed.take().filter(|_| thread::panicking());
        let Some(Printed { name, port, output }) = printed else { return };
        let tail = output.tail();
        let lines: Vec<_> = tail.lines().collect();
        let shown = &lines[lines.len().saturating_sub(MAX_LINES)..];
        let shown = if shown.is_empty() { "(nothing)".to_owned() } else { shown.join("\n  ") };
        say(&format!("server `{name}` on port {port}, the last it printed:\n  {shown}"));
    }
}
