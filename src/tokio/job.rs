//! Work on a thread of its own, awaited.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use ::tokio::sync::oneshot;

use crate::error::{Error, ErrorKind, Result};
use crate::server::CalledOff;

/// Work that has begun. It goes on if this is dropped, and what comes of it is dropped on its thread.
#[derive(Debug)]
pub(super) struct Job<T> {
    outcome: oneshot::Receiver<thread::Result<T>>,
    called_off: CalledOff,
    thread: JoinHandle<()>,
    /// A forked child has no such thread to wait for.
    started_by: u32,
}

impl<T: Send + 'static> Job<T> {
    /// # Errors
    ///
    /// No thread could be started. The work was dropped here.
    pub(super) fn start(work: impl FnOnce(&CalledOff) -> T + Send + 'static) -> Result<Job<T>> {
        let (sender, outcome) = oneshot::channel();
        let called_off = CalledOff::default();
        let flag = CalledOff::clone(&called_off);
        let run = move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| work(&flag)));
            let _ = sender.send(outcome);
        };
        let spawned = thread::Builder::new().name("portlease-async".to_owned()).spawn(run);
        spawned
            .map(|thread| Job { outcome, called_off, thread, started_by: process::id() })
            .map_err(|error| Error::io(ErrorKind::Io, "start a thread for what is awaited", error))
    }

    /// Waits for the end. If this is dropped before, the work is called off.
    ///
    /// # Panics
    ///
    /// If the work did: a closure of the test's own.
    pub(super) async fn end(&mut self) -> Result<T> {
        let guard = CallOff(&self.called_off);
        let outcome = (&mut self.outcome).await;
        std::mem::forget(guard);
        match outcome {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => Err(Error::new(ErrorKind::Io, "what is awaited ended without a result")), // cannot be
        }
    }

    /// Calls the work off, and waits for its end on this thread. `None`: it panicked.
    pub(super) fn wait(mut self) -> Option<T> {
        if self.started_by != process::id() {
            return None;
        }
        self.called_off.store(true, Ordering::Relaxed);
        let _ = self.thread.join(); // by then, the outcome is there
        self.outcome.try_recv().ok()?.ok()
    }
}

/// Does `work`, and waits for its end.
pub(super) async fn run<T: Send + 'static>(
    work: impl FnOnce(&CalledOff) -> T + Send + 'static,
) -> Result<T> {
    Job::start(work)?.end().await
}

/// Calls the work off when it is dropped.
struct CallOff<'a>(&'a AtomicBool);

impl Drop for CallOff<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
