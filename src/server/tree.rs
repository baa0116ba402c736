//! Which of all processes are a server's. Pure.
//!
//! A server's process may leave the group (`setsid`: PostgreSQL's children, daemons), its parent may
//! end before it, and its pid may come to mean another. So whoever was once found stays known, by
//! pid and start; and each look adds the members of the group, and the children of all known.

use std::collections::{BTreeSet, HashMap};

use crate::sys::{ProcessEntry, ProcessId};

/// Adds to `known` whoever of `all` is of the group, descends from one who is known, or is of a group
/// that one of these leads (as the watchdog of a harness that runs in the server does); but for
/// `watchdog`, who leads the group, and what that one started.
pub(super) fn extend(
    known: &mut BTreeSet<ProcessId>,
    all: &[ProcessEntry],
    group: Option<u32>,
    watchdog: Option<u32>,
) {
    let mut children: HashMap<u32, Vec<&ProcessEntry>> = HashMap::new();
    let mut members: HashMap<u32, Vec<&ProcessEntry>> = HashMap::new();
    let mut found = Vec::new();
    for entry in all {
        children.entry(entry.parent).or_default().push(entry);
        members.entry(entry.group).or_default().push(entry);
        let of_group = Some(entry.group) == group && Some(entry.parent) != watchdog;
        if Some(entry.id.pid) != watchdog && (of_group || known.contains(&entry.id)) {
            found.push(entry.id);
        }
    }
    while let Some(id) = found.pop() {
        known.insert(id);
        let led = members.get(&id.pid).into_iter().flatten();
        for entry in children.get(&id.pid).into_iter().flatten().chain(led) {
            // Nobody is older than his parent, or his group: those would be a namesake's.
            if entry.id.start >= id.start && !known.contains(&entry.id) {
                found.push(entry.id);
            }
        }
    }
}

/// Of those who are known, the living ones.
pub(super) fn living(known: &BTreeSet<ProcessId>, all: &[ProcessEntry]) -> Vec<ProcessEntry> {
    all.iter().filter(|entry| known.contains(&entry.id)).copied().collect()
}

/// Of `left`, whom a signal to `group` does not reach and nobody of them will end: who is outside of
/// it, and has no parent among them.
///
/// A parent knows better how its children are to be ended. SIGINT to PostgreSQL's own process shuts
/// it down in order; to some of its children, it means something else.
pub(super) fn roots_outside(left: &[ProcessEntry], group: Option<u32>) -> Vec<ProcessId> {
    let outside = left.iter().filter(|entry| Some(entry.group) != group);
    let roots = outside.filter(|entry| left.iter().all(|other| other.id.pid != entry.parent));
    roots.map(|entry| entry.id).collect()
}

/// Of `all`, the pids of those who may have become somebody's parent because his own had ended: pid 1,
/// and who has asked for it, which may be any ancestor of `own`; or `own` itself, `if_it_adopts`.
pub(super) fn adopters(
    all: &[ProcessEntry],
    own: ProcessEntry,
    if_it_adopts: bool,
) -> BTreeSet<u32> {
    let parents: HashMap<u32, u32> = all.iter().map(|entry| (entry.id.pid, entry.parent)).collect();
    let mut adopters = BTreeSet::from([1]);
    adopters.extend(if_it_adopts.then_some(own.id.pid));
    let mut ancestor = own.parent;
    while adopters.insert(ancestor) {
        ancestor = parents.get(&ancestor).copied().unwrap_or(1);
    }
    adopters
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: Option<u32> = Some(100);
    const WATCHDOG: u32 = 100;

    /// `(pid, parent, group)`; started in the order of the pids.
    fn table(rows: &[(u32, u32, u32)]) -> Vec<ProcessEntry> {
        let entry = |&(pid, parent, group)| {
            let id = ProcessId { pid, start: u64::from(pid) };
            ProcessEntry { id, parent, group, session: group }
        };
        rows.iter().map(entry).collect()
    }

    fn pids(entries: impl IntoIterator<Item = ProcessId>) -> Vec<u32> {
        entries.into_iter().map(|id| id.pid).collect()
    }

    fn check(known: &[u32], rows: &[(u32, u32, u32)], expected: &[u32]) {
        let mut set = known.iter().map(|&pid| ProcessId { pid, start: u64::from(pid) }).collect();
        extend(&mut set, &table(rows), GROUP, Some(WATCHDOG));
        assert_eq!(pids(set), expected, "known: {known:?}, table: {rows:?}");
    }

    #[test]
    fn who_adopts() {
        let all = table(&[(1, 0, 1), (10, 1, 10), (20, 10, 20), (30, 20, 30), (40, 10, 40)]);
        let own = |at: usize| all[at];
        assert_eq!(adopters(&all, own(3), false), BTreeSet::from([1, 10, 20]));
        assert_eq!(adopters(&all, own(3), true), BTreeSet::from([1, 10, 20, 30]));
        assert_eq!(adopters(&all, own(0), false), BTreeSet::from([0, 1]), "pid 1 itself");
        let hidden = table(&[(30, 20, 30)]);
        assert_eq!(adopters(&hidden, hidden[0], false), BTreeSet::from([1, 20]));
    }

    #[test]
    fn who_is_ours() {
        check(&[], &[], &[]);
        check(&[], &[(1, 0, 1), (50, 1, 50)], &[]);
        // The group, without its watchdog and what that runs.
        check(
            &[],
            &[(100, 50, 100), (101, 50, 100), (102, 101, 100), (103, 100, 100)],
            &[101, 102],
        );
        // Descendants who left it, in whatever order they stand.
        check(&[101], &[(103, 102, 103), (102, 101, 102), (101, 50, 100)], &[101, 102, 103]);
        // The parent is gone, and the child was adopted: known before, it stays so.
        check(&[101, 102], &[(102, 1, 102), (103, 102, 102)], &[101, 102, 103]);
        // The members of a group that one of ours leads, whoever their parents are.
        check(&[101], &[(101, 50, 100), (102, 101, 102), (103, 1, 102)], &[101, 102, 103]);
        // One who is known has gone; what adopts its pid's children is not looked at.
        check(&[101], &[(104, 1, 104)], &[101]);
    }

    #[test]
    fn a_namesake_is_not_ours() {
        let mut known = BTreeSet::from([ProcessId { pid: 101, start: 7 }]);
        let all = table(&[(101, 1, 101), (102, 101, 101)]); // 101 was started at 101
        extend(&mut known, &all, GROUP, None);
        assert_eq!(known.len(), 1);
        assert_eq!(living(&known, &all), []);
        // Older than the one who is known to have its parent's pid.
        let mut known = BTreeSet::from([ProcessId { pid: 90, start: 90 }]);
        extend(&mut known, &table(&[(90, 1, 90), (80, 90, 90)]), GROUP, None);
        assert_eq!(pids(known), [90]);
    }

    #[test]
    fn who_is_asked_outside_of_the_group() {
        let check = |rows: &[(u32, u32, u32)], expected: &[u32]| {
            assert_eq!(pids(roots_outside(&table(rows), GROUP)), expected, "{rows:?}");
        };
        check(&[(101, 50, 100), (102, 101, 100)], &[]);
        check(&[(101, 50, 100), (102, 101, 102)], &[]); // its parent lives
        check(&[(102, 1, 102), (103, 102, 102)], &[102]);
        check(&[(101, 50, 101)], &[101]); // `setsid server`
    }
}
