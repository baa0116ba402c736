//! One process after another (`act` in `support/actor.rs`), from its start until nothing of it is left.

use std::fs::{self, File};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;

use portlease::Holder;

use crate::lot::Lot;
use crate::plot::{Plot, Victim};
use crate::support::dice::Dice;
use crate::support::{
    MARK, OwnRegistry, TestChild, bounded, eventually, processes_with, unique_mark,
};
use crate::talk::{Served, Talk};
use crate::tally::Tally;
use crate::world::{Tools, World};

pub(crate) struct Seat<'a> {
    pub(crate) world: &'a World,
    pub(crate) own: &'a OwnRegistry,
    pub(crate) dice: Dice,
    pub(crate) tools: &'a Tools,
    pub(crate) tally: &'a Tally,
}

impl Seat<'_> {
    pub(crate) fn one_process(&mut self) {
        // Of its own: how often it is asked depends on time.
        let mut dice = Dice::new(self.dice.roll());
        let lot = Lot::drawn(&mut dice, self.world, self.tools);
        let mark = unique_mark();
        let path = |kind: &str| self.own.dir.path().join(format!("{mark}.{kind}"));
        let (log, errors) = (path("strace"), path("stderr"));
        let mut child = self.start(lot, &mut dice, &mark, &log, &errors);
        let (mut child, first) = bounded(move || {
            let first = child.line();
            (child, first)
        });
        let pid = first.and_then(|line| line.strip_prefix("actor ")?.parse().ok());
        let Some(pid) = pid else {
            assert!(lot.lacks_something(), "{lot:?} did not begin");
            return; // its program could not be loaded
        };
        self.tally.count(lot.name());
        let plot = Plot::drawn(&mut dice, self.world.kills_at_any_moment());
        let victim = Arc::new(Victim::new(pid));
        let (world, own, tally, dice) = (self.world, self.own, self.tally, &mut dice);
        let served = thread::scope(|scope| {
            let (says, heard) = mpsc::channel();
            let victim = &victim;
            scope.spawn(move || plot.carry_out(victim, &heard, tally));
            let mut talk = Talk { world, own, lot, child: &mut child, victim, says, dice, tally };
            let (served, outcome) = talk.listen();
            if let Err(problem) = outcome {
                let errors = fs::read_to_string(&errors).unwrap_or_default();
                assert!(victim.is_doomed(), "{lot:?}, process {pid}: {problem}\n{errors}");
            }
            victim.is_gone();
            served
        });
        let status = bounded(move || child.wait().unwrap());
        assert!(status.success() || victim.is_doomed(), "{lot:?}, process {pid}: {status}");
        self.nothing_is_left(&mark, &served);
        self.world.claims.give_up(&victim);
        if fs::read_to_string(&log).is_ok_and(|log| log.contains("(INJECTED)")) {
            self.tally.count("failing system calls");
        }
        let _ = (fs::remove_file(log), fs::remove_file(errors));
    }

    fn start(&self, lot: Lot, dice: &mut Dice, mark: &str, log: &Path, errors: &Path) -> TestChild {
        let patience = if lot.lacks_something() { 5 } else { 300 };
        let numbers = [
            (*self.world.ports().start()).into(),
            (*self.world.ports().end()).into(),
            dice.roll(),
            1 + dice.below(8), // steps
            patience,
        ];
        let mut role = vec!["act".to_owned(), self.own.arg()];
        role.extend(numbers.map(|number| number.to_string()));
        let role: Vec<&str> = role.iter().map(String::as_str).collect();
        let mut command = lot.command(&role, log);
        command.env(MARK, mark).env("TMPDIR", &self.world.temporary);
        command.stderr(File::create(errors).unwrap());
        TestChild::spawn(command)
    }

    /// Waits until nothing of a process is left. Until then, the ports are leased on which its servers live.
    fn nothing_is_left(&self, mark: &str, served: &[Served]) {
        eventually("nothing of the process is left", || {
            // In this order: whoever is seen below was there above, when his port had to be leased.
            let leased = self.world.keeps_slots().then(|| self.own.registry.list().unwrap());
            let left = processes_with(MARK, mark);
            for server in served.iter().filter(|it| it.is_leased && left.contains(&it.pid)) {
                let is_its = |holder: &Holder| holder.port() == server.port;
                let is_lost = leased.as_ref().is_some_and(|all| !all.iter().any(is_its));
                assert!(!is_lost, "its server {server:?} lives, and has no lease");
            }
            left.is_empty()
        });
    }
}
