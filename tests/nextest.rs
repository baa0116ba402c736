//! What nextest says of tests that end with a server, in whatever way.
#![cfg(target_os = "linux")] // counts by `/proc`

mod support;

use std::env;
use std::fs;
use std::process::Command;

use support::{MARK, OwnRegistry, nothing_is_left, unique_mark};

const CONFIG: &str = r#"
[profile.default]
leak-timeout = "1s"

[[profile.default.overrides]]
filter = "test(hangs)"
slow-timeout = { period = "5s", terminate-after = 1 }
"#;

#[test]
#[ignore = "needs cargo-nextest"]
fn no_test_leaks_its_server() {
    let own = OwnRegistry::new();
    let mark = unique_mark();
    let config = own.dir.path().join("nextest.toml");
    fs::write(&config, CONFIG).unwrap();
    let mut nextest = Command::new(env!("CARGO"));
    nextest.args(["nextest", "run", "--test", "victims", "--run-ignored", "only"]);
    if cfg!(feature = "tokio") {
        nextest.args(["--features", "tokio"]);
    }
    nextest.args(["--no-fail-fast", "--status-level", "all", "--final-status-level", "none"]);
    nextest.args(["--success-output", "immediate", "--failure-output", "immediate"]);
    nextest.args(["--color", "never", "--profile", "default", "--config-file"]).arg(config);
    // What these tests were built into, so that little is built anew.
    let target = env::current_exe().unwrap();
    nextest.arg("--target-dir").arg(target.ancestors().nth(3).unwrap());
    // Nextest may be who runs this test, too.
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("NEXTEST") {
            nextest.env_remove(name);
        }
    }
    own.lend_to(&mut nextest);
    let output = nextest.env(MARK, &mark).output().unwrap();
    let report = String::from_utf8_lossy(&output.stderr);

    let of = |victim: &str| {
        // `    PASS [   0.012s] (1/8) portlease::victims drops_a_server`
        let end = format!(" portlease::victims {victim}");
        let mut lines = report.lines().filter(|line| line.ends_with(&end));
        let line = lines.next_back().unwrap_or_else(|| panic!("no {victim}: {report}"));
        line.split('[').next().unwrap().trim().to_owned()
    };
    let mut expected = vec![
        ("passes_with_a_server_in_a_static", "PASS"),
        ("drops_a_server", "PASS"),
        ("panics_with_a_server", "FAIL"),
        ("panics_with_a_server_in_a_static", "FAIL"),
        ("exits_with_a_server", "PASS"),
        ("aborts_with_a_server", "SIGABRT"),
        ("hangs_with_a_server", "TIMEOUT"),
        ("leaks_its_output", "LEAK"),
    ];
    if cfg!(feature = "tokio") {
        expected.push(("drops_an_awaited_server", "PASS"));
    }
    for &(victim, status) in &expected {
        assert_eq!(of(victim), status, "{victim}: {report}");
    }
    let served = report.matches("serving on").count();
    assert_eq!(served, expected.len() - 1, "each but the one that leaks had one: {report}");
    nothing_is_left(&own, &mark);
}
