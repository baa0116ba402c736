//! Whether a port is leased, as others see it: by the slot's lock, and by binds, which have to be refused.
//!
//! Of the binds, each is exclusive, and of one address, since the hold is on all of both families. One loopback
//! address is of no server here, so that neither a listener nor a connection in TIME_WAIT can refuse its bind:
//! only what is on the wildcard can.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use fs2::FileExt;
use socket2::{Domain, Socket, Type};

use crate::support::table_has;
use crate::talk::Problem;
use crate::trouble::slots;

const ADDRESSES: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)),
    IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::UNSPECIFIED),
];

/// That a stranger does not get `port` on any address, of IPv6 if its holder has that.
pub(crate) fn is_refused(port: u16, has_ipv6: bool) -> Result<(), Problem> {
    for ip in ADDRESSES.into_iter().filter(|ip| has_ipv6 || ip.is_ipv4()) {
        let addr = SocketAddr::new(ip, port);
        match bind(addr) {
            Ok(_) => return Err(format!("{addr} is free for a stranger")),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(_) if is_missing(ip) => {}
            Err(error) => return Err(format!("{addr} is refused to a stranger, but so: {error}")),
        }
    }
    Ok(())
}

/// Whether this machine has no such address.
fn is_missing(ip: IpAddr) -> bool {
    bind(SocketAddr::new(ip, 0)).is_err()
}

fn bind(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?; // IPv4 is asked by itself
    }
    socket.bind(&addr.into())?;
    Ok(socket)
}

/// That somebody has the lock of `port` in the registry at `path`. Shared, so that two who look do not see each
/// other.
pub(crate) fn is_locked(path: &Path, port: u16) -> Result<(), Problem> {
    let slot = slots(path).and_then(|slots| File::open(slots.join(port.to_string())));
    let slot = slot.map_err(|error| format!("{port} has no slot: {error}"))?;
    match FileExt::try_lock_shared(&slot) {
        Ok(()) => Err(format!("the slot of {port} is not locked")),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(format!("the slot of {port} cannot be looked at: {error}")),
    }
}

/// Whether connections to a former user of `port` are in TIME_WAIT.
pub(crate) fn is_in_time_wait(port: u16) -> bool {
    table_has("tcp", "06", port)
}
