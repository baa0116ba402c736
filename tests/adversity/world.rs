//! A registry with those who use it, and what happens to it; and what must be left at its end: nothing.

use std::fs;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use portlease::Lease;

use crate::claims::Claims;
use crate::kinds::Amiss;
use crate::seat::Seat;
use crate::support::dice::Dice;
use crate::support::{Allotment, DEADLINE, OwnRegistry, eventually, skip};
use crate::tally::Tally;
use crate::trouble::{SmallDisk, damage};

/// So many ports has a world.
const PORTS: u16 = 6;

/// What there is to make trouble with.
pub(crate) struct Tools {
    pub(crate) strace: bool,
    pub(crate) clocks: bool,
}

impl Tools {
    pub(crate) fn here() -> Tools {
        let works = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output();
            let works = output.is_ok_and(|output| output.status.success());
            if !works {
                let reason = format!("`{program} {}` does not work here", arguments.join(" "));
                skip::<()>(&reason);
            }
            works
        };
        Tools {
            strace: works("strace", &["-o", "/dev/null", "true"]),
            clocks: works("unshare", &["--time", "--fork", "--boottime=1000", "true"]),
        }
    }
}

/// What happens to a registry, and to those who use it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Sound,
    Damaged,
    Full,
    Wild,
    Shared,
}

pub(crate) struct World {
    fate: Fate,
    disk: Option<SmallDisk>, // goes before the directory in which it is
    own: OwnRegistry,
    /// Of half of those who live here.
    other: Option<OwnRegistry>,
    ports: Allotment,
    /// The temporary directory of those who live here.
    pub(crate) temporary: PathBuf,
    pub(crate) claims: Claims,
    seats: u32,
    failed: AtomicBool,
}

/// Ends the others when one fails.
struct Alarm<'a>(&'a AtomicBool);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        self.0.fetch_or(thread::panicking(), Ordering::Relaxed);
    }
}

impl World {
    fn new(fate: Fate, seats: u32) -> World {
        let own = OwnRegistry::new();
        let temporary = own.dir.path().join("tmp");
        fs::create_dir(&temporary).unwrap();
        let (ports, failed) = (Allotment::new(), AtomicBool::new(false));
        let claims = Claims::default();
        World { fate, disk: None, own, other: None, ports, temporary, claims, seats, failed }
    }

    /// Nobody touches the registry's directory.
    pub(crate) fn sound() -> World {
        World::new(Fate::Sound, 4)
    }

    /// Somebody does, all the time.
    pub(crate) fn damaged() -> World {
        World::new(Fate::Damaged, 2)
    }

    /// The registry's disk is full now and then.
    pub(crate) fn full() -> World {
        let world = World::new(Fate::Full, 2);
        let disk = SmallDisk::mounted_at(&world.own.path());
        // Makes what all of them need.
        drop(Lease::builder().registry(&world.own.registry).range(world.ports()).lease().unwrap());
        World { disk: Some(disk), ..world }
    }

    /// Somebody damages the directory, and processes are killed and lack what they need.
    pub(crate) fn wild() -> World {
        World::new(Fate::Wild, 2)
    }

    /// There are two registries, as of two jobs, on the same ports.
    pub(crate) fn shared() -> World {
        World { other: Some(OwnRegistry::new()), ..World::new(Fate::Shared, 4) }
    }

    /// Whether nothing happens to the registry.
    pub(crate) fn is_sound(&self) -> bool {
        self.amiss() == Amiss::Nothing
    }

    /// What is amiss for all who live here.
    pub(crate) fn amiss(&self) -> Amiss {
        match self.fate {
            Fate::Sound | Fate::Shared => Amiss::Nothing,
            Fate::Damaged | Fate::Full => Amiss::Directory,
            Fate::Wild => Amiss::Everything,
        }
    }

    /// Whether the slots are those that were locked.
    pub(crate) fn keeps_slots(&self) -> bool {
        !matches!(self.fate, Fate::Damaged | Fate::Wild)
    }

    /// Whether processes may lack what they need, and be killed while they wait.
    pub(crate) fn is_harsh(&self) -> bool {
        self.fate != Fate::Damaged
    }

    /// Whether they may be killed at any moment.
    pub(crate) fn kills_at_any_moment(&self) -> bool {
        !matches!(self.fate, Fate::Damaged | Fate::Shared)
    }

    /// Whether the port of a server is kept until it is gone, if its harness was killed: by the lock.
    pub(crate) fn keeps_orphans(&self) -> bool {
        matches!(self.fate, Fate::Sound | Fate::Full)
    }

    pub(crate) fn run(&self, mut dice: Dice, duration: Duration, tools: &Tools, tally: &Tally) {
        let end = Instant::now() + duration;
        let goes_on = || Instant::now() < end && !self.failed.load(Ordering::Relaxed);
        thread::scope(|scope| {
            for number in 0..self.seats {
                let own = self.other.as_ref().filter(|_| number % 2 == 1).unwrap_or(&self.own);
                let dice = Dice::new(dice.roll());
                let mut seat = Seat { world: self, own, dice, tools, tally };
                scope.spawn(move || {
                    let _alarm = Alarm(&self.failed);
                    while goes_on() {
                        seat.one_process();
                    }
                });
            }
            while goes_on() {
                if let Some(disk) = &self.disk {
                    disk.fill(&mut dice);
                    tally.count("the registry's disk was full");
                } else if !self.keeps_slots()
                    && damage(&mut dice, &self.own.path(), self.ports.first, PORTS).is_ok()
                {
                    tally.count("the registry's directory was damaged");
                }
                thread::sleep(dice.millis(30));
            }
        });
        self.nothing_is_left();
    }

    /// Fewer than are wanted now and then.
    pub(crate) fn ports(&self) -> RangeInclusive<u16> {
        self.ports.first..=self.ports.first + PORTS - 1
    }

    /// By now, all who lived here are gone.
    fn nothing_is_left(&self) {
        if !self.keeps_slots() {
            let _ = fs::remove_dir_all(self.own.path());
        }
        let ports = self.ports();
        for OwnRegistry { registry, .. } in [&self.own].into_iter().chain(&self.other) {
            eventually("no lease is left", || registry.list().unwrap().is_empty());
            let request = Lease::builder().registry(registry).range(ports.clone());
            drop(request.wait(DEADLINE).lease_many(ports.len()).expect("no socket is left"));
        }
        let left: Vec<_> = fs::read_dir(&self.temporary).unwrap().flatten().collect();
        assert!(left.is_empty(), "of the servers' directories, this is left: {left:?}");
    }
}
