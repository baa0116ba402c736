//! Which errors an operation may end with: by its documentation, and by what is amiss.

use portlease::ErrorKind::{self, *};

/// What is amiss where a process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Amiss {
    /// Ports are scarce, no more.
    Nothing,
    /// The registry's directory is damaged, or full.
    Directory,
    /// Anything may fail.
    Anything,
    /// The same, and a server whose harness was killed may listen on a port that another has leased by then.
    Everything,
}

/// The kinds that are documented for `operation`, but `InvalidInput`: what is asked for is right.
fn documented(operation: &str) -> &'static [ErrorKind] {
    match operation {
        "open" => &[Registry], // which takes no descriptor
        "lease" => &[Exhausted, Registry, OutOfDescriptors, Io],
        "exact" => &[PortTaken, PortExcluded, Registry, OutOfDescriptors, Io],
        "bind" => &[Io, OutOfDescriptors],
        "release" => &[Registry],
        "list" => &[Registry, OutOfDescriptors],
        "start" => &[Spawn, Exited, NotReady, Io, OutOfDescriptors],
        "stop" => &[NotStopped],
        "restart" => &[Spawn, Exited, NotReady, Io, OutOfDescriptors, NotStopped],
        "orphans" => &[Io, OutOfDescriptors],
        "reap" => &[Io, OutOfDescriptors, NotStopped],
        other => panic!("no such operation: {other}"),
    }
}

/// Whether `operation` may end with an error of this kind.
pub(crate) fn may_be(operation: &str, kind: &str, amiss: Amiss) -> bool {
    let expected = |kind: &ErrorKind| match amiss {
        Amiss::Nothing => matches!(kind, Exhausted | PortTaken),
        Amiss::Directory => matches!(kind, Exhausted | PortTaken | Registry),
        Amiss::Anything | Amiss::Everything => true,
    };
    let by_a_server = amiss == Amiss::Everything && kind == "PortTaken";
    if by_a_server && matches!(operation, "bind" | "start" | "restart") {
        return true; // which is documented of these too
    }
    let kinds = documented(operation).iter().filter(|kind| expected(kind));
    kinds.into_iter().any(|expected| format!("{expected:?}") == kind)
}
