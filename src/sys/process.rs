//! Other processes, as `/proc` shows them. Each may be gone the next moment: then it is `None`, or
//! no part of a list.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process;

use super::id::{ProcessEntry, ProcessId};

/// Of a name, an environment or a command line, no more is read than this.
const MAX_ENVIRONMENT: u64 = 1 << 20;
const MAX_COMMAND: u64 = 4 << 10;

/// How often the list of all processes is read for one look.
const MAX_LISTS: u32 = 8;

/// The most descriptors of a process that are looked at, at 4 us each.
const MAX_DESCRIPTORS: usize = 10_000;

/// When `pid` was started, in clock ticks since boot. `None` if there is no such process, or it
/// cannot be told.
pub(crate) fn process_start(pid: u32) -> Option<u64> {
    stat_of(pid).filter(|_| proc_is_ours()).map(|stat| stat.start)
}

/// Whether `/proc` is that of our pid namespace: in another's, each number means somebody else.
fn proc_is_ours() -> bool {
    let shown = fs::read_link("/proc/self");
    shown.is_ok_and(|shown| shown.to_str() == Some(&process::id().to_string()))
}

/// Whether the process `id` lives. A zombie does not: under a pid 1 that does not reap, it stays for
/// ever.
///
/// # Errors
///
/// No descriptor is left to look.
pub(super) fn lives(id: ProcessId) -> io::Result<bool> {
    let stat = look_at(id.pid)?;
    Ok(stat.is_some_and(|stat| stat.start == id.start && stat.lives()))
}

/// Whether the process `id` lives, or cannot be told to be gone: `/proc` may hide other users'
/// processes (`hidepid`).
pub(crate) fn may_live(id: ProcessId) -> bool {
    match look_at(id.pid) {
        Ok(Some(stat)) => stat.start == id.start && stat.lives(),
        Ok(None) => group_of(id.pid).is_some(),
        Err(_) => true,
    }
}

/// The process group of a process.
fn group_of(pid: u32) -> Option<u32> {
    // SAFETY: `getpgid` takes an integer and touches no memory of ours.
    let group = unsafe { libc::getpgid(super::unix::pid_of(pid)?) };
    u32::try_from(group).ok()
}

/// All living processes. 8 us each.
///
/// # Errors
///
/// There is no `/proc`, or it is that of another pid namespace, whose numbers mean others. Or no
/// descriptor is left, so that some might be missed.
pub(crate) fn processes() -> io::Result<Vec<ProcessEntry>> {
    processes_of(None, listed)
}

/// The living members of a process group. 0.5 us for each process that is none.
///
/// # Errors
///
/// As [`processes`].
pub(crate) fn group_members(group: u32) -> io::Result<Vec<ProcessEntry>> {
    processes_of(Some(group), listed)
}

/// All of a group, or of any.
///
/// Who is listed may have ended before it is looked at, and left a child that is not on the list. So the list is
/// read again, until everybody who is new on it lives: then who lives was found, or who forked it was. At most
/// [`MAX_LISTS`] times: who forks faster may be missed.
fn processes_of(
    group: Option<u32>,
    mut list: impl FnMut() -> io::Result<Vec<u32>>,
) -> io::Result<Vec<ProcessEntry>> {
    if !proc_is_ours() {
        return Err(io::Error::from(io::ErrorKind::Unsupported));
    }
    let is_another = |of: u32| group.is_some_and(|group| group != of);
    let mut processes = Vec::new();
    let mut seen = HashSet::new();
    for _ in 0..MAX_LISTS {
        let mut somebody_ended = false;
        for pid in list()? {
            if !seen.insert(pid) || group.is_some() && group_of(pid).is_some_and(is_another) {
                continue;
            }
            match look_at(pid)? {
                Some(stat) if stat.lives() => {
                    let Stat { parent, group, session, start, .. } = stat;
                    if !is_another(group) {
                        let id = ProcessId { pid, start };
                        processes.push(ProcessEntry { id, parent, group, session });
                    }
                }
                _ => somebody_ended = true,
            }
        }
        if !somebody_ended {
            break;
        }
    }
    Ok(processes)
}

/// The numbers of all processes.
fn listed() -> io::Result<Vec<u32>> {
    let number = |entry: io::Result<fs::DirEntry>| match entry {
        Ok(entry) => entry.file_name().to_str().and_then(|name| name.parse().ok()).map(Ok),
        Err(error) => Some(Err(error)),
    };
    fs::read_dir("/proc")?.filter_map(number).collect()
}

/// What a process calls itself, at most 15 bytes.
pub(crate) fn process_name(pid: u32) -> Option<String> {
    let name = read_bounded(pid, "comm", MAX_COMMAND)?;
    Some(String::from_utf8_lossy(&name).trim_end_matches('\n').to_owned())
}

/// Its arguments, the program first; at most 4 KiB of them. Empty for one that wiped them.
pub(crate) fn process_arguments(pid: u32) -> Option<Vec<String>> {
    let bytes = read_bounded(pid, "cmdline", MAX_COMMAND)?;
    let text = String::from_utf8_lossy(&bytes);
    let arguments = text.trim_end_matches('\0').split('\0');
    Some(arguments.filter(|argument| !argument.is_empty()).map(str::to_owned).collect())
}

/// A variable of the environment with which it was started, unless it wrote over it. `None` too if
/// it may not be read: another user's, or one with privileges of its own.
pub(crate) fn process_variable(pid: u32, name: &str) -> Option<String> {
    let environment = read_bounded(pid, "environ", MAX_ENVIRONMENT)?;
    let mut entries = environment.split(|&byte| byte == 0);
    let value = entries.find_map(|entry| {
        entry.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="))
    })?;
    String::from_utf8(value.to_vec()).ok()
}

/// Whether a process is in the middle of an exec: it has its next program, and neither arguments nor an
/// environment yet. (A thread of the kernel has no program, and who has ended neither.)
pub(crate) fn is_in_exec(pid: u32) -> bool {
    let has_no = |file| read_bounded(pid, file, 1).is_some_and(|bytes| bytes.is_empty());
    has_no("environ") && has_no("cmdline") && fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}

/// The user whom a process acts for.
pub(crate) fn process_uid(pid: u32) -> Option<u32> {
    let status = read_bounded(pid, "status", MAX_COMMAND)?;
    let status = String::from_utf8_lossy(&status);
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    uids.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Whether a process acts for the user for whom we do.
pub(crate) fn is_of_our_user(pid: u32) -> bool {
    process_uid(pid) == Some(super::unix::effective_uid())
}

/// Whether a process has a descriptor of one of the sockets with these `inodes`.
///
/// # Errors
///
/// It is gone, or may not be looked into.
pub(crate) fn has_socket(pid: u32, inodes: &[u64]) -> io::Result<bool> {
    has(pid, "socket", |_, inode| inodes.contains(&inode))
}

/// The inodes of the sockets of which a process has descriptors.
///
/// # Errors
///
/// It is gone, or may not be looked into.
pub(crate) fn sockets_of(pid: u32) -> io::Result<Vec<u64>> {
    descriptors(pid, "socket")?.map(|found| found.map(|(_, inode)| inode)).collect()
}

/// Whether a process has the writing end of one of the pipes with these `inodes`.
///
/// # Errors
///
/// It is gone, or may not be looked into.
pub(crate) fn can_write_to(pid: u32, inodes: &[u64]) -> io::Result<bool> {
    // The mode of the link tells for what the file is open.
    let is_writable =
        |link: &Path| link.symlink_metadata().is_ok_and(|meta| meta.mode() & 0o200 != 0);
    has(pid, "pipe", |link, inode| inodes.contains(&inode) && is_writable(link))
}

/// Whether a process has a descriptor of this kind for which `is_it` is true: looks up to the first.
fn has(pid: u32, kind: &str, is_it: impl Fn(&Path, u64) -> bool) -> io::Result<bool> {
    for found in descriptors(pid, kind)? {
        let (link, inode) = found?;
        if is_it(&link, inode) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The descriptors of a process that are of one kind: the link in `/proc`, and the inode. A root without
/// CAP_SYS_PTRACE, as a container's, may list the links of others, and not read one.
fn descriptors(
    pid: u32,
    kind: &str,
) -> io::Result<impl Iterator<Item = io::Result<(PathBuf, u64)>>> {
    let links = fs::read_dir(format!("/proc/{pid}/fd"))?.take(MAX_DESCRIPTORS);
    Ok(links.filter_map(move |link| {
        let link = link.ok()?.path();
        match fs::read_link(&link) {
            Ok(target) => Some(Ok((link, inode_of(&target, kind)?))),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Some(Err(error)),
            Err(_) => None, // it was closed
        }
    }))
}

/// `socket:[77]`
fn inode_of(target: &Path, kind: &str) -> Option<u64> {
    let inode = target.to_str()?.strip_prefix(kind)?.strip_prefix(":[")?.strip_suffix(']')?;
    inode.parse().ok()
}

/// The inode of something that is open here, as [`can_write_to`] knows it.
pub(crate) fn inode(descriptor: &impl AsFd) -> io::Result<u64> {
    let copy = File::from(descriptor.as_fd().try_clone_to_owned()?);
    Ok(copy.metadata()?.ino())
}

/// Whether two processes run the same file. `None`: it cannot be told.
pub(crate) fn is_same_program(one: u32, other: u32) -> Option<bool> {
    let file = |pid| fs::metadata(format!("/proc/{pid}/exe")).ok();
    Some(super::same_file(&file(one)?, &file(other)?))
}

/// The namespaces in which a [`ProcessId`] means this process: that of pids, and that of the clock
/// by which starts are told.
pub(crate) fn process_namespaces() -> Option<String> {
    let inode = |kind: &str| inode_of(&fs::read_link(format!("/proc/self/ns/{kind}")).ok()?, kind);
    // Linux has had namespaces for clocks since 5.6.
    let clock = inode("time").unwrap_or(0);
    proc_is_ours().then(|| inode("pid")).flatten().map(|pid| format!("{pid}.{clock}"))
}

/// Names the time since the machine was started last.
pub(crate) fn boot_id() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim_end().to_owned())
}

fn read_bounded(pid: u32, file: &str, at_most: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(format!("/proc/{pid}/{file}")).ok()?;
    file.take(at_most).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The fields of `/proc/PID/stat` that are used here; proc_pid_stat(5).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stat {
    state: u8,
    parent: u32,
    group: u32,
    session: u32,
    threads: u32,
    start: u64,
}

impl Stat {
    /// Where the first thread has ended before the others, the state is Z all the same.
    fn lives(&self) -> bool {
        !matches!(self.state, b'Z' | b'X') || self.threads > 1
    }

    /// The second field is the program's name, in parentheses and chosen by the program: it may
    /// hold blanks, newlines and parentheses. Only the last parenthesis ends it.
    pub(super) fn parse(text: &[u8]) -> Option<Stat> {
        let name_end = text.iter().rposition(|&byte| byte == b')')?;
        let rest = std::str::from_utf8(&text[name_end + 1..]).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        Some(Stat {
            state: fields.next()?.bytes().next()?, // field 3
            parent: fields.next()?.parse().ok()?,
            group: fields.next()?.parse().ok()?,
            session: fields.next()?.parse().ok()?,
            threads: fields.nth(13)?.parse().ok()?, // field 20
            start: fields.nth(1)?.parse().ok()?,    // field 22
        })
    }
}

fn stat_of(pid: u32) -> Option<Stat> {
    look_at(pid).ok().flatten()
}

/// `None`: there is no such process, or it is hidden.
fn look_at(pid: u32) -> io::Result<Option<Stat>> {
    // The kernel's lines are shorter than this.
    let mut text = [0; 1024];
    let mut file = match File::open(format!("/proc/{pid}/stat")) {
        Err(error) if super::is_out_of_descriptors(&error) => return Err(error),
        Err(_) => return Ok(None),
        Ok(file) => file,
    };
    let size = file.read(&mut text).unwrap_or(0);
    Ok(Stat::parse(&text[..size]))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::*;

    const TAIL: &str = "S 1 77 78 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 3 0 123456 2351104 1 0";

    proptest! {
        #[test]
        fn a_stat_survives_any_program_name(name: Vec<u8>) {
            let mut line = b"42 (".to_vec();
            line.extend(name);
            line.extend(format!(") {TAIL}\n").bytes());
            let expected =
                Stat { state: b'S', parent: 1, group: 77, session: 78, threads: 3, start: 123_456 };
            prop_assert_eq!(Stat::parse(&line), Some(expected));
        }

        #[test]
        fn a_stat_survives_any_bytes(bytes: Vec<u8>, end in 0..TAIL.len()) {
            let _ = Stat::parse(&bytes);
            let mut cut = b"1 (a) ".to_vec();
            cut.extend(&TAIL.as_bytes()[..end]);
            let _ = Stat::parse(&cut);
        }
    }

    #[test]
    fn names_that_look_like_the_end_of_a_name() {
        for name in ["sh", "a b", ") S 1 2 3 (", "new\nline", "", "ends with )"] {
            let stat = Stat::parse(format!("42 ({name}) {TAIL}\n").as_bytes());
            assert_eq!(stat.map(|stat| stat.group), Some(77), "{name}");
        }
        assert_eq!(Stat::parse(b"42 (\xff\xfe) S 1 77"), None);
        assert_eq!(Stat::parse(b""), None);
    }

    #[test]
    fn a_zombie_lives_while_it_has_threads() {
        let line =
            |state, threads| format!("1 (a) {state} 1 1 1 0 0 0 0 0 0 0 0 0 0 0 0 0 {threads} 0 5");
        let lives = |state, threads| Stat::parse(line(state, threads).as_bytes()).unwrap().lives();
        assert!(lives('S', 1) && lives('T', 1) && lives('Z', 2));
        assert!(!lives('Z', 1) && !lives('X', 1) && !lives('Z', 0));
    }

    /// A daemon, whose first process forks while somebody looks.
    #[test]
    fn who_is_forked_during_a_look_is_found() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "read -r _; sleep 1000 >/dev/null & echo $!"]).process_group(0);
        let parent = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sh");
        let group = parent.id();
        let mut said = Vec::new();
        let mut parent = Some(parent);
        let list = || {
            let list = listed()?;
            if let Some(parent) = parent.take() {
                said = parent.wait_with_output()?.stdout; // its input ends, and with it `read`
            }
            Ok(list)
        };
        let found = processes_of(Some(group), list);
        let killed = crate::sys::signal_group(group, crate::sys::Signal::Kill); // before a failure
        killed.expect("it is there");
        let found: Vec<_> = found.expect("no /proc").iter().map(|entry| entry.id.pid).collect();
        let child: u32 = String::from_utf8_lossy(&said).trim().parse().expect("its number");
        assert_eq!(found, [child]);
    }

    #[test]
    fn this_process_is_found() {
        let pid = process::id();
        let own = processes().expect("no /proc").into_iter().find(|entry| entry.id.pid == pid);
        let own = own.expect("this process is not among all");
        assert_eq!(Some(own.id.start), process_start(pid));
        assert_eq!(own.parent, std::os::unix::process::parent_id());
        let namesake = ProcessId { start: own.id.start + 1, ..own.id };
        assert!(lives(own.id).expect("look") && !lives(namesake).expect("look"));
        assert!(may_live(own.id) && !may_live(namesake));
        assert!(!may_live(ProcessId { pid: u32::MAX >> 1, start: 1 }));
        assert_eq!(process_uid(pid), Some(crate::sys::unix::effective_uid()));
        assert_eq!(process_variable(pid, "NO_SUCH_VARIABLE"), None);
        assert_eq!(process_variable(pid, "CARGO_PKG_NAME").as_deref(), Some("portlease"));
        let program = process_arguments(pid).expect("arguments").remove(0);
        assert_eq!(Some(program), std::env::args().next());
        assert!(boot_id().is_some() && process_namespaces().is_some());
        let group = group_members(group_of(pid).expect("its group")).expect("look");
        assert!(group.contains(&own));
        assert_eq!(group_members(u32::MAX >> 1).expect("look"), []);
        assert!(is_of_our_user(pid) && !is_of_our_user(u32::MAX >> 1));
        assert_eq!(is_same_program(pid, pid), Some(true));
        assert_eq!(is_same_program(pid, u32::MAX >> 1), None);
    }
}
