//! What ends a server when its harness dies first, on Windows: a job object.
//!
//! The server is created suspended, put into a job, and only then runs; whatever it starts is in the job
//! too. The job is ended by the kernel when its last handle is closed, and this process has the only one.
//! So when this process ends, in whatever way, all of the server does, at once: there is nobody left who
//! could ask it to.
//!
//! # What this does not guarantee
//!
//! - A harness that is killed between the server's creation and its way into the job leaves a process behind
//!   that has never run, and holds no port. (To be created in the job takes an attribute that std's
//!   `Command` cannot be given with a stable compiler.)
//! - The lock of a leased port is freed with this process, and not after the server: a lock is the process's,
//!   and no copy of the handle keeps it. The next lease of that port is refused for as long as the server's
//!   socket is there.
//! - A process that was allowed to break away from its job (a service, the task scheduler) is not in it.
//! - A server's directory is not removed if this process is killed.

use std::fs::File;
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, HandleOrInvalid, OwnedHandle};
use std::os::windows::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_INVALID_PARAMETER, ERROR_MORE_DATA, HANDLE,
};
use windows_sys::Win32::System::Console::{CTRL_BREAK_EVENT, GenerateConsoleCtrlEvent};
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, TH32CS_SNAPTHREAD, THREADENTRY32, Thread32First, Thread32Next,
};
use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
    JOBOBJECT_BASIC_PROCESS_ID_LIST, JOBOBJECT_EXTENDED_LIMIT_INFORMATION,
    JobObjectBasicProcessIdList, JobObjectExtendedLimitInformation, QueryInformationJobObject,
    SetInformationJobObject, TerminateJobObject,
};
use windows_sys::Win32::System::Threading::{
    CREATE_NEW_PROCESS_GROUP, CREATE_SUSPENDED, OpenProcess, OpenThread, PROCESS_SYNCHRONIZE,
    PROCESS_TERMINATE, ResumeThread, THREAD_SUSPEND_RESUME, TerminateProcess,
    WaitForMultipleObjects,
};

use super::Signal;
use super::id::{ProcessEntry, ProcessId};

/// What it is, for errors.
pub(crate) const WATCHDOG: &str = "make a job object, which watches over each server";

/// A lock is of the process that took it.
pub(crate) const COPIES_KEEP_LOCKS: bool = false;

/// How a process ends that is not asked.
const KILLED: u32 = 1;

/// The most members of a job that are told of.
const MAX_MEMBERS: usize = 1024;

/// As many as one call waits for.
const MAX_WAITED: usize = 64;

/// How long is waited where nothing tells when a process has ended.
const NAP: Duration = Duration::from_millis(5);

/// Ends the processes of its job when this value is gone.
#[derive(Debug)]
pub(crate) struct Watchdog {
    job: OwnedHandle,
}

impl Watchdog {
    /// Makes one. It keeps no locks, grants no grace, and removes no directory.
    pub(crate) fn spawn(
        _locks: Vec<File>,
        _grace: Duration,
        _dir: &Path,
    ) -> io::Result<Option<Watchdog>> {
        // SAFETY: both pointers may be null: no attributes, no name. The handle is not inherited.
        let job = unsafe { CreateJobObjectW(ptr::null(), ptr::null()) };
        if job.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has just made it, so nobody else owns it.
        let job = unsafe { OwnedHandle::from_raw_handle(job) };
        let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
        limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
        // SAFETY: the job is open; the pointer is to `limits`, which is of the type and the size that are
        // said, and outlives the call.
        let done = unsafe {
            SetInformationJobObject(
                job.as_raw_handle(),
                JobObjectExtendedLimitInformation,
                (&raw const limits).cast(),
                size_of_val(&limits) as u32,
            )
        };
        if done == 0 { Err(io::Error::last_os_error()) } else { Ok(Some(Watchdog { job })) }
    }

    /// Nobody but this process asks a server to end.
    #[allow(clippy::unnecessary_wraps, clippy::unused_self)] // as on Unix, where it may fail
    pub(crate) fn tell(&mut self, _: Signal) -> io::Result<()> {
        Ok(())
    }

    /// It is no process, and leads no group.
    #[allow(clippy::unused_self)]
    pub(crate) fn pid(&self) -> Option<u32> {
        None
    }

    /// Takes the server in, and lets it run.
    pub(crate) fn admit(&self, server: &mut Child) -> io::Result<()> {
        // SAFETY: both handles are open.
        let done =
            unsafe { AssignProcessToJobObject(self.job.as_raw_handle(), server.as_raw_handle()) };
        let admitted = match done {
            0 => Err(io::Error::last_os_error()),
            _ => resume(server.id()),
        };
        if admitted.is_err() {
            let _ = server.kill().and_then(|()| server.wait());
        }
        admitted
    }

    /// Who of the job lives.
    pub(crate) fn members(&self) -> Vec<ProcessEntry> {
        let entry = |&pid: &usize| {
            let pid = u32::try_from(pid).ok()?;
            let id = ProcessId { pid, start: 0 };
            Some(ProcessEntry { id, parent: 0, group: 0, session: 0 })
        };
        self.pids().iter().filter_map(entry).collect()
    }

    fn pids(&self) -> Vec<usize> {
        // Two counts of 32 bits, and the pids.
        const HEAD: usize = size_of::<JOBOBJECT_BASIC_PROCESS_ID_LIST>() - size_of::<usize>();
        const { assert!(HEAD == 8 && size_of::<usize>() >= 4) };
        let mut list = vec![0_usize; HEAD.div_ceil(size_of::<usize>()) + MAX_MEMBERS];
        // SAFETY: the job is open; the pointer is to `list`, which is as large as is said, aligned as the
        // structure is, and outlives the call.
        let done = unsafe {
            QueryInformationJobObject(
                self.job.as_raw_handle(),
                JobObjectBasicProcessIdList,
                list.as_mut_ptr().cast(),
                size_of_val(list.as_slice()) as u32,
                ptr::null_mut(),
            )
        };
        // Of more than there is room for, as many are told as fit.
        let is_cut = || io::Error::last_os_error().raw_os_error() == Some(ERROR_MORE_DATA as i32);
        if done == 0 && !is_cut() {
            return Vec::new();
        }
        // SAFETY: the call has filled the structure in, which begins where `list` does.
        let count = unsafe {
            (*list.as_ptr().cast::<JOBOBJECT_BASIC_PROCESS_ID_LIST>()).NumberOfProcessIdsInList
        };
        list.drain(..HEAD.div_ceil(size_of::<usize>()));
        list.truncate(count as usize);
        list
    }

    /// It takes no part in what its servers are sent.
    #[allow(clippy::unused_self)]
    pub(crate) fn brace(&mut self) {}

    /// Ends all of the job.
    pub(crate) fn kill_group(&self) {
        // SAFETY: the job is open.
        unsafe { TerminateJobObject(self.job.as_raw_handle(), KILLED) };
    }

    /// The same, since it is none of them itself.
    pub(crate) fn kill_members(&self) -> bool {
        self.kill_group();
        true
    }

    pub(crate) fn dismiss(watchdog: Option<Watchdog>) {
        drop(watchdog);
    }

    pub(crate) fn reap(self) {}
}

/// Children of `command` begin suspended, and in a group of their own, to which a Ctrl-Break can be sent;
/// flags that were set on it are replaced.
pub(crate) fn lead_group(command: &mut Command, _: Option<u32>) {
    command.creation_flags(CREATE_NEW_PROCESS_GROUP | CREATE_SUSPENDED);
}

/// As [`lead_group`], for who is not admitted by a watchdog: they run at once.
pub(crate) fn lead_own_group(command: &mut Command) {
    command.creation_flags(CREATE_NEW_PROCESS_GROUP);
}

/// Lets a process run that began suspended. It has one thread, whose handle std has closed.
fn resume(pid: u32) -> io::Result<()> {
    // SAFETY: it takes integers, and makes a handle or says that it is none.
    let snapshot =
        unsafe { HandleOrInvalid::from_raw_handle(CreateToolhelp32Snapshot(TH32CS_SNAPTHREAD, 0)) };
    let snapshot = OwnedHandle::try_from(snapshot).map_err(|_| io::Error::last_os_error())?;
    let mut entry =
        THREADENTRY32 { dwSize: size_of::<THREADENTRY32>() as u32, ..THREADENTRY32::default() };
    // SAFETY: the snapshot is open; the pointer is to `entry`, whose size it tells, and which outlives
    // the calls.
    let mut more = unsafe { Thread32First(snapshot.as_raw_handle(), &raw mut entry) };
    while more != 0 {
        if entry.th32OwnerProcessID == pid {
            // SAFETY: it takes integers, and makes a handle or null.
            let thread = unsafe { OpenThread(THREAD_SUSPEND_RESUME, 0, entry.th32ThreadID) };
            if thread.is_null() {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: the call has just made it, so nobody else owns it.
            let thread = unsafe { OwnedHandle::from_raw_handle(thread) };
            // SAFETY: the thread is open.
            return match unsafe { ResumeThread(thread.as_raw_handle()) } {
                u32::MAX => Err(io::Error::last_os_error()),
                _ => Ok(()),
            };
        }
        // SAFETY: as above.
        more = unsafe { Thread32Next(snapshot.as_raw_handle(), &raw mut entry) };
    }
    Err(io::Error::from(io::ErrorKind::NotFound))
}

/// Sends `signal` to the processes of a group that have our console. The caller must know that the number
/// still means its group: who leads it has not been waited for.
///
/// # Errors
///
/// `Unsupported`: nobody can be asked by this.
pub(crate) fn signal_group(group: u32, signal: Signal) -> io::Result<()> {
    match signal {
        Signal::Terminate | Signal::Interrupt | Signal::Quit => {
            // 0 would mean everybody who has our console. SAFETY: it takes two integers.
            let sent =
                group != 0 && unsafe { GenerateConsoleCtrlEvent(CTRL_BREAK_EVENT, group) } != 0;
            if sent { Ok(()) } else { Err(cannot_ask()) }
        }
        Signal::Kill => signal_process(group, signal),
        Signal::Continue => Ok(()), // nobody was stopped
        Signal::Hangup | Signal::User1 | Signal::User2 | Signal::Stop => Err(no_such_signal()),
    }
}

/// Sends `signal` to one process, or to its group if it cannot be sent to less. The caller must know that
/// the number still means that process: this one has a handle of it.
pub(crate) fn signal_process(pid: u32, signal: Signal) -> io::Result<()> {
    if signal != Signal::Kill {
        return signal_group(pid, signal);
    }
    let process = open(PROCESS_TERMINATE, pid)?;
    // SAFETY: the process is open.
    match unsafe { TerminateProcess(process.as_raw_handle(), KILLED) } {
        // As it is said of one that has ended, too; and whoever has its handle could end it.
        0 if io::Error::last_os_error().raw_os_error() == Some(ERROR_ACCESS_DENIED as i32) => {
            Ok(())
        }
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// As it is where this process has no console.
fn cannot_ask() -> io::Error {
    let why = io::Error::last_os_error();
    let message = format!("a Ctrl-Break cannot be sent, which takes a console: {why}");
    io::Error::new(io::ErrorKind::Unsupported, message)
}

fn no_such_signal() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "Windows has no such signal")
}

/// Waits until every process of `pids` has ended, or `timeout` has passed. May return early.
pub(crate) fn wait_for_exit(pids: &[u32], timeout: Duration) {
    wait_for_opened(pids.iter().map(|&pid| open(PROCESS_SYNCHRONIZE, pid)), timeout);
}

/// Waits until nobody is left of a group: here that is seen, by asking the job.
pub(crate) fn wait_for_group(_: u32) {}

fn wait_for_opened(opened: impl Iterator<Item = io::Result<OwnedHandle>>, timeout: Duration) {
    let deadline = Instant::now() + timeout;
    let mut processes = Vec::new();
    for opened in opened {
        match opened {
            Ok(process) => processes.push(process),
            Err(error) if is_no_such_process(&error) => {} // it has ended
            // It may live: a short nap, and the caller looks again.
            Err(_) => return thread::sleep(timeout.min(NAP)),
        }
    }
    for processes in processes.chunks(MAX_WAITED) {
        let handles: Vec<HANDLE> = processes.iter().map(AsRawHandle::as_raw_handle).collect();
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up: a wait of 0.4 ms must not become a busy loop of waits of 0 ms. The highest number
        // would mean for ever.
        let millis = u32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u32::MAX);
        let (count, all) = (handles.len() as u32, 1);
        // SAFETY: the pointer and the count describe `handles`, which are open, and outlive the call.
        unsafe {
            WaitForMultipleObjects(count, handles.as_ptr(), all, millis.min(u32::MAX - 1));
        }
    }
}

fn is_no_such_process(error: &io::Error) -> bool {
    error.raw_os_error() == Some(ERROR_INVALID_PARAMETER as i32)
}

fn open(right: u32, pid: u32) -> io::Result<OwnedHandle> {
    if pid == 0 {
        return Err(io::Error::from_raw_os_error(ERROR_INVALID_PARAMETER as i32));
    }
    // SAFETY: it takes integers, and makes a handle, not inherited, or null.
    let process = unsafe { OpenProcess(right, 0, pid) };
    if process.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just made it, so nobody else owns it.
    Ok(unsafe { OwnedHandle::from_raw_handle(process) })
}

#[cfg(test)]
mod tests {
    use std::iter;
    use std::process::Stdio;

    use windows_sys::Win32::Foundation::ERROR_ACCESS_DENIED;

    use super::*;

    /// `cmd` waits for its input; nobody writes any.
    fn waiting() -> Command {
        let mut command = Command::new("cmd");
        command.args(["/c", "set /p x="]).stdin(Stdio::piped()).stdout(Stdio::null());
        command
    }

    fn admitted(watchdog: &Watchdog) -> Child {
        let mut command = waiting();
        lead_group(&mut command, None);
        let mut child = command.spawn().expect("cmd");
        wait_for_exit(&[child.id()], Duration::from_millis(20)); // suspended
        assert!(watchdog.members().is_empty());
        watchdog.admit(&mut child).expect("admitted");
        child
    }

    fn watchdog() -> Watchdog {
        Watchdog::spawn(Vec::new(), Duration::ZERO, Path::new("")).expect("a job").expect("one")
    }

    #[test]
    fn who_is_admitted_is_a_member_and_runs() {
        let watchdog = watchdog();
        let mut child = admitted(&watchdog);
        let pids: Vec<u32> = watchdog.members().iter().map(|entry| entry.id.pid).collect();
        assert_eq!(pids, [child.id()]);
        drop(child.stdin.take()); // it reads the end, so it runs
        assert!(child.wait().is_ok());
        assert!(watchdog.members().is_empty());
    }

    #[test]
    fn the_job_ends_with_its_handle() {
        let watchdog = watchdog();
        let mut child = admitted(&watchdog);
        assert!(child.try_wait().expect("wait").is_none());
        drop(watchdog);
        wait_for_exit(&[child.id()], Duration::from_secs(60));
        assert!(child.try_wait().expect("wait").is_some());
    }

    #[test]
    fn who_may_not_be_opened_is_not_taken_for_ended() {
        let waited = |error: u32, timeout: Duration| {
            let start = Instant::now();
            let opened = iter::once(Err(io::Error::from_raw_os_error(error as i32)));
            wait_for_opened(opened, timeout);
            start.elapsed()
        };
        let long = Duration::from_secs(60);
        assert!((NAP..long).contains(&waited(ERROR_ACCESS_DENIED, long)));
        assert!(waited(ERROR_ACCESS_DENIED, Duration::from_millis(1)) >= Duration::from_millis(1));
        assert!(waited(ERROR_INVALID_PARAMETER, long) < long);
        assert!(is_no_such_process(&open(PROCESS_SYNCHRONIZE, 0).expect_err("none")));
        assert!(is_no_such_process(&open(PROCESS_SYNCHRONIZE, 0x7fff_fff0).expect_err("none")));
    }

    #[test]
    fn what_is_asked_for_is_sent_or_said_not_to_be() {
        let watchdog = watchdog();
        let mut child = admitted(&watchdog);
        for signal in [Signal::Hangup, Signal::User1, Signal::User2, Signal::Stop] {
            let error = signal_group(child.id(), signal).expect_err("no such signal");
            assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{signal:?}");
        }
        // Whether there is a console is not known, nor whether `cmd` ends by it.
        if let Err(error) = signal_group(child.id(), Signal::Terminate) {
            assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{error}");
        }
        assert!(signal_group(0, Signal::Kill).is_err() && signal_process(0, Signal::Kill).is_err());
        signal_process(child.id(), Signal::Kill).expect("killed");
        assert!(!child.wait().expect("its end").success());
    }
}
