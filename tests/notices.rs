//! What is said in a test's output of a start that succeeds: what the next reader would ask.
#![cfg(target_os = "linux")] // shells

mod support;

use support::twin::{Twin, table};
use support::{Allotment, child_command, stdout_of};

table! {
    nothing_is_said_of_a_usual_start,
    a_slow_start_says_what_it_waits_for,
    a_port_that_is_not_said_is_said_here,
    a_second_start_without_the_hold_says_why,
}

/// What a process says that starts such a server, and the server's port.
fn all_said_of<S: Twin>(way: &str, script: &str) -> (String, String) {
    let output = child_command(&[S::NAME, "one-start", way, script]).output().unwrap();
    let port = stdout_of(&output);
    (String::from_utf8(output.stderr).unwrap(), port)
}

/// Without what is said because the machine is busy.
fn said_of<S: Twin>(way: &str, script: &str) -> (String, String) {
    let (said, port) = all_said_of::<S>(way, script);
    let lines = said.split_inclusive('\n').filter(|line| !line.contains(" is not ready after "));
    (lines.collect(), port)
}

fn nothing_is_said_of_a_usual_start<S: Twin>() {
    assert_eq!(said_of::<S>("told", "exec \"$0\" serve").0, "");
    // Said before it listens: then it cannot be late.
    let port = Allotment::new();
    let script = format!("echo PORT={0}; exec \"$0\" serve-on 127.0.0.1:{0} alone", port.first);
    assert_eq!(said_of::<S>("reported", &script), (String::new(), port.first.to_string()));
    // Nobody was to say it.
    assert_eq!(said_of::<S>("observed", "exec \"$0\" chooses 1 stdout ''").0, "");
}

fn a_slow_start_says_what_it_waits_for<S: Twin>() {
    let (said, port) = all_said_of::<S>("told", "sleep 5; exec \"$0\" serve");
    let said = said.strip_prefix("server `api` is not ready after ").expect(&said);
    let (seconds, missing) = said.split_once(" s: ").expect(said);
    assert!(seconds.parse::<u32>().unwrap() >= 2, "{said}"); // 2, if nothing is late
    assert!(missing.starts_with(&format!("nothing listens at 127.0.0.1:{port};")), "{said}");
}

fn a_port_that_is_not_said_is_said_here<S: Twin>() {
    for text in ["started", "PORT=0", "PORT=99999"] {
        let (said, port) =
            said_of::<S>("reported", &format!("exec \"$0\" chooses 1 stdout {text}"));
        let expected = format!(
            "server `api` listens on port {port}, and has not said so; that port is taken. It may have \
             to flush its output\n"
        );
        assert_eq!(said, expected, "{text}");
    }
}

fn a_second_start_without_the_hold_says_why<S: Twin>() {
    let (said, port) = said_of::<S>("told", "exec \"$0\" serve-on 127.0.0.1:$PORT exclusive");
    let expected =
        format!("server `api` ended before it was ready on port {port} (exit status: 1)");
    assert!(said.starts_with(&expected), "{said}");
    assert!(said.contains("ddress already in use"), "what it printed: {said}");
    let expected = "it is started once more without the kernel's hold (`Handoff::Release` does so at \
                    once)\n";
    assert!(said.ends_with(expected), "{said}");
}
