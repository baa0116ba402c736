//! What Windows offers: files, sockets and the user.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::os::windows::ffi::OsStringExt;
use std::os::windows::fs::{FileExt, OpenOptionsExt};
use std::os::windows::io::{AsRawHandle, AsRawSocket, FromRawHandle, OwnedHandle};
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::{Mutex, PoisonError};

use socket2::Socket;
use windows_sys::Win32::Foundation::{ERROR_NOT_ENOUGH_MEMORY, ERROR_TOO_MANY_OPEN_FILES};
use windows_sys::Win32::Networking::WinSock;
use windows_sys::Win32::Security::TOKEN_QUERY;
use windows_sys::Win32::Storage::FileSystem::{
    FILE_FLAG_OPEN_REPARSE_POINT, FILE_SHARE_READ, FILE_SHARE_WRITE,
};
use windows_sys::Win32::System::IO::DeviceIoControl;
use windows_sys::Win32::System::Ioctl::FSCTL_SET_SPARSE;
use windows_sys::Win32::System::SystemInformation::GetTickCount64;
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};
use windows_sys::Win32::UI::Shell::GetUserProfileDirectoryW;

/// What shows people who has which port.
pub(crate) const LIST_SOCKETS: &str = "netstat -ano";

/// Keeps those who clean up from a file that was locked: here they cannot remove what is open.
pub(crate) fn keep_from_cleaners(_: &File) {}

/// Why this process may not bind `port`: low ones take no privilege here.
#[allow(clippy::unnecessary_wraps)] // as on Unix, where not every number tells
pub(crate) fn why_excluded(_: u16) -> Option<&'static str> {
    Some(
        "`netsh int ipv4 show excludedportrange protocol=tcp` shows what is reserved; so it does for \
         ipv6, and for udp",
    )
}

/// The end of a pipe at which the output of a child is read, by one thread.
pub(crate) struct Pipe(Mutex<Box<dyn Read + Send>>);

impl Pipe {
    pub(crate) fn new(end: impl Read + Send + 'static) -> Pipe {
        Pipe(Mutex::new(Box::new(end)))
    }

    pub(crate) fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).read(bytes)
    }

    /// Whether something has come that was not read: nobody knows, since a question to a pipe that is being
    /// read may have to wait for what is printed next.
    pub(crate) fn has_unread(&self) -> bool {
        false
    }
}

/// Opens, or creates, a file to be locked.
///
/// Follows no symbolic link. While it is open, nobody can delete or rename it, so that a path always
/// names the file that was locked.
pub(crate) fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .share_mode(FILE_SHARE_READ | FILE_SHARE_WRITE)
        .custom_flags(FILE_FLAG_OPEN_REPARSE_POINT)
        .open(path)
}

/// Lets what was never written of `file` take no space, which NTFS would fill with zeros otherwise. Where the
/// file system cannot do that, it takes some.
pub(crate) fn make_sparse(file: &File) {
    let mut returned = 0;
    // SAFETY: the handle is open. This request takes nothing and gives nothing, so that the buffers may be
    // null; `returned` outlives the call; null again, it is not overlapped.
    unsafe {
        DeviceIoControl(
            file.as_raw_handle(),
            FSCTL_SET_SPARSE,
            ptr::null(),
            0,
            ptr::null_mut(),
            0,
            &raw mut returned,
            ptr::null_mut(),
        );
    }
}

/// Whether a file that is open has no name any more: see [`open_private`].
pub(crate) fn is_unlinked(_: &Metadata) -> bool {
    false
}

/// Whether a file that is open is the one of that name: see [`open_private`].
pub(crate) fn same_file(_: &Metadata, _: &Metadata) -> bool {
    true
}

/// Where the registry is if nobody says so: in this user's profile, by the account and not by what the
/// environment says, which jobs set differently.
pub(crate) fn registry_dir() -> io::Result<PathBuf> {
    let local = profile_dir()?.join("AppData").join("Local");
    fs::create_dir_all(&local)?;
    Ok(local.join("portlease"))
}

fn profile_dir() -> io::Result<PathBuf> {
    let mut token = ptr::null_mut();
    // SAFETY: the first argument stands for this process; the pointer is to `token`, which outlives the
    // call.
    if unsafe { OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &raw mut token) } == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just made it, so nobody else owns it.
    let token = unsafe { OwnedHandle::from_raw_handle(token) };
    let mut path = [0_u16; 1024];
    let mut length = path.len() as u32;
    // SAFETY: the token is open; the pointers are to `path` and to its length, which outlive the call.
    let done = unsafe {
        GetUserProfileDirectoryW(token.as_raw_handle(), path.as_mut_ptr(), &raw mut length)
    };
    if done == 0 {
        return Err(io::Error::last_os_error());
    }
    let end = path.iter().position(|&unit| unit == 0).unwrap_or(path.len());
    Ok(PathBuf::from(OsString::from_wide(&path[..end])))
}

/// Nobody who cleans up has to be kept out, and a directory cannot be locked.
pub(crate) fn open_dir(_: &Path) -> io::Result<Option<File>> {
    Ok(None)
}

/// Creates a directory, with those above it. Who may use it is inherited from the one above, which in a
/// user's profile is that user.
pub(crate) fn create_private_dirs(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// Creates a directory.
pub(crate) fn create_private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().create(path)
}

/// What keeps `metadata`, taken without following links, from being a directory of ours. Who may use it
/// is not looked at.
pub(crate) fn dir_problem(metadata: &Metadata) -> Option<String> {
    if metadata.is_symlink() {
        Some("it is a symbolic link, or a junction".to_owned())
    } else if !metadata.is_dir() {
        Some("it is not a directory".to_owned())
    } else {
        None
    }
}

/// Lets a directory be removed, and what is in it: std removes read-only files too.
pub(crate) fn make_removable(_: &Path) {}

/// Reads what is at `offset`, at most as much as fits; less, or nothing, at the end of the file.
pub(crate) fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    match file.seek_read(bytes, offset) {
        // Other threads read and write likewise: nobody uses the file's own position.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
        result => result,
    }
}

/// Writes all of `bytes` at `offset`.
pub(crate) fn write_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = file.seek_write(bytes, offset)?;
        if written == 0 {
            return Err(io::Error::from(io::ErrorKind::WriteZero));
        }
        (bytes, offset) = (&bytes[written..], offset + written as u64);
    }
    Ok(())
}

/// No limit ends a process that writes beyond it.
pub(crate) fn max_file_size() -> u64 {
    u64::MAX
}

/// The time of a clock that is the same for all processes, and never set.
pub(crate) fn monotonic_millis() -> u64 {
    // SAFETY: it takes nothing and always succeeds.
    unsafe { GetTickCount64() }
}

/// Users have no numbers here, and nobody looks at what is theirs.
pub(crate) fn is_hidden_user(_: u32) -> bool {
    true
}

/// The dynamic ports, as they are since Windows Vista unless `netsh` has changed them.
pub(crate) fn ephemeral_ports() -> Option<RangeInclusive<u16>> {
    Some(49_152..=65_535)
}

/// Lets a bind succeed only if nobody else is bound there, whatever his options. On the wildcard, it is
/// refused by a socket on any address.
pub(crate) fn bind_alone(socket: &Socket) -> io::Result<()> {
    let yes = 1_i32;
    // SAFETY: the socket is open; the pointer is to `yes`, which is as large as is said, and outlives the
    // call.
    let result = unsafe {
        WinSock::setsockopt(
            socket.as_raw_socket() as WinSock::SOCKET,
            WinSock::SOL_SOCKET,
            WinSock::SO_EXCLUSIVEADDRUSE,
            (&raw const yes).cast(),
            size_of_val(&yes) as i32,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets connections in TIME_WAIT be no obstacle to a bind: without options, they are none here.
/// `SO_REUSEADDR` would let it join who is bound.
pub(crate) fn bind_over_time_wait(_: &Socket) -> io::Result<()> {
    Ok(())
}

pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    const FILES: i32 = ERROR_TOO_MANY_OPEN_FILES as i32;
    const MEMORY: i32 = ERROR_NOT_ENOUGH_MEMORY as i32;
    matches!(error.raw_os_error(), Some(FILES | MEMORY | WinSock::WSAEMFILE))
}

pub(crate) fn is_no_such_family(error: &io::Error) -> bool {
    error.raw_os_error() == Some(WinSock::WSAEAFNOSUPPORT)
}
