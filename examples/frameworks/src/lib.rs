//! What the tests of this package have in common: an application that greets.

use axum::Router;
use axum::extract::Path;
use axum::routing::get;

/// The application under test: run inside the test by `tests/axum_in_process.rs`, and by `src/bin/web.rs`
/// as a program.
pub fn app() -> Router {
    Router::new().route("/healthz", get(|| async { "ok" })).route("/hello/{name}", get(hello))
}

async fn hello(Path(name): Path<String>) -> String {
    format!("hello, {name}")
}

/// The guide's code is compiled here, where its frameworks are to be had.
#[cfg(doctest)]
#[doc = include_str!("../../../src/guide/frameworks.md")]
struct Guide;
