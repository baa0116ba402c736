//! What servers print, what they read, and where it goes.

use std::fs;
use std::io::Write;
use std::time::Duration;

use portlease::{ErrorKind, Signal, Stream};

use super::server;
use super::support::twin::{Twin, table};
use super::support::{DEADLINE, child_command, stdout_of};

table! {
    lines_are_waited_for,
    the_output_is_copied_to_a_directory,
    a_panic_prints_the_last_of_the_output,
    the_standard_input_is_empty_or_a_pipe,
}

fn lines_are_waited_for<S: Twin>() {
    let server = S::start(server(&["say-and-serve"])).unwrap();
    let line = server.wait_for_line("two", DEADLINE).unwrap();
    assert_eq!((line.text(), line.stream()), ("two", Stream::Stderr));
    server.wait_for_line("serving", DEADLINE).unwrap();
    let line = server.wait_for_line_where("of five letters", DEADLINE, |line| line.len() == 5);
    assert_eq!(line.unwrap().text(), "three");
    let of = |stream| {
        let lines = server.lines().into_iter().filter(move |line| line.stream() == stream);
        lines.map(|line| line.text().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of(Stream::Stdout), ["one", "three"]);
    assert_eq!(of(Stream::Stderr), ["two", "serving"]);
    assert!(server.lines().windows(2).all(|pair| pair[0].at() <= pair[1].at()));

    let error = server.wait_for_line("never", Duration::from_millis(50)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady);
    assert!(error.to_string().contains("no line that contains \"never\": none came within 0.1 s"));
    server.signal(Signal::Kill).unwrap();
    let error = server.wait_for_line("never", DEADLINE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exited);
    assert!(error.to_string().contains("its output ended without one"), "{error}");
    assert!(error.output().unwrap().contains("serving\n"));
}

fn the_output_is_copied_to_a_directory<S: Twin>() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = child_command(&[S::NAME, "one-server", "stop"]);
    let logs = dir.path().join("a/b");
    stdout_of(&command.env("PORTLEASE_LOG_DIR", &logs).output().unwrap());
    let entries: Vec<_> = fs::read_dir(&logs).unwrap().map(Result::unwrap).collect();
    assert_eq!(entries.len(), 1);
    let name = entries[0].file_name().into_string().unwrap();
    assert!(name.starts_with("a_b__c-") && name.ends_with(".log"), "{name}");
    assert_eq!(fs::read_to_string(entries[0].path()).unwrap(), "serving\n");

    let no_directory = entries[0].path().join("x");
    let output = command.env("PORTLEASE_LOG_DIR", &no_directory).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let expected = format!(
        "Io: failed to copy the output of server `a/b: c` to {}, which PORTLEASE",
        no_directory.display()
    );
    assert!(stderr.contains(&expected), "{stderr}");
}

fn a_panic_prints_the_last_of_the_output<S: Twin>() {
    let fates = [
        "panic",
        "panic-static",
        #[cfg(feature = "tokio")]
        "panic-inside",
    ];
    for fate in fates {
        let output = child_command(&[S::NAME, "one-server", fate]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let (before, after) = stderr.split_once("server `a/b: c` on port ").expect(&stderr);
        assert!(before.contains("panicked at") && !before.contains("serving"), "{stderr}");
        assert!(after.contains(", the last it printed:\n  serving\n"), "{stderr}");
        assert!(!after.contains("server `"), "only once: {stderr}");
    }
    let output = child_command(&[S::NAME, "one-server", "stop"]).output().unwrap();
    assert!(output.stderr.is_empty(), "without a panic, nothing");
}

fn the_standard_input_is_empty_or_a_pipe<S: Twin>() {
    let (empty, pipe) = (server(&["read-and-serve"]), server(&["read-and-serve"]).pipe_stdin());
    let mut server = S::start(empty).unwrap();
    server.wait_for_line("got \"\"", DEADLINE).unwrap();
    assert!(server.take_stdin().is_none());
    let mut server = S::start(pipe).unwrap();
    let mut stdin = server.take_stdin().unwrap();
    stdin.write_all(b"a line\n").unwrap();
    server.wait_for_line("got \"a line\\n\"", DEADLINE).unwrap();
    assert!(server.take_stdin().is_none());
}
