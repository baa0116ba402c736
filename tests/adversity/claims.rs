//! Who says to have which port: a witness of its own, which asks neither the library nor the kernel.
//!
//! A process keeps what it says to have until it is answered. So a claim stands from when it is heard until just
//! before the answer, and two that stand at once are two holders. But who was killed has nothing from that moment
//! on, and a kill may come at any moment: so a claim of who is doomed is no proof, except that of a server, whose
//! port is leased for as long as the server lives.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::plot::Victim;
use crate::support::lives;
use crate::talk::Problem;

/// By port number: a lease is one for TCP and UDP alike.
#[derive(Default)]
pub(crate) struct Claims(Mutex<HashMap<u16, Claim>>);

struct Claim {
    by: Arc<Victim>,
    /// Who has the port, if `by` was killed.
    server: Option<u32>,
}

impl Claim {
    /// A server has closed its sockets when it no longer lives, and its port may be leased only then. Its
    /// number is not another's so soon.
    fn stands(&self) -> bool {
        !self.by.is_doomed() || self.server.is_some_and(lives)
    }
}

impl Claims {
    /// A problem if another has claimed it, unless `by` was killed before it was heard.
    pub(crate) fn claim(
        &self,
        port: u16,
        by: &Arc<Victim>,
        server: Option<u32>,
    ) -> Result<(), Problem> {
        let mut all = self.lock();
        if let Some(other) = all.get(&port).filter(|claim| claim.stands()) {
            let (pid, server) = (other.by.pid, other.server);
            return Err(format!(
                "{port} has two holders: it, and {pid} with the server {server:?}"
            ));
        }
        all.insert(port, Claim { by: Arc::clone(by), server });
        Ok(())
    }

    /// `by` is about to go on, or nothing of it is left.
    pub(crate) fn give_up(&self, by: &Arc<Victim>) {
        self.lock().retain(|_, claim| !Arc::ptr_eq(&claim.by, by));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u16, Claim>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
