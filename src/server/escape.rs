//! Processes of a server that left its group, and whose parent is gone: daemons, and the children of
//! a server that was killed.
//!
//! Who is found is ended, so each sign has to be one that nobody else can have.

use std::collections::BTreeSet;
use std::process;

use super::look::Look;
use super::tree;
use crate::cookie::Cookie;
use crate::sys::{self, ProcessId, Protocol};

/// By what a process of one start of a server can be known.
#[derive(Clone, Debug, Default)]
pub(super) struct Trail {
    /// In its environment, if it did not write over it.
    pub(super) cookie: Option<Cookie>,
    /// The inodes of the pipes that are read as the server's output.
    pub(super) pipes: Vec<u64>,
    /// The port that was leased for it; 0: none was.
    pub(super) port: u16,
    /// The file name of its program.
    pub(super) program: String,
}

/// Who was found, and whether the look missed nobody.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) processes: Vec<ProcessId>,
    /// Somebody who had lost his parent could not be looked into: he has ended, and may have started others;
    /// or he is in the middle of an exec, and shows no cookie.
    pub(super) is_unsure: bool,
}

/// Of all processes, who was started since the server's child (`since`), is not `known` yet, and
///
/// - has its cookie; or, without any cookie that can be read,
/// - can write to its output, while `output_is_open`, and is not a copy of this very program: that
///   would be a child of another thread, between its fork and its exec, which has all our files;
/// - or listens on the port that is leased for it, calls itself as its program does, acts for our
///   user, and has left our session: nginx as a daemon.
pub(super) fn find(
    look: &Look,
    since: ProcessId,
    trail: &Trail,
    output_is_open: bool,
    known: &BTreeSet<ProcessId>,
) -> Found {
    let Some(own) = look.all.iter().find(|entry| entry.id.pid == process::id()) else {
        return Found { is_unsure: true, ..Found::default() };
    };
    let newer = look.all.iter().filter(|entry| {
        entry.id.start >= since.start && entry.id != own.id && !known.contains(&entry.id)
    });
    // Who has another parent is that one's, and on a busy machine some of these end in each look.
    let living: BTreeSet<u32> = look.all.iter().map(|entry| entry.id.pid).collect();
    let adopters = tree::adopters(&look.all, *own, sys::adopts_orphans());
    let is_orphan = |parent| adopters.contains(&parent) || !living.contains(&parent);
    let mut found = Found::default();
    let mut listening: Option<Vec<u64>> = None; // looked up for the first one who may listen
    for entry in newer {
        let pid = entry.id.pid;
        // Asked first: once it is another program, it has an environment and files of its own.
        let is_other = output_is_open && sys::is_same_program(pid, own.id.pid) == Some(false);
        let is_ours = match look.cookie(entry.id) {
            Some(cookie) => trail.cookie.as_ref() == Some(&cookie),
            None => {
                is_other && sys::can_write_to(pid, &trail.pipes).unwrap_or(false)
                    || trail.port != 0
                        && entry.session != own.session
                        && calls_itself(pid, &trail.program)
                        && sys::is_of_our_user(pid)
                        && listens(pid, listening.get_or_insert_with(|| listening_on(trail.port)))
            }
        };
        if is_ours {
            found.processes.push(entry.id);
        } else {
            found.is_unsure |= is_orphan(entry.parent)
                && look.cookie(entry.id).is_none()
                && (!sys::may_live(entry.id) || sys::is_in_exec(pid));
        }
    }
    found
}

/// The kernel cuts names after 15 bytes.
fn calls_itself(pid: u32, program: &str) -> bool {
    let program = program.as_bytes();
    let cut = program.get(..15).unwrap_or(program);
    sys::process_name(pid).is_some_and(|name| name.as_bytes() == cut)
}

fn listening_on(port: u16) -> Vec<u64> {
    let protocols = [Protocol::Tcp, Protocol::Udp].into_iter();
    let sockets = protocols.flat_map(|it| sys::servers(it, Some(port)).unwrap_or_default());
    sockets.map(|socket| socket.inode.into()).collect()
}

fn listens(pid: u32, inodes: &[u64]) -> bool {
    !inodes.is_empty() && sys::has_socket(pid, inodes).unwrap_or(false)
}

#[cfg(test)]
#[cfg(target_os = "linux")] // elsewhere, nobody looks
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::fd::OwnedFd;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::cookie;
    use crate::patience::eventually;
    use crate::sys::ProcessEntry;

    /// Whether a look is unsure because of somebody with this parent, who has ended since.
    fn is_unsure(parent: u32) -> bool {
        let mut child = Command::new("true").spawn().expect("true");
        let id = ProcessId { pid: child.id(), start: u64::MAX };
        child.wait().expect("its end");
        let mut look = Look::now().expect("a look");
        // Alone with who is older than anybody of other tests, some of whom may end just now.
        look.all.retain(|entry| entry.id.pid == process::id() || entry.id.pid == parent);
        look.all.push(ProcessEntry { id, parent, group: id.pid, session: id.pid });
        let since = ProcessId { pid: 0, start: u64::MAX };
        find(&look, since, &Trail::default(), false, &BTreeSet::new()).is_unsure
    }

    #[test]
    fn only_who_has_lost_his_parent_may_have_been_ours() {
        let mut other = Command::new("sleep").arg("1000").spawn().expect("sleep");
        assert!(!is_unsure(other.id()), "a child of another process");
        other.kill().and_then(|()| other.wait()).expect("its end");
        assert!(is_unsure(other.id()), "his parent has ended as well");
        assert!(is_unsure(1), "somebody who was adopted");
        assert!(!is_unsure(process::id()), "a child of another thread");
    }

    /// A `sleep` that shows nothing but what a test gives it.
    struct Sleeper(Child);

    impl Sleeper {
        fn new(program: &str, give: impl FnOnce(&mut Command) -> &mut Command) -> Sleeper {
            let mut command = Command::new(program);
            command.args(["sleep", "1000"]).env_remove(cookie::VARIABLE);
            let child = give(&mut command).spawn().expect("util-linux, coreutils");
            // It has its name before its environment.
            let has_environment = || sys::process_variable(child.id(), "PATH").is_some();
            eventually(|| match calls_itself(child.id(), "sleep") && has_environment() {
                true => Ok(()),
                false => Err("no `sleep` yet"),
            });
            Sleeper(child)
        }

        fn is_found(&self, trail: &Trail, output_is_open: bool) -> bool {
            let look = Look::now().expect("a look");
            let pid = self.0.id();
            let id = ProcessId { pid, start: sys::process_start(pid).expect("its start") };
            let found = find(&look, id, trail, output_is_open, &BTreeSet::new());
            let again = find(&look, id, trail, output_is_open, &BTreeSet::from([id]));
            assert!(!again.processes.contains(&id), "one who is known");
            found.processes.contains(&id)
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill().and_then(|()| self.0.wait());
        }
    }

    /// nginx as a daemon. Each sign is needed: a stranger who lacks it is not ended.
    #[test]
    fn who_listens_as_the_server_would() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let other = TcpListener::bind("127.0.0.1:0").expect("another socket");
        let datagrams = UdpSocket::bind("127.0.0.1:0").expect("a UDP socket");
        let port_of = |listener: &TcpListener| listener.local_addr().expect("its address").port();
        let (port, other_port) = (port_of(&listener), port_of(&other));
        let udp_port = datagrams.local_addr().expect("its address").port();
        let given = || Stdio::from(OwnedFd::from(listener.try_clone().expect("a copy")));
        let trail =
            |port, program: &str| Trail { port, program: program.into(), ..Trail::default() };

        let daemon = Sleeper::new("setsid", |it| it.stdin(given()));
        assert!(daemon.is_found(&trail(port, "sleep"), false));
        assert!(!daemon.is_found(&trail(0, "sleep"), false), "no port was leased");
        assert!(!daemon.is_found(&trail(other_port, "sleep"), false), "on another port");
        assert!(!daemon.is_found(&trail(port, "nginx"), false), "of another name");
        let in_session = Sleeper::new("env", |it| it.stdin(given()));
        assert!(!in_session.is_found(&trail(port, "sleep"), false), "in our session");
        let cookie = Cookie::new().expect("a cookie");
        let marked =
            Sleeper::new("setsid", |it| it.stdin(given()).env(cookie::VARIABLE, cookie.value()));
        assert!(!marked.is_found(&trail(port, "sleep"), false), "another server's");
        let udp = Sleeper::new("setsid", |it| it.stdin(Stdio::from(OwnedFd::from(datagrams))));
        assert!(udp.is_found(&trail(udp_port, "sleep"), false));
        if sys::process_uid(process::id()) == Some(0) {
            let nobodys = Sleeper::new("setsid", |it| it.stdin(given()).uid(65534));
            assert!(!nobodys.is_found(&trail(port, "sleep"), false), "another user's");
        }
    }

    #[test]
    fn who_has_its_cookie() {
        let cookie = Cookie::new();
        let value = cookie.as_ref().expect("a cookie").value();
        let child = Sleeper::new("env", |it| it.env(cookie::VARIABLE, value));
        assert!(child.is_found(&Trail { cookie, ..Trail::default() }, false));
        assert!(!child.is_found(&Trail { cookie: Cookie::new(), ..Trail::default() }, false));
        assert!(!child.is_found(&Trail::default(), false));
    }

    #[test]
    fn who_can_write_to_its_output() {
        let writer = Sleeper::new("env", |it| it.stdout(Stdio::piped()));
        let reader = Sleeper::new("env", |it| it.stdin(Stdio::piped()));
        let pipe = sys::inode(writer.0.stdout.as_ref().expect("a pipe")).expect("its inode");
        let trail = Trail { pipes: vec![1, pipe], ..Trail::default() };
        assert!(writer.is_found(&trail, true));
        assert!(!writer.is_found(&trail, false), "the output has ended");
        assert!(!writer.is_found(&Trail::default(), true), "to another pipe");
        let pipe = sys::inode(reader.0.stdin.as_ref().expect("a pipe")).expect("its inode");
        let trail = Trail { pipes: vec![pipe], ..Trail::default() };
        assert!(!reader.is_found(&trail, true), "who can but read");
    }
}
