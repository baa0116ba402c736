//! The contestants: ours, the kernel's floor, and the crates that pick ports. Each is called as its own
//! documentation begins.

use std::any::Any;
use std::env;
use std::fmt;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::LazyLock;

use portlease::{Lease, Registry};

use crate::args::{Args, give_up};

/// A way to get a port.
#[derive(Clone, Copy)]
pub struct Peer {
    /// Its crate; for the floor, what it does.
    pub name: &'static str,
    pick: fn() -> Option<Picked>,
}

/// A port, with what keeps it, if anything does.
pub struct Picked {
    /// The number.
    pub port: u16,
    _guard: Option<Box<dyn Any>>,
}

/// Ours.
pub const OURS: &str = "portlease";

/// What the kernel does without anybody's help, and the least that a port can cost.
pub const FLOOR: &str = "bind(0)";

const PEERS: [Peer; 8] = [
    Peer { name: OURS, pick: portlease },
    Peer { name: FLOOR, pick: floor },
    Peer { name: "portpicker", pick: || portpicker::pick_unused_port().map(Picked::bare) },
    Peer { name: "port_check", pick: || port_check::free_local_port().map(Picked::bare) },
    Peer { name: "port-selector", pick: || port_selector::random_free_port().map(Picked::bare) },
    // The range of its first example.
    Peer {
        name: "openport",
        pick: || openport::pick_unused_port(15_000..16_000).map(Picked::bare),
    },
    Peer {
        name: "openport random",
        pick: || openport::pick_random_unused_port().map(Picked::bare),
    },
    Peer { name: "reserve-port", pick: reserve_port },
];

/// Ours, once more, for who measures what a second CI job pays: what is held is on record in another registry,
/// and has to be asked of the kernel, as by the others.
pub const SECOND_JOB: Peer = Peer { name: "portlease, second job", pick: second_job };

/// Names the registry of that second job.
pub const SECOND_DIR: &str = "PORTLEASE_PEERS_SECOND_DIR";

fn portlease() -> Option<Picked> {
    leased(portlease::lease())
}

fn second_job() -> Option<Picked> {
    static REGISTRY: LazyLock<Registry> = LazyLock::new(|| {
        let dir = env::var_os(SECOND_DIR).expect("a directory");
        Registry::open(dir).expect("a registry")
    });
    leased(Lease::builder().registry(&REGISTRY).lease())
}

fn leased(lease: portlease::Result<Lease>) -> Option<Picked> {
    match lease {
        Ok(lease) => Some(Picked { port: lease.port(), _guard: Some(Box::new(lease)) }),
        Err(error) => {
            eprintln!("portlease: {error:?}"); // none is expected, so each is to be read
            None
        }
    }
}

fn floor() -> Option<Picked> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    listener.local_addr().ok().map(|address| Picked::bare(address.port()))
}

fn reserve_port() -> Option<Picked> {
    let reserved = reserve_port::ReservedPort::random().ok()?;
    Some(Picked { port: reserved.port(), _guard: Some(Box::new(reserved)) })
}

impl Peer {
    /// All of them, ours first.
    pub fn all() -> &'static [Peer] {
        &PEERS
    }

    /// Those that `--only` names, or all.
    pub fn chosen(args: &Args) -> Vec<Peer> {
        let all = || PEERS.to_vec();
        args.text("--only").map_or_else(all, |names| names.split(',').map(Peer::named).collect())
    }

    /// The one of this name.
    pub fn named(name: &str) -> Peer {
        let found = PEERS.into_iter().chain([SECOND_JOB]).find(|peer| peer.name == name);
        found.unwrap_or_else(|| {
            let names = PEERS.map(|peer| peer.name).join(", ");
            give_up(format_args!("{name:?} is none of: {names}"))
        })
    }

    /// A port. `None`: it found none.
    pub fn pick(self) -> Option<Picked> {
        (self.pick)()
    }

    /// Whether it is ours.
    pub fn is_ours(self) -> bool {
        self.name == OURS
    }
}

impl Picked {
    fn bare(port: u16) -> Picked {
        Picked { port, _guard: None }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl fmt::Debug for Picked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.port.fmt(f)
    }
}
