//! What a dependency costs who takes it: crates, and the time of a clean build with default features.
//!
//! Each crate is built as the only dependency of an empty one, from sources that are there already, into a
//! directory of its own. They take turns, so that a change of the machine's speed hits all of them. None is built
//! incrementally: cargo does that with what comes from a path, as ours does, and not with what comes from crates.io.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use portlease_peers::args::{Args, give_up};
use portlease_peers::percentiles::Percentiles;
use portlease_peers::report::Report;
use portlease_peers::table::{Cell, Table};
use portlease_peers::{cpu, crew};

const USAGE: &str = "\
What a dependency costs: crates, and seconds of a clean build. Needs the crates.io registry.

  --rounds N      of builds (5)
  --only NAMES    with commas
  --json FILE     the table once more";

/// As a manifest names them.
fn dependencies() -> [(&'static str, String); 6] {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let any = || "\"*\"".to_owned();
    [
        ("portlease", format!("{{ path = {:?} }}", ours.display().to_string())),
        ("portpicker", any()),
        ("reserve-port", any()),
        ("duct", any()),
        // Without one of its two front ends, it is empty.
        ("process-wrap", "{ version = \"*\", features = [\"std\"] }".to_owned()),
        ("testcontainers", any()),
    ]
}

/// An empty crate with one dependency.
#[derive(Debug)]
struct Dependent {
    dir: PathBuf,
    version: String,
    /// That are in the program in the end, and that are built for it: build scripts and macros, too.
    crates: [u64; 2],
    /// Seconds, by the clock and of the processors.
    times: [Vec<f64>; 2],
}

fn main() {
    let args = Args::parse(USAGE);
    let mut report = Report::begin("cost");
    let base = crew::scratch();
    let chosen = args.text("--only").map(|names| names.split(',').collect::<Vec<_>>());
    let is_chosen = |name: &str| chosen.as_ref().is_none_or(|names| names.contains(&name));
    let mut dependents: Vec<_> = dependencies()
        .iter()
        .filter(|(name, _)| is_chosen(name))
        .map(|(name, source)| Dependent::create(base.path(), name, source))
        .collect();
    for round in 0..args.value("--rounds", 5) {
        for dependent in &mut dependents {
            eprintln!("round {round}: {}", dependent.version);
            dependent.build();
        }
    }
    let columns = ["", "crates", "built, with macros", "seconds", "fastest", "CPU seconds"];
    let mut table = Table::new("A clean build with default features, median", &columns);
    for Dependent { version, crates, times: [wall, cpu], .. } in dependents {
        let fastest = wall.iter().copied().fold(f64::INFINITY, f64::min);
        let [wall, cpu] = [wall, cpu].map(|times| Percentiles::of(times).p50);
        let seconds = [wall, fastest, cpu].map(|seconds| Cell::Figure(seconds, 1));
        table.row([Cell::Text(version)].into_iter().chain(crates.map(Cell::Count)).chain(seconds));
    }
    report.table(table);
    report.end(&args);
}

impl Dependent {
    fn create(base: &Path, name: &str, source: &str) -> Dependent {
        let dir = base.join(name);
        fs::create_dir_all(dir.join("src")).expect("a directory");
        let package = "[package]\nname = \"dependent\"\nversion = \"0.0.0\"\nedition = \"2024\"";
        let manifest = format!("{package}\n[dependencies]\n{name} = {source}\n[workspace]\n");
        fs::write(dir.join("Cargo.toml"), manifest).expect("a file");
        fs::write(dir.join("src/lib.rs"), "").expect("a file");
        cargo(&dir, &["fetch", "--quiet"]);
        let normal = tree(&dir, "normal,no-proc-macro");
        let all = tree(&dir, "normal,build");
        let is_it = |line: &&String| line.split(' ').next() == Some(name);
        let version = normal.iter().find(is_it).cloned().unwrap_or_else(|| name.to_owned());
        let crates = [normal.len(), all.len()].map(|count| count as u64);
        Dependent { dir, version, crates, times: Default::default() }
    }

    fn build(&mut self) {
        let target = self.dir.join("target");
        let (start, before) = (Instant::now(), cpu::used());
        cargo(&self.dir, &["build", "--quiet", "--offline"]);
        self.times[0].push(start.elapsed().as_secs_f64());
        self.times[1].push((cpu::used() - before).as_secs_f64()); // nearly nothing of it is our own
        fs::remove_dir_all(target).expect("a directory that can be removed");
    }
}

/// The crates that `dir` depends on, each once.
fn tree(dir: &Path, edges: &str) -> BTreeSet<String> {
    let arguments = ["tree", "--offline", "--prefix", "none", "-e", edges];
    let output = cargo(dir, &arguments);
    let words = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    output.lines().skip(1).filter(|line| !line.is_empty()).map(words).collect()
}

fn cargo(dir: &Path, arguments: &[&str]) -> String {
    // An hour at most; and Ctrl-C reaches cargo as if it had been started without.
    let mut command = Command::new("timeout");
    command.args(["--foreground", "--kill-after=10", "3600", "cargo"]);
    command.args(arguments).current_dir(dir).stderr(Stdio::inherit());
    // What `cargo run` and CI set for this program is not of the user's build.
    for variable in ["RUSTFLAGS", "CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"] {
        command.env_remove(variable);
    }
    command.env("CARGO_INCREMENTAL", "0");
    let output = command.output().unwrap_or_else(|error| give_up(format_args!("cargo: {error}")));
    if !output.status.success() {
        give_up(format_args!("cargo {arguments:?}: {}", output.status));
    }
    String::from_utf8_lossy(&output.stdout).into_owned()
}
