//! The directory that a server has for itself.

use std::fs;
#[cfg(unix)]
use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc;

use portlease::{ErrorKind, Ready, Server};

use super::not_asked_for_long;
use super::support::twin::{Twin, table};
use super::support::{child_command, who_answers};

table! {
    a_directory_of_its_own,
    a_directory_that_cannot_be_made_is_an_error,
}

/// A directory for what is rendered and what is kept, with the server until it is gone.
fn a_directory_of_its_own<S: Twin>() {
    let (sender, dirs) = mpsc::channel();
    let server = Server::with(move |ports| {
        sender.send(ports.dir().to_owned()).unwrap();
        let port = ports.write_file("etc/port", ports.main().to_string());
        let mut command = child_command(&["serve-from"]);
        command.arg(port).current_dir(ports.dir());
        command
    });
    let ready = Ready::file("started").and(Ready::when("it is so", |ports| {
        ports.dir().join("started").exists() // as it is for who asks by himself
    }));
    let mut server = S::start(not_asked_for_long(server.ready(ready))).unwrap();
    let dir = dirs.recv().unwrap();
    #[cfg(unix)]
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    let first = server.pid();
    server.restart().unwrap();
    assert_eq!(dirs.recv().unwrap(), dir);
    assert_eq!(who_answers(server.addr()), server.pid());
    let started = fs::read_to_string(dir.join("started")).unwrap();
    assert_eq!(started, format!("{first}\n{}\n", server.pid()));
    server.stop().unwrap();
    assert!(!dir.exists());
}

fn a_directory_that_cannot_be_made_is_an_error<S: Twin>() {
    let builder = Server::with(|ports| {
        ports.write_file("../port", "");
        child_command(&["serve"])
    });
    let error = S::start(builder).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().starts_with("failed to write the server's file "), "{error}");
    assert!(format!("{error:?}").contains("must lead to a file in"), "{error:?}");
}
