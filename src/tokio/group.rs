//! A group that is awaited.

use super::background::{InBackground, Retire};
use super::job;
use super::server::Server;
use crate::error::Result;
use crate::group::{self, GroupBuilder, Members};
use crate::server::Stopped;

/// Running servers, some of which need others; as [`portlease::Group`](crate::Group) in all but what is
/// awaited.
///
/// # Dropping
///
/// As that of a [`Server`]: outside of a runtime it waits until all are gone; inside, a thread of its own
/// does. They are stopped in the same order, unless the process ends before.
///
/// # Examples
///
/// ```no_run
/// use std::process::Command;
/// use portlease::tokio::{Group, Server};
///
/// # async fn test() -> portlease::Result<()> {
/// let builder = Group::builder()
///     .server("db", &[], |_| Ok(Server::builder(Command::new("my-db")).env_port("PORT")))
///     .server("api", &["db"], |needs| {
///         let mut command = Command::new("my-api");
///         command.env("DB_PORT", needs.server("db")?.port().to_string());
///         Ok(Server::builder(command).env_port("PORT"))
///     });
/// let group = Group::start(builder).await?;
/// let url = group.server("api")?.url("/healthz");
/// # Ok(())
/// # }
/// ```
///
/// # What this does not guarantee
///
/// As [`portlease::Group`](crate::Group) and [`Server`].
#[must_use = "the servers are stopped as soon as this is dropped; keep it in a variable for as long \
              as they are needed"]
#[derive(Debug)]
pub struct Group {
    members: Members<Server>,
}

impl Group {
    /// As [`portlease::Group::builder`](crate::Group::builder).
    pub fn builder() -> GroupBuilder<'static> {
        group::Group::builder()
    }

    /// Starts all servers, and returns when all are ready.
    ///
    /// # Errors
    ///
    /// As [`GroupBuilder::start`]; and [`ErrorKind::Io`](crate::ErrorKind::Io): no thread can be started.
    ///
    /// # Panics
    ///
    /// If a closure of a builder does. All are stopped before.
    ///
    /// # Cancel safety
    ///
    /// If this is dropped, the start is called off: no more servers are started, those that are being
    /// started are ended, each as soon as [a single one](Server::start) is, and then all others in their
    /// order. What a closure waits for, a lease for instance, is waited for first.
    pub async fn start(builder: GroupBuilder<'static>) -> Result<Group> {
        job::run(move |called_off| {
            let group = builder.called_off_by(called_off).start()?;
            Ok(Group { members: group.into_members().filter_map(|it| Some(Server::new(it))) })
        })
        .await?
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

    /// As [`portlease::Group::stop`](crate::Group::stop), awaited.
    ///
    /// # Errors
    ///
    /// As there; and [`ErrorKind::Io`](crate::ErrorKind::Io): no thread can be started; then all were
    /// dropped.
    ///
    /// # Cancel safety
    ///
    /// If this is dropped, all are stopped all the same.
    pub async fn stop(mut self) -> Result<Vec<Stopped>> {
        for server in self.members.iter_mut() {
            server.settle().await;
        }
        let members = InBackground::new(Leaving(std::mem::take(&mut self.members)));
        let stop = |mut leaving: Leaving| leaving.take().stop();
        job::run(move |_| members.take().map_or_else(|| Ok(Vec::new()), stop)).await?
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        drop(InBackground::new(Leaving(std::mem::take(&mut self.members))));
    }
}

/// The members of a group that is stopped or dropped.
#[derive(Debug)]
struct Leaving(Members<Server>);

impl Leaving {
    /// Those whose restart is being undone are waited for first: whom they need goes after them.
    fn take(&mut self) -> group::Group {
        group::Group::of(std::mem::take(&mut self.0).filter_map(Server::into_inner))
    }
}

impl Retire for Leaving {
    fn retire(&mut self) -> bool {
        self.0.iter_mut().fold(false, |any, server| any | server.retire())
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        drop(self.take());
    }
}
