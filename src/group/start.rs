//! Starts what can be started, each on a thread of its own, until all are up or one failed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use super::plan::Plan;
use super::{Make, Needs};
use crate::error::{Error, ErrorKind, Result};
use crate::server::Server;

/// What all threads of one start share.
struct Starts<'a> {
    names: &'a [String],
    plan: &'a Plan,
    servers: Vec<OnceLock<Server>>,
    /// The first error.
    failed: Mutex<Option<Error>>,
    called_off: Arc<AtomicBool>,
}

/// The servers that are up, each in its place, and what failed first, if something did: then some may be
/// missing.
pub(super) fn all(
    names: &[String],
    makes: Vec<Box<Make<'_>>>,
    plan: &Plan,
) -> (Vec<Option<Server>>, Option<Error>) {
    let starts = Starts {
        names,
        plan,
        servers: names.iter().map(|_| OnceLock::new()).collect(),
        failed: Mutex::default(),
        called_off: Arc::default(),
    };
    let mut waiting: Vec<_> = makes.into_iter().enumerate().collect();
    let mut running = 0;
    let (sender, ended) = mpsc::channel();
    thread::scope(|scope| {
        loop {
            if starts.are_called_off() {
                waiting.clear();
            }
            let (ready, rest): (Vec<_>, Vec<_>) =
                waiting.drain(..).partition(|&(place, _)| starts.can_be_started(place));
            waiting = rest;
            for (place, make) in ready {
                let ended = Ended { sender: sender.clone(), called_off: &starts.called_off };
                let starts = &starts;
                let start = move || {
                    let _ended = ended;
                    starts.start(place, make);
                };
                running += 1; // if it is not spawned, it is dropped, and tells of its end too
                if let Err(error) = thread::Builder::new().spawn_scoped(scope, start) {
                    let doing = "start a thread for a server of the group";
                    starts.fail(Error::io(ErrorKind::Io, doing, error));
                }
            }
            if running == 0 || ended.recv().is_err() {
                break;
            }
            running -= 1;
        }
    });
    let failed = starts.failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    (starts.servers.into_iter().map(OnceLock::into_inner).collect(), failed)
}

impl Starts<'_> {
    fn can_be_started(&self, place: usize) -> bool {
        self.plan.needs(place).iter().all(|&needed| self.servers[needed].get().is_some())
    }

    fn start(&self, place: usize, make: Box<Make<'_>>) {
        let name = &self.names[place];
        match self.try_start(name, place, make) {
            Ok(server) => _ = self.servers[place].set(server),
            Err(error) => self.fail(error.within(format_args!(
                "server `{name}` of the group failed to start, and the others are stopped"
            ))),
        }
    }

    fn try_start(&self, name: &str, place: usize, make: Box<Make<'_>>) -> Result<Server> {
        let needs = self.plan.needs(place).iter();
        let servers: BTreeMap<_, _> = needs
            .filter_map(|&needed| Some((self.names[needed].as_str(), self.servers[needed].get()?)))
            .collect();
        let builder = make(&Needs { whose: name, servers })?;
        builder.name_or(name).called_off_by(&self.called_off).start()
    }

    fn fail(&self, error: Error) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.get_or_insert(error);
        self.called_off.store(true, Ordering::Relaxed);
    }

    fn are_called_off(&self) -> bool {
        self.called_off.load(Ordering::Relaxed)
    }
}

/// Tells that a thread has ended, by a panic too, which calls the others off.
struct Ended<'a> {
    sender: Sender<()>,
    called_off: &'a AtomicBool,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.called_off.store(true, Ordering::Relaxed);
        }
        let _ = self.sender.send(());
    }
}
