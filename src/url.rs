//! What clients are given.

use std::net::SocketAddr;

/// `http://127.0.0.1:PORT` with `path`, which may or may not begin with a slash.
pub(crate) fn url(addr: SocketAddr, path: &str) -> String {
    let path = path.strip_prefix('/').unwrap_or(path);
    format!("http://{addr}/{path}")
}
