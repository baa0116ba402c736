//! What is said of a port.

use std::net::{Ipv4Addr, TcpListener};

use super::support::{OwnRegistry, child_command, stdout_of};

#[test]
fn what_somebody_listens_on_is_not_free() {
    let own = OwnRegistry::new();
    let lease = own.request().lease().unwrap();
    assert!(portlease::check([lease.addr()])[0].is_free(), "our own lease");
    let _listener = lease.bind().unwrap();
    assert!(!portlease::check([lease.addr()])[0].is_free());
}

#[test]
fn a_port_that_is_in_use_is_not_called_free() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let diagnosis = portlease::diagnose(port);
    assert!(!diagnosis.is_free(), "{diagnosis}");
    assert!(diagnosis.to_string().starts_with(&format!("port {port} is in use\n")), "{diagnosis}");
    drop(listener);
    let free = stdout_of(&child_command(&["diagnose", &port.to_string()]).output().unwrap());
    assert!(free.starts_with("Free"), "{free}");
}
