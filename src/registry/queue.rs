//! Whose turn it is: those who wait for a slot get it in the order in which they came.
//!
//! Blocked in `flock` alone they would not. The kernel wakes who waits in order, but hands nothing
//! over: who releases a lock and asks again at once finds it free, and those who were woken in vain
//! line up anew in any order. Of 12 processes that wanted 3 turns each, one was passed over 32 times
//! on a busy machine.
//!
//! So this is a queue of locks. Each who comes locks a ticket, and waits for the ticket before his;
//! he gives his own back once he has the slot. Thus only one at a time waits for the slot itself.
//! Like all locks here, a ticket is freed by the kernel if its owner dies.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::lock;
use super::slot::{self, Slot};
use crate::sys;

/// How many can wait for one port in order. Who comes then waits out of order.
const TICKETS: u32 = 256;

/// Takes the slot at `path`, if nobody has it, and nobody waits for it.
pub(crate) fn try_lock(path: &Path) -> io::Result<Option<Slot>> {
    let Some(slot) = Slot::try_lock(path)? else { return Ok(None) };
    let gate = sys::open_private(&gate(path))?;
    // Who draws a ticket just now has it locked. He goes first; and to wait for him with the slot in hand,
    // for which he may wait, could be for ever. Without this lock, Windows would not let it be read.
    if !lock::try_shared(&gate)? {
        return Ok(None);
    }
    let next = next_number(&gate);
    lock::unlock(&gate)?;
    let next = next?;
    let waits = next > 0 && slot::is_locked(&ticket(path, next - 1))?;
    Ok(if waits { None } else { Some(slot) })
}

/// Waits for the slot at `path`, for as long as it takes, and `is_awaited`.
pub(crate) fn wait_lock(path: &Path, is_awaited: impl Fn() -> bool) -> io::Result<Option<Slot>> {
    let own = match draw(path)? {
        Some((own, Some(before))) => {
            lock::wait_exclusive(&before)?;
            lock::unlock(&before)?;
            Some(own)
        }
        Some((own, None)) => Some(own),
        None => None,
    };
    let slot = Slot::wait_lock(path, is_awaited);
    if let Some(own) = own {
        lock::unlock(&own)?;
    }
    slot
}

/// Locks the next ticket: this one, and the one before it, if anybody waits. `None`: too many do.
fn draw(path: &Path) -> io::Result<Option<(File, Option<File>)>> {
    let gate = sys::open_private(&gate(path))?;
    lock::wait_exclusive(&gate)?; // for microseconds
    let drawn = draw_at(&gate, path);
    lock::unlock(&gate)?;
    drawn
}

fn draw_at(gate: &File, path: &Path) -> io::Result<Option<(File, Option<File>)>> {
    let next = next_number(gate)?;
    let somebody_waits = next > 0 && slot::is_locked(&ticket(path, next - 1))?;
    if !somebody_waits {
        // From the first again, so that there are not more files than were needed. Unless who has the first
        // still waits, and the last of those after him has died.
        let first = sys::open_private(&ticket(path, 0))?;
        if lock::try_exclusive(&first)? {
            sys::write_at(gate, &1_u32.to_le_bytes(), 0)?;
            return Ok(Some((first, None)));
        }
    }
    let own = sys::open_private(&ticket(path, next))?;
    if next < TICKETS {
        lock::wait_exclusive(&own)?; // for microseconds, if somebody looks at it
    } else if !lock::try_exclusive(&own)? {
        return Ok(None); // its last owner still waits
    }
    let before = match next.checked_sub(1) {
        Some(before) => Some(sys::open_private(&ticket(path, before))?),
        None => None,
    };
    sys::write_at(gate, &(next + 1).to_le_bytes(), 0)?;
    Ok(Some((own, before)))
}

/// The number of the next ticket. Garbage is a number too: the line begins anew after it. Asked by who has
/// the gate locked.
fn next_number(gate: &File) -> io::Result<u32> {
    let mut bytes = [0; 4];
    sys::read_at(gate, &mut bytes, 0)?;
    Ok(u32::from_le_bytes(bytes) & (u32::MAX >> 1))
}

fn gate(path: &Path) -> PathBuf {
    path.with_extension("line")
}

fn ticket(path: &Path, number: u32) -> PathBuf {
    path.with_extension(format!("line-{}", number % TICKETS))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::super::slot::tests::temp_slot;
    use super::*;

    #[test]
    fn the_order_is_that_of_the_tickets() {
        let (_dir, path) = temp_slot();
        let slot = try_lock(&path).expect("try").expect("nobody has it");
        let (sender, order) = mpsc::channel();
        thread::scope(|scope| {
            for number in 0..8 {
                let (path, sender) = (&path, sender.clone());
                scope.spawn(move || {
                    let slot = wait_lock(path, || true).expect("wait");
                    assert!(slot.is_some());
                    sender.send(number).expect("nobody listens");
                });
                // The next one comes when this one has his ticket.
                while !slot::is_locked(&ticket(path, number)).expect("look") {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            drop(slot);
        });
        drop(sender);
        assert_eq!(order.iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert!(try_lock(&path).expect("try").is_some(), "nobody is left");
    }

    #[test]
    fn nobody_gets_in_before_who_waits() {
        let (_dir, path) = temp_slot();
        let (own, before) = draw(&path).expect("draw").expect("a ticket");
        assert!(before.is_none());
        assert!(try_lock(&path).expect("try").is_none());
        let (second, before) = draw(&path).expect("draw").expect("a ticket");
        assert!(before.is_some());
        drop((own, second, before));
        // A child of another test has copies of both.
        while try_lock(&path).expect("try").is_none() {}
        while slot::is_locked(&ticket(&path, 0)).expect("look") {}
        let (_own, before) = draw(&path).expect("draw").expect("a ticket");
        assert!(before.is_none(), "the line begins anew");
    }

    #[test]
    fn nobody_gets_in_before_who_is_about_to_wait() {
        let (_dir, path) = temp_slot();
        let gate = sys::open_private(&gate(&path)).expect("the gate");
        lock::wait_exclusive(&gate).expect("lock"); // as in `draw`
        assert!(try_lock(&path).expect("try").is_none());
        lock::unlock(&gate).expect("unlock");
        // A child of another test has copies of the slot.
        while try_lock(&path).expect("try").is_none() {}
        assert!(lock::try_exclusive(&gate).expect("try"), "who looked has let it go");
    }

    /// The first still waits, and the gate is not kept until he does not.
    #[test]
    fn who_comes_after_the_last_has_died_does_not_keep_the_gate() {
        let (_dir, path) = temp_slot();
        let _first = draw(&path).expect("draw").expect("a ticket");
        drop(draw(&path).expect("draw").expect("a ticket"));
        while slot::is_locked(&ticket(&path, 1)).expect("look") {} // a child of another test has copies
        let (sender, drawn) = mpsc::channel();
        let of = path.clone();
        thread::spawn(move || sender.send(draw(&of).expect("draw")));
        let drawn = drawn.recv_timeout(Duration::from_secs(60)).expect("the gate is kept");
        let (own, before) = drawn.expect("a ticket");
        assert!(before.is_some());
        let third = draw(&path).expect("draw").expect("a ticket");
        assert!(third.1.is_some(), "in line after that one");
        drop(own);
    }

    #[test]
    fn more_than_there_are_tickets_for_wait_all_the_same() {
        let (_dir, path) = temp_slot();
        let drawn: Vec<_> = (0..TICKETS).map(|_| draw(&path).expect("draw")).collect();
        assert!(drawn.iter().all(Option::is_some));
        assert!(draw(&path).expect("draw").is_none());
        assert!(wait_lock(&path, || true).expect("wait").is_some(), "the slot is free");
    }

    #[test]
    fn garbage_at_the_gate_does_no_harm() {
        let (_dir, path) = temp_slot();
        for garbage in [&[0xff; 9][..], b"x", &[0; 4096]] {
            std::fs::write(gate(&path), garbage).expect("write");
            assert!(try_lock(&path).expect("try").is_some());
            assert!(wait_lock(&path, || true).expect("wait").is_some());
        }
    }
}
