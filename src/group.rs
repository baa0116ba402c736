//! Servers that need each other: started in order, stopped in reverse.
//!
//! A server is added after those that it needs, so there are no circles to be found.
//!
//! What is started when: `plan`; how: `start`; who is stopped before whom: `members`.

mod members;
mod plan;
mod start;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::resume_unwind;

pub(crate) use self::members::Members;
use self::members::{Member, unknown};
use self::plan::Plan;
use self::start::Failed;
use crate::error::{Error, Result};
use crate::server::{CalledOff, Server, ServerBuilder, Stopped};

/// Running servers, some of which need others.
///
/// Dropping it, like [`stop`](Group::stop), first stops those that nobody needs, all at the same time,
/// then those that only these needed, and so on.
///
/// # Examples
///
/// ```no_run
/// use std::process::Command;
/// use portlease::{Group, Server};
///
/// let group = Group::builder()
///     .server("db", &[], |_| Ok(Server::builder(Command::new("my-db")).env_port("PORT")))
///     .server("queue", &[], |_| Ok(Server::builder(Command::new("my-queue")).env_port("PORT")))
///     .server("api", &["db", "queue"], |needs| {
///         let mut command = Command::new("my-api");
///         command.env("DB_PORT", needs.server("db")?.port().to_string());
///         command.env("QUEUE_URL", needs.server("queue")?.url("/"));
///         Ok(Server::builder(command).env_port("PORT"))
///     })
///     .start()?;
/// let url = group.server("api")?.url("/healthz");
/// # Ok::<(), portlease::Error>(())
/// ```
///
/// # What this does not guarantee
///
/// If the test process is killed, the watchdogs end all servers at the same time, in no order.
#[must_use = "the servers are stopped as soon as this is dropped; keep it in a variable for as long \
              as they are needed"]
#[derive(Debug)]
pub struct Group {
    members: Members<Server>,
}

/// Starts a group. Made by [`Group::builder`].
#[must_use = "a builder starts nothing; finish it with `start()`"]
#[derive(Debug)]
pub struct GroupBuilder<'a> {
    members: Vec<Planned<'a>>,
    called_off: CalledOff,
}

struct Planned<'a> {
    name: String,
    needs: Vec<String>,
    make: Box<Make<'a>>,
}

type Make<'a> = dyn FnOnce(&Needs<'_>) -> Result<ServerBuilder> + Send + 'a;

/// The servers that another one needs, running; for the closure that makes its builder.
#[derive(Clone, Debug)]
pub struct Needs<'a> {
    whose: &'a str,
    servers: BTreeMap<&'a str, &'a Server>,
}

impl Needs<'_> {
    /// The server of this name.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput): it is not among those that this one needs.
    pub fn server(&self, name: &str) -> Result<&Server> {
        self.servers.get(name).copied().ok_or_else(|| {
            let all: Vec<_> = self.servers.keys().copied().collect();
            let whose = self.whose;
            unknown(format_args!("`{whose}` does not say that it needs `{name}`; it says: "), &all)
        })
    }
}

impl<'a> GroupBuilder<'a> {
    /// Adds a server, which is started once all are ready that it needs; these are added before.
    ///
    /// `make` returns its builder. It is called once, on a thread of its own, beside those of others
    /// that can be started at the same time. Errors and logs call the server by `name`, unless the
    /// builder has another for it.
    pub fn server(
        mut self,
        name: impl Into<String>,
        needs: &[&str],
        make: impl FnOnce(&Needs<'_>) -> Result<ServerBuilder> + Send + 'a,
    ) -> Self {
        let needs = needs.iter().copied().map(str::to_owned).collect();
        self.members.push(Planned { name: name.into(), needs, make: Box::new(make) });
        self
    }

    /// As [`ServerBuilder::called_off_by`], for all of them.
    #[cfg(feature = "tokio")]
    pub(crate) fn called_off_by(mut self, flag: &CalledOff) -> Self {
        self.called_off = CalledOff::clone(flag);
        self
    }

    /// Starts all of them, and returns when all are ready.
    ///
    /// # Errors
    ///
    /// If one fails, those that are being started are called off, and all are stopped, as
    /// [`Group::stop`] does. The error names the one that failed first, and is of its kind; see
    /// [`ServerBuilder::start`].
    ///
    /// If a closure panics, all are stopped as well, and the panic goes on here.
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput), before any is started: two have the
    /// same name, or one needs another that was not added before it.
    pub fn start(self) -> Result<Group> {
        let asked = self.members.iter().map(|member| (member.name.as_str(), &*member.needs));
        let plan = Plan::of(&asked.collect::<Vec<_>>())?;
        let (names, makes): (Vec<_>, Vec<_>) =
            self.members.into_iter().map(|member| (member.name, member.make)).unzip();
        let (servers, failed) = start::all(&names, makes, &plan, self.called_off);
        let members = names.into_iter().zip(servers).enumerate();
        let members = members.filter_map(|(place, (name, server))| {
            Some(Member { name, place, level: plan.level(place), server: server? })
        });
        let group = Group { members: members.collect() };
        match failed {
            None => Ok(group),
            Some(Failed::Error(error)) => Err(match group.stop() {
                Ok(_) => error,
                Err(left) => error.and_then(left),
            }),
            Some(Failed::Panic(panic)) => resume_unwind(panic), // drops the group
        }
    }
}

impl Group {
    /// A group without servers yet.
    pub fn builder<'a>() -> GroupBuilder<'a> {
        GroupBuilder { members: Vec::new(), called_off: CalledOff::default() }
    }

    /// The server of this name.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput): there is none.
    pub fn server(&self, name: &str) -> Result<&Server> {
        self.members.get(name)
    }

    /// The server of this name, to restart it for instance; those that need it stay as they are.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput): there is none.
    pub fn server_mut(&mut self, name: &str) -> Result<&mut Server> {
        self.members.get_mut(name)
    }

    /// All of them, with their names, in the order in which they were added.
    pub fn servers(&self) -> impl Iterator<Item = (&str, &Server)> {
        self.members.iter()
    }

    /// Stops all of them, and says of each, in the order in which they were added, how it ended.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotStopped`](crate::ErrorKind::NotStopped), as [`Server::stop`], of all that would
    /// not go. The others are stopped.
    pub fn stop(mut self) -> Result<Vec<Stopped>> {
        let mut all = BTreeMap::new();
        let mut failed: Option<Error> = None;
        while let Some(level) = self.members.take_level() {
            let (places, servers): (Vec<_>, Vec<_>) =
                level.into_iter().map(|member| (member.place, member.server)).unzip();
            for (place, stopped) in places.into_iter().zip(Server::stop_all(servers)) {
                match (stopped, failed.take()) {
                    (Ok(stopped), before) => {
                        all.insert(place, stopped);
                        failed = before;
                    }
                    (Err(error), Some(before)) => failed = Some(before.and_then(error)),
                    (Err(error), None) => failed = Some(error),
                }
            }
        }
        failed.map_or_else(|| Ok(all.into_values().collect()), Err)
    }
}

#[cfg(feature = "tokio")]
impl Group {
    pub(crate) fn of(members: Members<Server>) -> Group {
        Group { members }
    }

    pub(crate) fn into_members(mut self) -> Members<Server> {
        std::mem::take(&mut self.members)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        while let Some(level) = self.members.take_level() {
            Server::drop_all(level.into_iter().map(|member| member.server));
        }
    }
}

impl fmt::Debug for Planned<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Planned").field("name", &self.name).field("needs", &self.needs).finish()
    }
}
