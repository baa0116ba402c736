//! Where the registry is, and what is said of a port.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};

use portlease::{ErrorKind, Registry};

use super::support::{OwnRegistry, child_command, stdout_of};

#[test]
fn a_directory_whose_parent_is_missing_is_created_with_it() {
    let dir = tempfile::tempdir().unwrap();
    Registry::open(dir.path().join("a/b/c")).unwrap();
    let blocked = dir.path().join("file");
    fs::write(&blocked, "").unwrap();
    let error = Registry::open(blocked.join("registry")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Registry);
    assert!(error.to_string().starts_with("failed to create "), "{error}");
}

#[test]
fn a_place_from_the_environment() {
    let own = OwnRegistry::new();
    let mut command = child_command(&["try"]);
    command.current_dir(own.dir.path()).env("PORTLEASE_DIR", "relative/dir");
    assert!(stdout_of(&command.output().unwrap()).starts_with("leased 2"));
    assert!(own.dir.path().join("relative/dir").is_dir());
}

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
