//! Whether a server is ready.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A connection to a loopback address is made or refused at once, unless the backlog is full.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(200);

/// Whether somebody accepts connections at `addr`.
///
/// A connection whose ends are the same is the kernel's answer to a poll of a closed ephemeral
/// port: it had chosen that very port for our end.
pub(super) fn accepts(addr: SocketAddr) -> bool {
    TcpStream::connect_timeout(&addr, CONNECT_TIMEOUT).is_ok_and(|stream| {
        let local = stream.local_addr();
        local.is_ok_and(|local| local != addr)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_accepts_and_a_closed_port_does_not() {
        let lease = crate::lease().expect("lease");
        assert!(!accepts(lease.addr()));
        let _listener = lease.bind().expect("listen");
        assert!(accepts(lease.addr()));
    }
}
