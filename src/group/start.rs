//! Starts what can be started, each on a thread of its own, until all are up or one failed.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

use super::plan::Plan;
use super::{Make, Needs};
use crate::error::{Error, ErrorKind, Result};
use crate::server::{CalledOff, Server};

/// What all threads of one start share.
struct Starts<'a> {
    names: &'a [String],
    plan: &'a Plan,
    servers: Vec<OnceLock<Server>>,
    /// What failed first.
    failed: Mutex<Option<Failed>>,
    called_off: CalledOff,
}

pub(super) enum Failed {
    Error(Error),
    /// Of a closure, with what it panicked with.
    Panic(Box<dyn Any + Send>),
}

/// The servers that are up, each in its place, and what failed first, if something did: then some may be
/// missing.
pub(super) fn all(
    names: &[String],
    makes: Vec<Box<Make<'_>>>,
    plan: &Plan,
    called_off: CalledOff,
) -> (Vec<Option<Server>>, Option<Failed>) {
    let starts = Starts {
        names,
        plan,
        servers: names.iter().map(|_| OnceLock::new()).collect(),
        failed: Mutex::default(),
        called_off,
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
                let ended = Ended(sender.clone());
                let starts = &starts;
                let start = move || {
                    let _ended = ended;
                    // Others may run, and are to be stopped in their order, before it goes on.
                    let started = catch_unwind(AssertUnwindSafe(|| starts.start(place, make)));
                    started.unwrap_or_else(|panic| starts.fail(Failed::Panic(panic)));
                };
                running += 1; // if it is not spawned, it is dropped, and tells of its end too
                if let Err(error) = thread::Builder::new().spawn_scoped(scope, start) {
                    let doing = "start a thread for a server of the group";
                    starts.fail(Failed::Error(Error::io(ErrorKind::Io, doing, error)));
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
            Err(error) => self.fail(Failed::Error(error.within(format_args!(
                "server `{name}` of the group failed to start, and the others are stopped"
            )))),
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

    fn fail(&self, what: Failed) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.get_or_insert(what);
        self.called_off.store(true, Ordering::Relaxed);
    }

    fn are_called_off(&self) -> bool {
        self.called_off.load(Ordering::Relaxed)
    }
}

/// Tells that a thread has ended, or was not started.
struct Ended(Sender<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}
