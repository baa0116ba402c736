//! A diagnosis in words. Pure.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::{Cause, Diagnosis, Owner, Role, Socket, SocketState, Unseen};
use crate::sys;

/// What to do about what this very test has.
const DROP: &str = "drop the lease, or the server, that has it";

/// What to do about what cannot be looked at for want of a descriptor.
const MORE_DESCRIPTORS: &str = "raise the limit of open files (`ulimit -n`), or close some";

/// `port 5432 is in use ...`, a line for each thing that was seen, and the next step.
impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port {} is {}", self.port, self.summary())?;
        self.lines().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

impl Diagnosis {
    /// What completes "it is".
    pub(crate) fn summary(&self) -> String {
        let text = match self.cause() {
            Cause::Listening => "in use",
            Cause::Leased => "leased",
            // Only that a bind was refused is known.
            Cause::Bound if self.blind.is_some() => "in use",
            Cause::Bound => "bound by somebody who does not listen",
            Cause::Connected => "one end of a connection",
            Cause::Udp => "in use by UDP",
            Cause::NotPermitted => "not to be bound by this process",
            Cause::TimeWait => "free for a server that sets SO_REUSEADDR, and for no other yet",
            Cause::Free => "free",
            Cause::Unknown => {
                let why = self.blind.as_ref().map_or("unknown why", |blind| &blind.why);
                return format!("not to be looked at: {why}");
            }
        };
        text.to_owned()
    }

    /// What was seen, and at last what to do, if there is anything.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> {
        let lease = self.lease.as_ref().map(|lease| {
            if lease.holder.pid().is_none() {
                return "locked by somebody who has not written who he is: he looks at it, or waits \
                        for it too"
                    .to_owned();
            }
            let own = if lease.is_ours { "this very process, " } else { "" };
            let gone = match lease.lives {
                Some(false) => ", which is gone, or in another container",
                _ => "",
            };
            format!("leased by {own}{}{gone}", lease.holder)
        });
        let blind = self.blind.as_ref().filter(|_| self.cause() == Cause::Bound);
        let blind = blind.map(|it| format!("whose it is was not looked at: {}", it.why));
        let next = self.next_step().map(|next| format!("next: {next}"));
        lease.into_iter().chain(self.socket_lines()).chain(blind).chain(next)
    }

    /// What fits best to do, if the port is wanted.
    pub fn next_step(&self) -> Option<String> {
        let port = self.port;
        let step = match self.cause() {
            Cause::Free => return None,
            Cause::Leased => match &self.lease {
                Some(lease) if lease.is_ours => {
                    DROP.to_owned()
                }
                Some(lease) if lease.lives == Some(false) => {
                    "wait for it with `LeaseBuilder::wait`: a watchdog ends what a process that is \
                     gone has left"
                        .to_owned()
                }
                _ => "wait for it with `LeaseBuilder::wait`, or let any port be chosen".to_owned(),
            },
            Cause::Listening | Cause::Bound | Cause::Udp => self.end_who_has_it(),
            Cause::Connected => {
                "wait until the connection is closed, or let any port be chosen; who has it need not \
                 be a server"
                    .to_owned()
            }
            Cause::NotPermitted => match sys::why_excluded(port) {
                Some(why) => format!("take another port: {why}"),
                None => "let any port be chosen: the system excludes this one".to_owned(),
            },
            Cause::TimeWait => "let the server set SO_REUSEADDR, or wait a minute".to_owned(),
            Cause::Unknown if self.blind.as_ref().is_some_and(|it| it.is_out_of_descriptors) => {
                MORE_DESCRIPTORS.to_owned()
            }
            Cause::Unknown => {
                "let any port be chosen, or look from outside of this container".to_owned()
            }
        };
        Some(step)
    }

    fn end_who_has_it(&self) -> String {
        let port = self.port;
        let in_the_way = |it: &&Socket| {
            let is_asked_for = it.is_udp() == (self.cause() == Cause::Udp);
            is_asked_for
                && !it.is_hold
                && matches!(it.state(), SocketState::Listening | SocketState::Bound)
        };
        let mut sockets = self.sockets.iter().filter(in_the_way);
        // Somebody else's goes first: what this test has, its author knows.
        let is_ours = |it: &&Socket| it.owners.iter().any(Owner::is_of_this_test);
        let others = sockets.clone().find(|it| !is_ours(it));
        let socket = others.or_else(|| sockets.clone().next());
        let leased_by_us = self.lease.as_ref().is_some_and(|lease| lease.is_ours);
        let Some(owner) = socket.and_then(|socket| socket.owners.first()) else {
            return if leased_by_us { DROP.to_owned() } else { self.look_for(socket) };
        };
        match &owner.role {
            _ if socket.as_ref().is_some_and(is_ours) && owner.role != Role::Ourselves => {
                DROP.to_owned()
            }
            Role::Ourselves => "drop the socket, the lease or the server that has it".to_owned(),
            Role::Server { .. } => {
                "wait until that test is over, or let any port be chosen".to_owned()
            }
            Role::Orphan { .. } => "`portlease::reap()` ends what earlier runs left".to_owned(),
            Role::ContainerProxy => format!(
                "stop the container (`docker ps --filter publish={port}` names it), or publish another \
                 port"
            ),
            Role::Service { unit } => {
                format!("`systemctl stop {unit}`, or let any port be chosen")
            }
            Role::UserService { unit } => {
                format!("`systemctl --user stop {unit}`, or let any port be chosen")
            }
            Role::Other => {
                let looks_held = sockets.clone().any(looks_like_hold);
                let owners = sockets.by_ref().flat_map(|socket| &socket.owners);
                let strangers = owners.filter(|owner| owner.role == Role::Other);
                let mut seen = BTreeSet::new();
                let pids = strangers.map(Owner::pid).filter(|&pid| seen.insert(pid));
                let pids = all(pids.map(|pid| pid.to_string()).collect(), 0);
                match self.cause() {
                    // nginx has wiped the sign by which it would be known.
                    _ if leased_by_us => {
                        format!("{DROP}; or end {pids}, if that is no server of this test")
                    }
                    Cause::Udp => format!(
                        "let any port be chosen; or end {pids}, unless that is a client, which has \
                         not chosen it"
                    ),
                    Cause::Listening | Cause::Bound if looks_held => format!(
                        "let any port be chosen; or end {pids}, unless a test has leased it, from another \
                         registry (PORTLEASE_DIR)"
                    ),
                    _ => format!("end {pids}, or let any port be chosen"),
                }
            }
        }
    }

    /// What helps to find who has `socket`.
    fn look_for(&self, socket: Option<&Socket>) -> String {
        let port = self.port;
        if self.blind.is_some() {
            return format!("look who it is (`{}`), or let any port be chosen", sys::LIST_SOCKETS);
        }
        let listens = matches!(self.cause(), Cause::Listening | Cause::Udp);
        // Its hold is bound, and does not listen.
        let hint = if listens { "" } else { "; it may be a lease of another user or registry" };
        let Some(socket) = socket else {
            return format!("let any port be chosen: who it is, the kernel does not tell{hint}");
        };
        let look = match socket.unseen {
            Some(Unseen::NotPermitted | Unseen::NoTime) => {
                let by = match listens {
                    true => format!("ss -lntup sport = :{port}"),
                    // `ss` shows those that do not listen since iproute2 6.8 only.
                    false => format!("find /proc/*/fd -lname '*:?{}?'", socket.entry.inode),
                };
                let can = match socket.unseen {
                    Some(Unseen::NotPermitted) if !sys::is_hidden_user(socket.uid()) => {
                        "with CAP_SYS_PTRACE"
                    }
                    _ => "as root",
                };
                &format!("look {can} who it is (`{by}`)")
            }
            Some(Unseen::NoProc) => "look where there is a /proc",
            Some(Unseen::NoDescriptors) => {
                return format!("{MORE_DESCRIPTORS}, to see who it is; or let any port be chosen");
            }
            Some(Unseen::NotHere) | None => "look into other containers",
        };
        format!("{look}, or let any port be chosen{hint}")
    }

    /// Connections have no line of their own beside a listener, nor when they are over.
    fn socket_lines(&self) -> Vec<String> {
        let is_served = self.cause() == Cause::Listening;
        let mut lines = Vec::new();
        let (mut connected, mut over) = (0, 0);
        for socket in &self.sockets {
            match socket.state() {
                SocketState::TimeWait => over += 1,
                SocketState::Connected if is_served => connected += 1,
                // Who asks knows of a lease that is not told of.
                _ if socket.is_hold && self.lease.is_none() => {}
                _ => {
                    lines.push(line(socket));
                    lines.extend(details(socket).filter(|_| !socket.is_hold));
                }
            }
        }
        let counted = [(connected, "connected to it"), (over, "over, and remembered (TIME_WAIT)")];
        for (count, what) in counted {
            match count {
                0 => {}
                1 => lines.push(format!("one connection is {what}")),
                _ => lines.push(format!("{count} connections are {what}")),
            }
        }
        if self.more > 0 {
            lines.push(format!("and {} sockets more", self.more));
        }
        lines
    }
}

/// As a lease's hold is, of whatever registry; few others are.
fn looks_like_hold(socket: &Socket) -> bool {
    let is_bound = !socket.is_udp() && socket.state() == SocketState::Bound;
    is_bound && socket.local().is_ipv6() && socket.local().ip().is_unspecified()
}

/// One socket, and whose it is.
fn line(socket: &Socket) -> String {
    let (local, who) = (socket.local(), whose(socket));
    let are_many = socket.owners.len() > 1;
    let verb = |one: &'static str, many: &'static str| if are_many { many } else { one };
    match (socket.state(), socket.remote()) {
        _ if socket.is_hold => format!("held by the kernel for that lease, on {local}"),
        (SocketState::Listening, _) => format!("{who} {} on {local}", verb("listens", "listen")),
        (SocketState::Bound, _) if socket.is_udp() => {
            format!("{who} {} bound {local} for UDP", verb("has", "have"))
        }
        (_, Some(remote)) => {
            format!("{who} {} a connection from {local} to {remote}", verb("has", "have"))
        }
        _ => format!(
            "{who} {} bound {local}, and {} not listen",
            verb("has", "have"),
            verb("does", "do")
        ),
    }
}

/// `process 4242`, `processes 4242, 4243 and 2 more`
fn all(mut processes: Vec<String>, more: usize) -> String {
    if more > 0 {
        processes.push(format!("{more} more"));
    }
    match processes.pop() {
        Some(last) if !processes.is_empty() => {
            format!("processes {} and {last}", processes.join(", "))
        }
        last => format!("process {}", last.unwrap_or_default()),
    }
}

/// `processes 4242 (nginx) and 4243 (nginx)`
fn whose(socket: &Socket) -> String {
    let uid = socket.uid();
    match socket.unseen {
        _ if !socket.owners.is_empty() => {
            let owners =
                socket.owners.iter().map(|Owner { pid, name, .. }| format!("{pid} ({name})"));
            all(owners.collect(), socket.more_owners)
        }
        Some(Unseen::NotPermitted) => format!("somebody (uid {uid}, not visible to this process)"),
        Some(Unseen::NoTime) => format!("somebody (uid {uid}; there was no time to see who)"),
        Some(Unseen::NotHere) => {
            format!("somebody (uid {uid}, not to be seen from this container)")
        }
        Some(Unseen::NoProc) => format!("somebody (uid {uid}; there is no /proc that tells who)"),
        Some(Unseen::NoDescriptors) => {
            format!("somebody (uid {uid}; no file descriptor was left to see who)")
        }
        None => "nobody any more".to_owned(),
    }
}

/// `  uid 33 (www-data), started 3 min ago, of nginx.service: nginx -g ...`; of several, the first.
fn details(socket: &Socket) -> Option<String> {
    let owner = socket.owners.first()?;
    let Owner { pid, command, uid, user, age, role, .. } = owner;
    let mut facts = Vec::new();
    if let Some(uid) = uid {
        let user = user.as_ref().map(|user| format!(" ({user})")).unwrap_or_default();
        facts.push(format!("uid {uid}{user}"));
    }
    facts.extend(age.map(|age| format!("started {} ago", rounded(age))));
    facts.extend(match role {
        Role::Other => None,
        Role::Ourselves => Some("this very process".to_owned()),
        Role::Server { .. } if owner.is_of_this_test() => {
            Some("a server of this very process".to_owned())
        }
        Role::Server { harness } => Some(format!("a server of test process {harness}")),
        Role::Orphan { harness } => Some(format!("left by test process {harness}, which is gone")),
        Role::ContainerProxy => Some("for a container".to_owned()),
        Role::Service { unit } | Role::UserService { unit } => Some(format!("of {unit}")),
    });
    let command = if command.is_empty() { String::new() } else { format!(": {command}") };
    let which = if socket.owners.len() > 1 { format!("{pid}: ") } else { String::new() };
    Some(format!("  {which}{}{command}", facts.join(", ")))
}

fn rounded(age: Duration) -> String {
    let seconds = age.as_secs_f64();
    match age.as_secs() {
        ..120 => format!("{seconds:.0} s"),
        120..7_200 => format!("{:.0} min", seconds / 60.0),
        7_200..172_800 => format!("{:.0} h", seconds / 3_600.0),
        _ => format!("{:.0} days", seconds / 86_400.0),
    }
}

/// What cannot be made everywhere. The rest: `tests/diagnosis.rs`.
#[cfg(test)]
mod tests {
    use super::super::{Bind, Blind, LeaseOf};
    use super::*;
    use crate::holder::Holder;
    use crate::sys::{Protocol, SocketEntry, State};

    fn nothing() -> Diagnosis {
        let (lease, bind) = (None, Bind::NotAsked);
        Diagnosis { port: 5432, lease, sockets: Vec::new(), more: 0, blind: None, bind }
    }

    fn listener() -> Socket {
        let local = "127.0.0.1:5432".parse().expect("an address");
        let remote = "0.0.0.0:0".parse().expect("an address");
        let (protocol, state, only_v6) = (Protocol::Tcp, State::Listen, None);
        let (inode, uid, queue) = (77, 33, 0);
        let entry = SocketEntry { protocol, state, local, remote, inode, uid, only_v6, queue };
        Socket { entry, is_hold: false, owners: Vec::new(), more_owners: 0, unseen: None }
    }

    fn check(diagnosis: &Diagnosis, cause: Cause, expected: &str) {
        assert_eq!((diagnosis.cause(), diagnosis.to_string().as_str()), (cause, expected));
    }

    /// The kernel tells of no socket that is bound and does not listen, before Linux 6.8.
    #[test]
    fn what_only_a_bind_tells() {
        let with = |bind| Diagnosis { bind, ..nothing() };
        let blind = || Some(Blind { why: "no netlink".to_owned(), is_out_of_descriptors: false });
        check(&with(Bind::Free), Cause::Free, "port 5432 is free");
        check(
            &with(Bind::Refused),
            Cause::Bound,
            "port 5432 is bound by somebody who does not listen\n  \
             next: let any port be chosen: who it is, the kernel does not tell; it may be a lease of \
             another user or registry",
        );
        let next = if cfg!(windows) {
            "take another port: `netsh int ipv4 show excludedportrange protocol=tcp` shows what is \
             reserved; so it does for ipv6, and for udp"
        } else {
            "let any port be chosen: the system excludes this one"
        };
        let text = format!("port 5432 is not to be bound by this process\n  next: {next}");
        check(&with(Bind::NotPermitted), Cause::NotPermitted, &text);
        check(
            &Diagnosis { blind: blind(), ..nothing() },
            Cause::Unknown,
            "port 5432 is not to be looked at: no netlink\n  \
             next: let any port be chosen, or look from outside of this container",
        );
        let is_out = Blind { why: "no descriptor".to_owned(), is_out_of_descriptors: true };
        check(
            &Diagnosis { blind: Some(is_out), ..nothing() },
            Cause::Unknown,
            &format!("port 5432 is not to be looked at: no descriptor\n  next: {MORE_DESCRIPTORS}"),
        );
        let look = format!(
            "port 5432 is in use\n  whose it is was not looked at: no netlink\n  \
             next: look who it is (`{}`), or let any port be chosen",
            sys::LIST_SOCKETS
        );
        check(&Diagnosis { blind: blind(), ..with(Bind::Refused) }, Cause::Bound, &look);
    }

    #[test]
    fn what_is_no_socket_of_a_server() {
        let of = |state, is_hold| {
            let Socket { entry, .. } = listener();
            let socket = Socket { entry: SocketEntry { state, ..entry }, is_hold, ..listener() };
            Diagnosis { sockets: vec![socket], ..nothing() }
        };
        assert_eq!(of(State::Bound, true).cause(), Cause::Leased);
        let lines = of(State::Listen, false).socket_lines();
        assert_eq!(lines, ["nobody any more listens on 127.0.0.1:5432"]);
    }

    #[test]
    fn services() {
        let unit = "nginx.service".to_owned();
        let role = Role::Service { unit: unit.clone() };
        let (name, command) = ("nginx".to_owned(), "nginx -g x".to_owned());
        let (uid, user) = (Some(33), Some("www-data".to_owned()));
        let age = Some(Duration::from_secs(7_300));
        let owner = Owner { pid: 42, name, command, uid, user, age, role };
        let owned_by = |owner| {
            let socket = Socket { owners: vec![owner], ..listener() };
            Diagnosis { sockets: vec![socket], more: 2, ..nothing() }
        };
        let of_a_user = Owner { role: Role::UserService { unit }, ..owner.clone() };
        let next = owned_by(of_a_user).next_step();
        let expected = "`systemctl --user stop nginx.service`, or let any port be chosen";
        assert_eq!(next.as_deref(), Some(expected));
        check(
            &owned_by(owner),
            Cause::Listening,
            "port 5432 is in use\n  \
             process 42 (nginx) listens on 127.0.0.1:5432\n    \
             uid 33 (www-data), started 2 h ago, of nginx.service: nginx -g x\n  \
             and 2 sockets more\n  \
             next: `systemctl stop nginx.service`, or let any port be chosen",
        );
    }

    /// Whose process has the port, and how a socket of this very test is told from it.
    #[test]
    fn what_this_test_has_is_not_waited_for() {
        let owned = |pid, role| {
            let (name, command) = ("x".to_owned(), String::new());
            let owner = Owner { pid, name, command, uid: None, user: None, age: None, role };
            Socket { owners: vec![owner], ..listener() }
        };
        let harness = std::process::id();
        let ours = || owned(7, Role::Server { harness });
        let own = || owned(harness, Role::Ourselves);
        let others = || owned(8, Role::Server { harness: harness + 1 });
        let stranger = || owned(9, Role::Other);
        let holder = || Holder { pid: Some(harness), ..Holder::unknown(5432) };
        let leased = || LeaseOf { holder: holder(), lives: Some(true), is_ours: true };
        let check = |sockets: Vec<Socket>, is_leased: bool, expected: &str| {
            let lease = is_leased.then(leased);
            let diagnosis = Diagnosis { sockets, lease, ..nothing() };
            assert_eq!(diagnosis.next_step().as_deref(), Some(expected), "{diagnosis}");
        };
        let end = "end process 9, or let any port be chosen";
        check(vec![ours()], false, DROP);
        check(vec![ours()], true, DROP);
        check(vec![own()], false, "drop the socket, the lease or the server that has it");
        check(vec![others()], false, "wait until that test is over, or let any port be chosen");
        check(vec![ours(), stranger()], false, end);
        check(vec![own(), stranger()], false, end);
        // A server that wiped its environment, or that is not to be seen.
        check(
            vec![stranger()],
            true,
            "drop the lease, or the server, that has it; or end process 9, if that is no server of \
             this test",
        );
        check(vec![listener()], true, DROP);
    }

    #[test]
    fn no_time_to_look() {
        let late = Socket { unseen: Some(Unseen::NoTime), ..listener() };
        check(
            &Diagnosis { sockets: vec![late], ..nothing() },
            Cause::Listening,
            "port 5432 is in use\n  \
             somebody (uid 33; there was no time to see who) listens on 127.0.0.1:5432\n  \
             next: look as root who it is (`ss -lntup sport = :5432`), or let any port be chosen",
        );
    }

    #[test]
    fn whose_process_is_gone_or_not_on_record() {
        let leased = |holder, lives| {
            let lease = Some(LeaseOf { holder, lives, is_ours: false });
            Diagnosis { lease, ..nothing() }
        };
        check(
            &leased(Holder { pid: Some(42), ..Holder::unknown(5432) }, Some(false)),
            Cause::Leased,
            "port 5432 is leased\n  \
             leased by pid 42, which is gone, or in another container\n  \
             next: wait for it with `LeaseBuilder::wait`: a watchdog ends what a process that is \
             gone has left",
        );
        check(
            &leased(Holder::unknown(5432), None),
            Cause::Leased,
            "port 5432 is leased\n  \
             locked by somebody who has not written who he is: he looks at it, or waits for it \
             too\n  \
             next: wait for it with `LeaseBuilder::wait`, or let any port be chosen",
        );
    }

    #[test]
    fn ages() {
        for (seconds, expected) in [
            (0, "0 s"),
            (119, "119 s"),
            (120, "2 min"),
            (7_199, "120 min"),
            (7_200, "2 h"),
            (172_800, "2 days"),
        ] {
            assert_eq!(rounded(Duration::from_secs(seconds)), expected);
        }
    }
}
