//! What can be asked of a lease. Configuration only: `acquire` does the work.

use std::env;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Lease, acquire};
use crate::error::{Error, ErrorKind, Result};
use crate::range::{PortSet, parse_port};
use crate::registry::Registry;

/// Asks for leases. Made by [`Lease::builder`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use portlease::Lease;
///
/// // A program whose port cannot be changed: its tests wait for each other, across processes.
/// # let lease = portlease::lease()?; let fixed = lease.port(); drop(lease);
/// let lease = Lease::builder().exact(fixed).wait(Duration::from_secs(60)).lease()?;
///
/// // Four consecutive ports for a cluster.
/// let nodes = Lease::builder().label("cluster").lease_block(4)?;
/// assert_eq!(nodes[0].port() + 3, nodes[3].port());
/// # Ok::<(), portlease::Error>(())
/// ```
#[must_use = "a builder takes no port; finish it with `lease()`, `lease_many(n)`, `lease_block(n)` \
              or `lease_exact(ports)`"]
#[derive(Clone, Debug, Default)]
pub struct LeaseBuilder {
    registry: Option<Registry>,
    range: Option<RangeInclusive<u16>>,
    exact: Option<u16>,
    variable: Option<String>,
    udp: bool,
    label: Option<String>,
    wait: Duration,
}

impl LeaseBuilder {
    pub(super) fn new() -> LeaseBuilder {
        LeaseBuilder::default()
    }

    /// Asks for exactly this port.
    ///
    /// It is leased at once even if connections of its last server are still in TIME_WAIT, and even
    /// if it was released a moment ago. If another test has it, the error says which; with
    /// [`wait`](LeaseBuilder::wait), the call waits in line for it.
    pub fn exact(mut self, port: u16) -> Self {
        self.exact = Some(port);
        self
    }

    /// Lets the environment variable `name` ask for an exact port: if it is set, that port; if it
    /// is not, any.
    ///
    /// A value that is not a port number is an error, an empty one too. Goes before
    /// [`exact`](LeaseBuilder::exact).
    pub fn from_env(mut self, name: impl Into<String>) -> Self {
        self.variable = Some(name.into());
        self
    }

    /// Also checks that no UDP socket is bound to the port. The number is leased for TCP and UDP
    /// in any case.
    pub fn udp(mut self) -> Self {
        self.udp = true;
        self
    }

    /// Leases from this range instead of the registry's. It is used as it stands, and without effect
    /// on exact ports.
    pub fn range(mut self, ports: RangeInclusive<u16>) -> Self {
        self.range = Some(ports);
        self
    }

    /// A word for humans, on record and in the errors of those who find the port taken.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Waits so long for what is not free now.
    ///
    /// The default is not to wait, but for what may be over in a moment: a port that is in use is
    /// tried again for 200 ms, and for 5 s if it was leased within the last 10 s.
    ///
    /// Who waits for an exact port gets it in turn, across the processes that share the registry
    /// (the first 256; who comes then waits out of order). Who waits for any port looks again from
    /// time to time.
    ///
    /// Ports that are waited for in one call ([`lease_exact`](LeaseBuilder::lease_exact)) cannot
    /// deadlock, in whatever order. Across calls they can: take them in ascending order. If the
    /// wait is in vain, the error names what this process holds meanwhile.
    ///
    /// # What this does not guarantee
    ///
    /// After a wait in vain for a lease, one thread of this process stays in line for that port
    /// until it gets it (and lets it go at once): a blocked `flock` cannot be called off.
    pub fn wait(mut self, at_most: Duration) -> Self {
        self.wait = at_most;
        self
    }

    /// Leases from this registry instead of the process-wide one.
    pub fn registry(mut self, registry: &Registry) -> Self {
        self.registry = Some(registry.clone());
        self
    }

    /// Takes one port.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Exhausted`]: no port of the range is free.
    /// - [`ErrorKind::PortTaken`]: the exact port is leased (the message says by whom), or in use
    ///   by a program that did not lease it, also after the wait.
    /// - [`ErrorKind::PortExcluded`]: the system does not let this process bind the exact port.
    /// - [`ErrorKind::InvalidInput`]: the range is empty or contains 0, the exact port is 0, or the
    ///   variable's value is not a port.
    /// - [`ErrorKind::Registry`]: the registry's directory, or the port's slot, cannot be used.
    /// - [`ErrorKind::OutOfDescriptors`]: a lease takes two, on Linux.
    /// - [`ErrorKind::Io`]: the kernel refuses a socket for another reason.
    pub fn lease(self) -> Result<Lease> {
        let taken = match self.exact_port()? {
            Some(port) => self.request()?.exact(&[port])?,
            None => self.request()?.many(1)?,
        };
        taken.into_iter().next().ok_or_else(|| {
            Error::new(ErrorKind::Io, "no port was leased where one was asked for") // cannot be
        })
    }

    /// Takes `count` ports: all of them, or none.
    ///
    /// # Errors
    ///
    /// As [`lease`](LeaseBuilder::lease); [`ErrorKind::InvalidInput`] also with
    /// [`exact`](LeaseBuilder::exact) or [`from_env`](LeaseBuilder::from_env), and if the range does
    /// not have so many ports. None at all, `count` 0, is none.
    pub fn lease_many(self, count: usize) -> Result<Vec<Lease>> {
        self.no_exact_port("lease_many")?;
        self.request()?.many(count)
    }

    /// Takes `count` consecutive ports: all of them, or none.
    ///
    /// # Errors
    ///
    /// As [`lease_many`](LeaseBuilder::lease_many).
    pub fn lease_block(self, count: u16) -> Result<Vec<Lease>> {
        self.no_exact_port("lease_block")?;
        self.request()?.block(count)
    }

    /// Takes exactly these ports, in this order: all of them, or none.
    ///
    /// Never waits for one while it holds another, so two callers that want the same ports in
    /// different orders do not deadlock.
    ///
    /// # Errors
    ///
    /// As [`lease`](LeaseBuilder::lease); [`ErrorKind::InvalidInput`] also if a port is named twice,
    /// and with [`exact`](LeaseBuilder::exact) or [`from_env`](LeaseBuilder::from_env).
    pub fn lease_exact(self, ports: &[u16]) -> Result<Vec<Lease>> {
        self.no_exact_port("lease_exact")?;
        let mut sorted = ports.to_vec();
        sorted.sort_unstable();
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(invalid(format!("port {} is asked for twice in one call", twice[0])));
        }
        if ports.contains(&0) {
            return Err(invalid("port 0 cannot be leased: it stands for \"any\""));
        }
        self.request()?.exact(ports)
    }

    fn exact_port(&self) -> Result<Option<u16>> {
        let asked = self.variable.as_ref().and_then(|name| Some((name, env::var_os(name)?)));
        match (asked, self.exact) {
            (Some((name, value)), _) => match value.to_str().and_then(parse_port) {
                Some(port) => Ok(Some(port)),
                None => Err(invalid(format!(
                    "the environment variable {name} is {value:?}, which is not a port from 1 to \
                     65535; correct it, or unset it for any free port"
                ))),
            },
            (None, Some(0)) => Err(invalid("port 0 cannot be leased: it stands for \"any\"")),
            (None, exact) => Ok(exact),
        }
    }

    fn no_exact_port(&self, method: &str) -> Result<()> {
        if self.exact.is_some() || self.variable.is_some() {
            return Err(invalid(format!(
                "`{method}` goes without `exact` and `from_env`; those ask for one port, by \
                 `lease()`"
            )));
        }
        Ok(())
    }

    fn request(self) -> Result<acquire::Request> {
        let registry = match self.registry {
            Some(registry) => registry,
            None => Registry::global()?,
        };
        let range = match self.range {
            Some(range) if range.is_empty() || *range.start() == 0 => {
                return Err(invalid(format!(
                    "ports cannot be leased from the range {}-{}: it needs a lower and an upper \
                     port, both from 1 to 65535",
                    range.start(),
                    range.end()
                )));
            }
            range => range.map(PortSet::from),
        };
        let Self { udp, label, wait, .. } = self;
        Ok(acquire::Request { registry, range, udp, label, wait })
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}
