//! How often a server cannot have the port that was picked for it, or a test talks to somebody else's.
//!
//! So many processes at once do what a test does: pick a port, start a server that needs 20 to 50 ms until it
//! binds, ask every 5 ms whether it is there and who it is, stop it. All of them pick by the same crate, as on a machine where everybody uses
//! it; the crates take turns, each with the same settings. In none of ours may anything go wrong, in
//! whatever setting: then the exit status is 1.
//!
//! - `start`: one start, and what became of it; `count`: of many.
//! - `setting`: what else goes on: connections of other programs, a second CI job.
//! - `traffic`: those connections.
//! - `round`: the processes of one contestant in one setting.

mod count;
mod round;
mod setting;
mod start;
mod traffic;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use portlease_peers::args::{Args, give_up};
use portlease_peers::picture::Picture;
use portlease_peers::report::Report;
use portlease_peers::table::{Cell, Table};
use portlease_peers::{alone, crew, peers::Peer};

use self::count::Count;
use self::round::Round;
use self::setting::Setting;

const USAGE: &str = "\
How often a picked port is somebody else's by the time the server binds it.

  --processes N   at the same time (32)
  --picks N       of each process, in each setting (200)
  --seconds N     of each contestant in each setting, at most (600)
  --alive N       milliseconds that a server lives on after it was asked (10)
  --time-wait     the servers close first, and their ports stay in TIME_WAIT
  --only NAMES    of contestants, with commas: portlease,portpicker
  --settings N    the first so many: alone, with traffic, with a second job, with both (4)
  --json FILE     the tables once more
  --svg FILE      also measure at 1 to 64 processes, with traffic, and draw that
  --point N       seconds for each point of the picture (10)
  --shared        in this network namespace, not in one of its own";

fn main() -> ExitCode {
    match &crew::own_role().iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => measure(&Args::parse(USAGE)),
        ["start", arguments @ ..] => {
            start::many(arguments);
            ExitCode::SUCCESS
        }
        ["traffic"] => traffic::run(),
        other => give_up(format_args!("no such role: {other:?}")),
    }
}

fn measure(args: &Args) -> ExitCode {
    let alone = !args.has("--shared") && alone::enter();
    let mut report = Report::begin("collisions");
    report.note(alone::note(alone));
    let processes = args.value("--processes", 32);
    let peers = Peer::chosen(args);
    let plan = Round {
        processes,
        picks: args.value("--picks", 200),
        at_most: Duration::from_secs(args.value("--seconds", 600)),
        alive: args.value("--alive", 10),
        time_wait: args.has("--time-wait"),
    };
    let mut ours = Count::default();
    for setting in Setting::all().into_iter().take(args.value("--settings", 4)) {
        let title = format!("{processes} processes, {setting}");
        if let Some(note) = setting.note() {
            report.note(note);
        }
        let mut table = Table::new(title, &COLUMNS);
        for &peer in &peers {
            let count = plan.run(peer, setting);
            if peer.is_ours() {
                ours += count;
            }
            table.row(row(peer, count));
        }
        report.table(table);
    }
    if let Some(path) = args.text("--svg") {
        let point = Duration::from_secs(args.value("--point", 10));
        ours += draw(&mut report, &peers, &Round { at_most: point, picks: u64::MAX, ..plan }, path);
    }
    if let Some(&peer) = peers.iter().find(|peer| peer.is_ours()) {
        let mut table = Table::new("portlease, in all of the above", &COLUMNS);
        table.row(row(peer, ours));
        report.table(table);
    }
    report.end(args);
    if ours.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

const COLUMNS: [&str; 7] =
    ["", "starts", "no port", "not bound", "unanswered", "wrong answers", "failed of 10 000"];

fn row(peer: Peer, count: Count) -> [Cell; 7] {
    [
        peer.name.into(),
        Cell::Count(count.starts),
        Cell::Count(count.no_port),
        Cell::Count(count.not_bound),
        Cell::Count(count.unanswered),
        Cell::Count(count.wrong),
        Cell::Figure(count.failed_of_10_000(), 1),
    ]
}

/// Failures against concurrency. Returns what was ours.
fn draw(report: &mut Report, peers: &[Peer], plan: &Round, path: &str) -> Count {
    let concurrency = [1, 2, 4, 8, 16, 32, 64];
    let categories: Vec<_> = concurrency.iter().map(ToString::to_string).collect();
    let columns: Vec<&str> =
        [""].into_iter().chain(categories.iter().map(String::as_str)).collect();
    let setting = Setting { traffic: true, second_job: false };
    let title = format!("Failed starts of 10 000, by processes at once, {setting}");
    let mut table = Table::new(&title, &columns);
    let mut ours = Count::default();
    let mut lines: Vec<_> = peers.iter().map(|peer| (peer.name.to_owned(), Vec::new())).collect();
    for processes in concurrency {
        for (&peer, (_, values)) in peers.iter().zip(&mut lines) {
            let count = Round { processes, ..*plan }.run(peer, setting);
            values.push(count.failed_of_10_000());
            if peer.is_ours() {
                ours += count;
            }
        }
    }
    for (name, values) in &lines {
        let figures = values.iter().map(|&value| Cell::Figure(value, 1));
        table.row([name.as_str().into()].into_iter().chain(figures));
    }
    report.table(table);
    let (across, upright) = ("processes at once", "failed starts of 10 000");
    let picture = Picture { title: &title, across, upright, categories, lines };
    picture.draw(Path::new(path)).unwrap_or_else(|error| give_up(format_args!("{path}: {error}")));
    ours
}
