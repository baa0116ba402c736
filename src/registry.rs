//! The registry: a directory of lock files that all processes of one user share.
//!
//! It says where the slots are and which ports they stand for. What a slot is: `slot.rs`; who waits
//! for it: `queue.rs`; what is written down of its port: `table.rs`, in the form of `record.rs`; how
//! a port is taken: `lease`.

mod lock;
pub(crate) mod queue;
mod record;
pub(crate) mod slot;
pub(crate) mod table;

use std::collections::HashMap;
use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use once_cell::sync::OnceCell;

use self::table::{Marks, Table, Use};
use crate::error::{Error, ErrorKind, Result};
use crate::holder::Holder;
use crate::range::PortSet;
use crate::sys;

/// Names the registry's directory, instead of the one of this user in `/tmp`.
const DIR_VARIABLE: &str = "PORTLEASE_DIR";

/// Names the ports that may be leased, instead of the default.
const RANGE_VARIABLE: &str = "PORTLEASE_RANGE";

static GLOBAL: OnceCell<Registry> = OnceCell::new();

/// A directory of lock files, one for each port: who has the lock of a file has its port.
///
/// All leases of one registry exclude each other, across threads and processes. Nearly always the
/// process-wide [`Registry::global`] is the right one, and nobody needs to name it.
///
/// There is nothing to clean up. When a process dies, by `SIGKILL` too, the kernel frees its locks;
/// the files stay, and mean nothing without a lock.
///
/// # Files and variables
///
/// - `PORTLEASE_DIR`: the directory; created if it is missing. Unset or empty:
///   `/tmp/portlease-UID`, which depends neither on `TMPDIR` nor on `HOME`, because jobs that set
///   them differently would not see each other. If that name is taken by something that is not a
///   directory of this user with mode 0700, `-1` to `-7` are appended and tried. On Windows:
///   `AppData\Local\portlease` in the profile of the account, whatever the environment says; who
///   may use it is not looked at.
/// - `PORTLEASE_RANGE`: the ports, as `20000-29999` or a list (`20000-20999,25000`), used as they
///   stand. Unset or empty: 20000 to 29999 without the kernel's ephemeral range, without
///   `ip_local_reserved_ports`, and without the ports of well-known servers. The kernel's settings
///   are read once for each network namespace. (FreeBSD's ephemeral range, which has all of these, is not left
///   out, and Windows' is not asked for, but taken to be 49152 to 65535.)
/// - Below the directory there is one folder for each network namespace, since ports belong to one.
///
/// # What this does not guarantee
///
/// Users, and containers, that share a network namespace do not share the directory. Between their
/// registries only the kernel's hold arbitrates; see [`Lease`](crate::Lease). The hold ends with the test
/// process: if that is killed, a server that has not bound its port yet has only the lock, which another registry
/// does not see, and which is lost if somebody removes the port's file.
#[derive(Clone, Debug)]
pub struct Registry {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    place: Place,
    ports: Option<PortSet>,
    spaces: Mutex<HashMap<Namespace, Arc<Space>>>,
}

/// A network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Namespace {
    /// By the number that `/proc` shows, which also names its directory; `None` where there is none.
    Shown(Option<u64>),
    /// As a socket knows it: quicker to ask for, but no process without a socket can.
    Cookie(u64),
}

#[derive(Debug)]
enum Place {
    /// The first acceptable of these, none of which has to exist.
    FirstOf(Vec<PathBuf>),
    At(PathBuf),
}

/// The registry as seen from one network namespace.
#[derive(Debug)]
pub(crate) struct Space {
    path: PathBuf,
    /// The ports to lease by default.
    pub(crate) ports: PortSet,
    table: Table,
    /// Open, with a shared lock, for the life of the process: cleaners of `/tmp` (systemd-tmpfiles)
    /// leave a locked directory alone.
    _lock: Option<File>,
}

impl Registry {
    /// The registry that this process shares with all others of this user.
    ///
    /// Made when it is first needed, from the environment; see [`Registry`].
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Registry`]: no acceptable directory, or it cannot be created.
    /// - [`ErrorKind::InvalidInput`]: `PORTLEASE_RANGE` is not a range of ports.
    pub fn global() -> Result<Registry> {
        let made = GLOBAL.get_or_try_init(|| match env::var_os(DIR_VARIABLE) {
            Some(path) if !path.is_empty() => Registry::open(path),
            _ => {
                let base = sys::registry_dir().map_err(|error| {
                    Error::io(ErrorKind::Registry, "find this user's directory", error)
                })?;
                let others = (1..=7).map(|n| {
                    let mut name = base.clone().into_os_string();
                    name.push(format!("-{n}"));
                    PathBuf::from(name)
                });
                let names = [base.clone()].into_iter().chain(others);
                Registry::new(Place::FirstOf(names.collect()))
            }
        });
        made.cloned()
    }

    /// A registry of its own in the directory `path`, which is created if it is missing, with those
    /// above it, all for this user alone (mode 0700; on Windows, for whom the directory above lets in).
    ///
    /// For tests that count leases, and for programs that must not mix with the user's others. Its
    /// leases exclude those of other registries by the kernel's hold only.
    ///
    /// # Errors
    ///
    /// As [`Registry::global`].
    ///
    /// # Examples
    ///
    /// ```
    /// # let temp = tempfile::tempdir().unwrap();
    /// # let path = temp.path().join("ports");
    /// use portlease::{Lease, Registry};
    ///
    /// let registry = Registry::open(&path)?;
    /// let lease = Lease::builder().registry(&registry).label("db").lease()?;
    /// let holders = registry.list()?;
    /// assert_eq!(holders.len(), 1);
    /// assert_eq!(holders[0].port(), lease.port());
    /// assert_eq!(holders[0].label(), Some("db"));
    /// # Ok::<(), portlease::Error>(())
    /// ```
    pub fn open(path: impl AsRef<Path>) -> Result<Registry> {
        let path = path.as_ref();
        // Absolute, so that a later change of the working directory does not move the registry.
        let absolute = std::path::absolute(path).map_err(|error| cannot("find", path, error))?;
        Registry::new(Place::At(absolute))
    }

    fn new(place: Place) -> Result<Registry> {
        let ports = ports_from_env()?;
        let inner = Inner { place, ports, spaces: Mutex::default() };
        let registry = Registry { inner: Arc::new(inner) };
        registry.inner.place.find_or_create()?;
        Ok(registry)
    }

    /// Who holds which port, in the network namespace of the calling thread, by port.
    ///
    /// What counts is the lock: a record that a dead process left behind is not a holder. The
    /// answer was true a moment ago; ports come and go.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Registry`]: the directory cannot be read. A single slot that cannot be read
    ///   is left out.
    /// - [`ErrorKind::OutOfDescriptors`].
    pub fn list(&self) -> Result<Vec<Holder>> {
        self.holders(|_| true)
    }

    /// The same, of the ports that are `wanted`: each slot that is looked at costs 5 us.
    pub(crate) fn holders(&self, wanted: impl Fn(u16) -> bool) -> Result<Vec<Holder>> {
        let space = self.space()?;
        let failed = |error| cannot("read", &space.path, error);
        let mut ports = Vec::new();
        for entry in fs::read_dir(&space.path).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let port = name.to_str().and_then(crate::range::parse_port);
            ports.extend(port.filter(|&port| wanted(port)));
        }
        ports.sort_unstable();
        let mut holders = Vec::new();
        for port in ports {
            match slot::is_locked(&space.slot(port)) {
                Ok(true) => holders.push(space.holder(port)),
                Ok(false) => {}
                Err(error) if sys::is_out_of_descriptors(&error) => return Err(failed(error)),
                Err(_) => {}
            }
        }
        Ok(holders)
    }

    /// The registry as the calling thread's network namespace has it.
    ///
    /// Asked for each time, because a thread may change its namespace.
    pub(crate) fn space(&self) -> Result<Arc<Space>> {
        let shown = sys::net_namespace().map_err(|error| {
            let doing = "see in /proc/thread-self/ns/net which network namespace this is, to which the \
                         ports belong; another try may succeed";
            Error::io(ErrorKind::Registry, doing, error)
        })?;
        self.known(Namespace::Shown(shown), || {
            let ports = match &self.inner.ports {
                Some(ports) => ports.clone(),
                None => PortSet::default_for(sys::ephemeral_ports(), &sys::reserved_ports()),
            };
            let name = shown.map_or_else(|| "net".to_owned(), |id| format!("net-{id}"));
            Space::open(self.inner.place.find_or_create()?.join(name), ports)
        })
    }

    /// The same, for who has a socket of that namespace, and its cookie: 0.2 us instead of 3.
    pub(crate) fn space_of(&self, cookie: Option<u64>) -> Result<Arc<Space>> {
        match cookie {
            Some(cookie) => self.known(Namespace::Cookie(cookie), || self.space()),
            None => self.space(),
        }
    }

    fn known(
        &self,
        namespace: Namespace,
        find: impl FnOnce() -> Result<Arc<Space>>,
    ) -> Result<Arc<Space>> {
        if let Some(space) = self.spaces().get(&namespace) {
            // A process that found the directory removed has made it anew, or will.
            if !space.table.is_stale() {
                return Ok(space.clone());
            }
        }
        self.forget_stale_spaces();
        let space = find()?;
        self.spaces().insert(namespace, space.clone());
        Ok(space)
    }

    /// Forgets where the directory was: it is gone, and has to be found or created again.
    pub(crate) fn forget_spaces(&self) {
        self.spaces().clear();
    }

    fn forget_stale_spaces(&self) {
        self.spaces().retain(|_, space| !space.table.is_stale());
    }

    fn spaces(&self) -> MutexGuard<'_, HashMap<Namespace, Arc<Space>>> {
        // A panic elsewhere cannot have left the map half-changed.
        self.inner.spaces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Space {
    fn open(path: PathBuf, ports: PortSet) -> Result<Arc<Space>> {
        create_dir(&path)?;
        let lock = sys::open_dir(&path).map_err(|error| cannot("open", &path, error))?;
        // A cleaner is at work right now: no reason to fail.
        let _ = lock.as_ref().map(lock::try_shared);
        let table = path.join("table");
        let table = Table::open(&table).map_err(|error| cannot("open", &table, error))?;
        Ok(Arc::new(Space { path, ports, table, _lock: lock }))
    }

    /// The lock file of `port`.
    pub(crate) fn slot(&self, port: u16) -> PathBuf {
        self.path.join(port.to_string())
    }

    /// When which of `ports` was used.
    pub(crate) fn marks(&self, ports: &PortSet) -> Marks {
        self.table.marks(ports.bounds())
    }

    /// Whether somebody wrote down that he has `port`.
    pub(crate) fn is_marked_taken(&self, port: u16) -> bool {
        self.table.marks((port, port)).of(port) == Use::Taken
    }

    /// Whether `port` was taken or released a short time ago.
    pub(crate) fn used_lately(&self, port: u16) -> bool {
        self.table.used_lately(port)
    }

    /// Writes down who took `port`. Called by who has its slot.
    pub(crate) fn took(&self, port: u16, holder: &Holder) {
        self.table.took(port, holder);
    }

    /// Writes down that `port` was released. Called by who has its slot.
    pub(crate) fn released(&self, port: u16) {
        self.table.released(port);
    }

    /// Who has `port`, by his own account, given that somebody has.
    pub(crate) fn holder(&self, port: u16) -> Holder {
        self.table.holder(port).unwrap_or_else(|| Holder::unknown(port))
    }

    /// The directory of the slots.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Place {
    /// First looks for one that exists and is acceptable, and only then creates one: else two
    /// processes that meet a squatter at different times would use different directories.
    fn find_or_create(&self) -> Result<PathBuf> {
        let candidates = match self {
            Place::At(path) => {
                if let Some(parent) = path.parent() {
                    // If that fails, what follows says so.
                    let _ = sys::create_private_dirs(parent);
                }
                return create_dir(path).map(|()| path.clone());
            }
            Place::FirstOf(candidates) => candidates,
        };
        let acceptable = |path: &&PathBuf| matches!(problem(path), Ok(None));
        if let Some(found) = candidates.iter().find(acceptable) {
            return Ok(found.clone());
        }
        let mut reasons = Vec::new();
        for path in candidates {
            match create_dir(path) {
                Ok(()) => return Ok(path.clone()),
                Err(error) => reasons.push(match std::error::Error::source(&error) {
                    Some(cause) => format!("\n  {error}: {cause}"),
                    None => format!("\n  {error}"),
                }),
            }
        }
        Err(Error::new(
            ErrorKind::Registry,
            format!(
                "no directory for the registry of ports can be used; name another with \
                 {DIR_VARIABLE}, or mend one of these:{}",
                reasons.concat()
            ),
        ))
    }
}

/// Makes sure that `path` is a directory of ours alone.
fn create_dir(path: &Path) -> Result<()> {
    let created = sys::create_private_dir(path);
    match (problem(path), created) {
        (Ok(None), _) => Ok(()),
        (Ok(Some(problem)), _) => Err(Error::new(
            ErrorKind::Registry,
            format!("the registry's directory {} cannot be used: {problem}", path.display()),
        )),
        (Err(_), Err(error)) | (Err(error), Ok(())) => Err(cannot("create", path, error)),
    }
}

fn problem(path: &Path) -> io::Result<Option<String>> {
    Ok(sys::dir_problem(&fs::symlink_metadata(path)?))
}

/// The failure of a system call on the registry's directory.
pub(crate) fn cannot(verb: &str, path: &Path, error: io::Error) -> Error {
    let doing = format!(
        "{verb} {}, where the registry of ports is kept; another place can be named with \
         {DIR_VARIABLE}",
        path.display()
    );
    Error::io(ErrorKind::Registry, doing, error)
}

fn ports_from_env() -> Result<Option<PortSet>> {
    let Some(value) = env::var_os(RANGE_VARIABLE).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    match value.to_str().and_then(PortSet::parse) {
        Some(ports) => Ok(Some(ports)),
        None => Err(Error::new(
            ErrorKind::InvalidInput,
            format!(
                "{RANGE_VARIABLE} is {value:?}, which is not a range of ports; write it like \
                 20000-29999, with ports from 1 to 65535"
            ),
        )),
    }
}
