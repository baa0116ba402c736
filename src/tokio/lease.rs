//! Waiting for leases.

use super::job;
use crate::error::Result;
use crate::lease::{Lease, LeaseBuilder};

/// Takes one port, as [`LeaseBuilder::lease`], and awaits what that waits for.
///
/// Only worth it with [`LeaseBuilder::wait`]; without, a lease takes a few system calls.
///
/// # Errors
///
/// As [`LeaseBuilder::lease`]; and [`ErrorKind::Io`](crate::ErrorKind::Io): no thread can be started.
///
/// # Cancel safety
///
/// A port that comes after this was dropped is freed at once. Until then, at most for the time of
/// [`wait`](LeaseBuilder::wait), the place in line is kept.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use portlease::Lease;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> portlease::Result<()> {
/// # let lease = portlease::lease()?; let fixed = lease.port(); drop(lease);
/// let builder = Lease::builder().exact(fixed).wait(Duration::from_secs(60));
/// let lease = portlease::tokio::lease(builder).await?;
/// # Ok(())
/// # }
/// ```
pub async fn lease(builder: LeaseBuilder) -> Result<Lease> {
    job::run(|_| builder.lease()).await?
}

/// The same for several ports, as [`LeaseBuilder::lease_many`].
///
/// # Errors
///
/// As there; and [`ErrorKind::Io`](crate::ErrorKind::Io): no thread can be started.
///
/// # Cancel safety
///
/// As [`lease`].
pub async fn lease_many(builder: LeaseBuilder, count: usize) -> Result<Vec<Lease>> {
    job::run(move |_| builder.lease_many(count)).await?
}

/// The same for consecutive ports, as [`LeaseBuilder::lease_block`].
///
/// # Errors
///
/// As there; and [`ErrorKind::Io`](crate::ErrorKind::Io): no thread can be started.
///
/// # Cancel safety
///
/// As [`lease`].
pub async fn lease_block(builder: LeaseBuilder, count: u16) -> Result<Vec<Lease>> {
    job::run(move |_| builder.lease_block(count)).await?
}

/// The same for exactly these ports, as [`LeaseBuilder::lease_exact`].
///
/// # Errors
///
/// As there; and [`ErrorKind::Io`](crate::ErrorKind::Io): no thread can be started.
///
/// # Cancel safety
///
/// As [`lease`].
pub async fn lease_exact(builder: LeaseBuilder, ports: &[u16]) -> Result<Vec<Lease>> {
    let ports = ports.to_vec();
    job::run(move |_| builder.lease_exact(&ports)).await?
}
