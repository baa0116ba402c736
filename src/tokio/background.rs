//! Drops that would wait, off a runtime's threads.

use std::thread;

use ::tokio::runtime::Handle;

use crate::server::Server;

/// Something whose drop waits until its servers are gone. Inside a runtime, a thread of its own does that.
#[derive(Debug)]
pub(super) struct InBackground<T: Retire>(Option<Box<T>>);

pub(super) trait Retire: Send + 'static {
    /// What of the drop has to be done on the thread that drops it, since that may be panicking. Whether
    /// there is anything to wait for: a server that ends, or files that are removed.
    fn retire(&mut self) -> bool;
}

impl Retire for Server {
    fn retire(&mut self) -> bool {
        Server::retire(self) || self.has_files()
    }
}

impl<T: Retire> InBackground<T> {
    pub(super) fn new(it: T) -> InBackground<T> {
        InBackground(Some(Box::new(it)))
    }

    pub(super) fn take(mut self) -> Option<T> {
        self.0.take().map(|it| *it)
    }

    pub(super) fn get(&self) -> Option<&T> {
        self.0.as_deref()
    }

    pub(super) fn get_mut(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }
}

impl<T: Retire> Drop for InBackground<T> {
    fn drop(&mut self) {
        let Some(mut it) = self.0.take() else { return };
        // Outside, its own drop does all of it, here: retired twice, it would print its output twice.
        if Handle::try_current().is_ok() && it.retire() {
            let thread = thread::Builder::new().name("portlease-drop".to_owned());
            // If there is no thread to be had, the drop of the closure waits.
            let _ = thread.spawn(move || drop(it));
        }
    }
}
