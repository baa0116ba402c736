//! A process that has a socket: what can be told of it.

use crate::cookie::{Cookie, World};
use crate::diagnosis::{Owner, Role};
use crate::sys::{self, ProcessId, Service};
use crate::text;

/// How much of a command line is kept.
const MAX_COMMAND: usize = 200;

/// Programs that serve a port for a container.
const PROXIES: [&str; 7] =
    ["docker-proxy", "rootlessport", "rootlesskit", "conmon", "slirp4netns", "pasta", "passt"];

/// What is told of a process; some of it may be gone meanwhile.
pub(super) fn describe(id: ProcessId) -> Owner {
    let name = sys::process_name(id.pid).unwrap_or_default();
    let arguments = sys::process_arguments(id.pid).unwrap_or_default().join(" ");
    let uid = sys::process_uid(id.pid);
    Owner {
        pid: id.pid,
        role: role(id.pid, &name),
        name: text::printable(&name).into_owned(),
        command: text::printable(&arguments).chars().take(MAX_COMMAND).collect(),
        uid,
        user: uid.and_then(sys::user_name),
        age: sys::process_age(id),
    }
}

fn role(pid: u32, name: &str) -> Role {
    let own = std::process::id();
    if pid == own {
        return Role::Ourselves;
    }
    let cookie = Cookie::of(pid).filter(|cookie| {
        // One that we carry ourselves says nothing: all that we start does too.
        World::own().is_some_and(|world| cookie.is_of(&world))
            && Cookie::of(own).as_ref() != Some(cookie)
    });
    if let Some(Cookie { harness, .. }) = cookie {
        return match sys::may_live(harness) {
            true => Role::Server { harness: harness.pid },
            false => Role::Orphan { harness: harness.pid },
        };
    }
    if PROXIES.iter().any(|proxy| name.starts_with(proxy)) {
        return Role::ContainerProxy;
    }
    // A CI runner may be a service itself, and all that it runs.
    let unit =
        sys::process_service(pid).filter(|unit| sys::process_service(own).as_ref() != Some(unit));
    match unit {
        Some(Service { unit, is_users: false }) => Role::Service { unit },
        Some(Service { unit, is_users: true }) => Role::UserService { unit },
        None => Role::Other,
    }
}
