//! When a server is ready, in each way that can be asked for.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use portlease::{ErrorKind, Ready, ServerBuilder};

use super::support::twin::{Twin, table};
use super::support::{child_command, child_path};
use super::told;

table! {
    what_is_ready,
    what_is_never_ready,
}

/// Serves, says that it is warm, and makes the file a bit later.
fn warms_up(file: &Path) -> ServerBuilder {
    let mut command = child_command(&["serve-and-warm-up"]);
    command.arg(file);
    told(command)
}

fn what_is_ready<S: Twin>() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ready");
    let path = file.clone();
    for ready in [
        Ready::listening(),
        Ready::connects(),
        Ready::at_once(),
        Ready::http("/"),
        Ready::http_status("/", 200).and(Ready::line("is warm")),
        Ready::line_where("that ends so", |line| line.ends_with("warm")),
        Ready::file(&file),
        Ready::command(move |_| child_command(&["exists", path.to_str().unwrap()])),
        Ready::command(|ports| child_command(&["connect", &ports.main().to_string()])),
        Ready::when("the port is known", |ports| ports.main() > 0),
    ] {
        let _ = fs::remove_file(&file);
        let shown = format!("{ready:?}");
        let _server = S::start(warms_up(&file).ready(ready)).unwrap();
        assert!(file.exists() || !shown.contains("File"), "{shown}");
    }
}

fn what_is_never_ready<S: Twin>() {
    let dir = tempfile::tempdir().unwrap();
    let (file, none) = (dir.path().join("ready"), dir.path().join("none"));
    let never = &|ready: Ready, expected: &str| {
        let builder = warms_up(&file).ready(ready).start_timeout(Duration::from_secs(3));
        let error = S::start(builder).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotReady);
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    };
    let pigs_fly = Ready::when("pigs fly", |_| false);
    let no_file = format!("there is no {}", none.display());
    let fails = format!("the command {:?} ", child_path());
    thread::scope(|scope| {
        for (ready, expected) in [
            (Ready::http_status("/", 204), "/: status 200, not 204"),
            (Ready::line("cold"), "it has not printed a line that contains \"cold\""),
            (Ready::file(&none), &no_file),
            (Ready::command(|_| child_command(&["exit", "3"])), &fails),
            (Ready::listening().and(pigs_fly), "it is not so that pigs fly"),
        ] {
            scope.spawn(move || never(ready, expected));
        }
    });
}
