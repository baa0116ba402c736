//! Guides, each for one question. What an item does to the letter stands in its own documentation.
//!
//! - [`ways`]: which way to agree on a port fits your server.
//! - [`ci`]: nextest, several jobs on one host, containers, timeouts, logs to keep.
//! - [`frameworks`]: axum, hyper, tonic; rstest; a server that tests share; nextest.
//! - [`fixed_port`]: programs whose port cannot be changed.
//! - [`docker`]: servers in containers, with a port of the host.
//! - [`coming_from`]: portpicker, reserve-port, port_check, `bind(0)` and drop; freeport and portserver.
//! - [`platforms`]: what is promised on Linux, macOS, FreeBSD and Windows, and how that was proved.
//! - [`troubleshooting`]: what a failure looks like, what to look at, what to do.

#[doc = include_str!("guide/ways.md")]
pub mod ways {}

#[doc = include_str!("guide/ci.md")]
pub mod ci {}

/// Servers written with axum, hyper or tonic; fixtures of rstest; a server that tests share; nextest.
// Its code is compiled, and run, by the package that has these: `examples/frameworks`.
#[cfg_attr(not(doctest), doc = "")]
#[cfg_attr(not(doctest), doc = include_str!("guide/frameworks.md"))]
pub mod frameworks {}

#[doc = include_str!("guide/fixed_port.md")]
pub mod fixed_port {}

#[doc = include_str!("guide/docker.md")]
pub mod docker {}

#[doc = include_str!("guide/coming_from.md")]
pub mod coming_from {}

#[doc = include_str!("guide/platforms.md")]
pub mod platforms {}

#[doc = include_str!("guide/troubleshooting.md")]
pub mod troubleshooting {}
