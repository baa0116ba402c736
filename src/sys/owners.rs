//! Who has a socket, and who that is: what `/proc` tells of the processes behind a port.

use std::fs::File;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use super::id::{Owners, ProcessEntry, ProcessId, Service};
use super::process;

/// Of `/etc/passwd` and the like, no more is read than this.
const MAX_FILE: u64 = 1 << 20;

/// How much longer it may take on a machine that is busy with others. Who waits for a CPU among fifty, and
/// looks at processes that wait too, was seen to need more than 8 times as long.
const BUSY: u32 = 25;

/// Looks who has the sockets with these `inodes`, for `at_most` so long of this thread's own time; 8 us
/// for each process, and 4 us for each descriptor of those that may be looked into. Who is `likely` to have
/// them is looked at first, and in any case.
///
/// # Errors
///
/// There is no `/proc`, or it is that of another pid namespace. Or no descriptor is left, so that some might
/// be missed.
pub(crate) fn owners(inodes: &[u64], likely: &[u32], at_most: Duration) -> io::Result<Owners> {
    let (start, own_start) = (Instant::now(), own_time());
    let is_over = || {
        // By the clock alone, who is kept waiting for a CPU would see nobody.
        let own = own_time().saturating_sub(own_start);
        own >= at_most || start.elapsed() >= at_most.saturating_mul(BUSY)
    };
    let is_likely = |entry: &ProcessEntry| likely.contains(&entry.id.pid);
    let mut all = process::processes()?;
    all.sort_by_key(|entry| !is_likely(entry));
    let mut owners = Owners::default();
    for entry in all {
        if is_over() && !is_likely(&entry) {
            owners.is_late = true;
            break;
        }
        match process::sockets_of(entry.id.pid) {
            Ok(sockets) => {
                let mut own: Vec<u64> =
                    sockets.into_iter().filter(|inode| inodes.contains(inode)).collect();
                own.sort_unstable();
                own.dedup();
                owners.found.extend(own.into_iter().map(|inode| (inode, entry.id)));
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                owners.is_partial = true;
            }
            Err(error) if super::is_out_of_descriptors(&error) => return Err(error),
            Err(_) => {} // it has just ended
        }
    }
    Ok(owners)
}

/// For how long the calling thread had a CPU; nothing where that is not counted.
fn own_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to `time`, which outlives the call.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    let time = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    match time {
        (Ok(seconds), Ok(nanos)) if result == 0 => Duration::new(seconds, nanos),
        _ => Duration::ZERO,
    }
}

/// How long ago a process was started.
pub(crate) fn process_age(id: ProcessId) -> Option<Duration> {
    let uptime = read("/proc/uptime", 100)?;
    let uptime: f64 = uptime.split_ascii_whitespace().next()?.parse().ok()?;
    // SAFETY: `sysconf` takes an integer and touches no memory of ours.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let start = id.start as f64 / u32::try_from(ticks).ok().filter(|&ticks| ticks > 0)? as f64;
    Duration::try_from_secs_f64((uptime - start).max(0.0)).ok()
}

/// The unit of systemd that a process belongs to, if that is a service.
pub(crate) fn process_service(pid: u32) -> Option<Service> {
    service_of(&read(&format!("/proc/{pid}/cgroup"), 64 << 10)?)
}

/// Lines such as `0::/system.slice/nginx.service`; cgroups(7).
fn service_of(cgroups: &str) -> Option<Service> {
    let mut paths = cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    // `user@1000.service` is all that a user has, and below it are the services of his own.
    let is_user = |part: &str| part.starts_with("user@") && part.ends_with(".service");
    paths.find_map(|path| {
        let unit = path.split('/').rfind(|part| part.ends_with(".service") && !is_user(part))?;
        Some(Service { unit: unit.to_owned(), is_users: path.split('/').any(is_user) })
    })
}

/// The name of a user, if `/etc/passwd` knows it.
pub(crate) fn user_name(uid: u32) -> Option<String> {
    let users = read("/etc/passwd", MAX_FILE)?;
    user_in(&users, uid).map(str::to_owned)
}

/// Lines such as `www-data:x:33:33:...`; passwd(5).
fn user_in(users: &str, uid: u32) -> Option<&str> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

fn read(path: &str, at_most: u64) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(at_most).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_socket_of_ours_is_found_with_us() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let inode = process::inode(&listener).expect("an inode");
        let owners = owners(&[inode], &[], Duration::MAX).expect("/proc");
        let pids: Vec<_> = owners.found.iter().map(|&(inode, id)| (inode, id.pid)).collect();
        assert!(pids.contains(&(inode, std::process::id())), "{pids:?}");
    }

    #[test]
    fn no_time_to_look_is_said() {
        let owners = owners(&[1], &[], Duration::ZERO).expect("/proc");
        assert!(owners.is_late && owners.found.is_empty());
    }

    #[test]
    fn who_is_likely_is_looked_at_in_any_case() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let inode = process::inode(&listener).expect("an inode");
        let own = std::process::id();
        let owners = owners(&[inode], &[own], Duration::ZERO).expect("/proc");
        let pids: Vec<_> = owners.found.iter().map(|&(_, id)| id.pid).collect();
        assert!(owners.is_late && pids == [own], "{owners:?}");
    }

    #[test]
    fn the_age_of_a_process() {
        let pid = std::process::id();
        let age = |start| process_age(ProcessId { pid, start }).expect("an age");
        let begun = Instant::now();
        let (older, younger) = (age(0), age(100)); // a hundred ticks are a second
        let (between, took) = (older.saturating_sub(younger), begun.elapsed());
        let (tick, second) = (Duration::from_millis(10), Duration::from_secs(1));
        assert!(between <= second + tick && between + took + tick >= second, "{between:?}");
        let start = process::process_start(pid).expect("/proc");
        assert!(age(start) < Duration::from_secs(3600));
    }

    #[test]
    fn services() {
        let check = |text: &str, expected: Option<&str>| {
            let found = service_of(text).filter(|it| !it.is_users).map(|it| it.unit);
            assert_eq!(found.as_deref(), expected, "{text:?}");
        };
        let users = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/pg.service\n";
        let unit = "pg.service".to_owned();
        assert_eq!(service_of(users), Some(Service { unit, is_users: true }));
        check("0::/system.slice/nginx.service\n", Some("nginx.service"));
        check("0::/system.slice/system-pg.slice/pg@15-main.service", Some("pg@15-main.service"));
        check("0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope", None);
        check("12:pids:/a\n1:name=systemd:/system.slice/ssh.service\n0::/\n", Some("ssh.service"));
        check("0::/user.slice/user-1000.slice/session-3.scope", None);
        check("0::/docker/4711", None);
        check("", None);
        check("::::", None);
    }

    #[test]
    fn users() {
        let users =
            "root:x:0:0:root:/root:/bin/bash\n:x:1:1::/:\nweb:x:33:33::/:\nshort\nbad:x:y:\n";
        for (uid, expected) in [(0, Some("root")), (1, None), (33, Some("web")), (34, None)] {
            assert_eq!(user_in(users, uid), expected, "{uid}");
        }
        assert_eq!(user_name(0).as_deref(), Some("root"));
    }
}
