//! The crate's error: opaque, one word wide.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use crate::diagnosis::Diagnosis;
use crate::sys;

/// A result whose error is this crate's.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, of which port, and what to do about it.
///
/// [`Display`](fmt::Display) names the operation, the object, what was seen, and the next step, and
/// leaves the cause to [`source`](StdError::source). It converts into an [`io::Error`] of the same
/// kind.
///
/// # Examples
///
/// ```
/// use portlease::{ErrorKind, Lease};
///
/// let held = portlease::lease()?;
/// let error = Lease::builder().exact(held.port()).lease().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::PortTaken);
/// assert_eq!(error.port(), Some(held.port()));
/// # Ok::<(), portlease::Error>(())
/// ```
pub struct Error {
    inner: Box<Inner>,
}

struct Inner {
    kind: ErrorKind,
    message: String,
    port: Option<u16>,
    diagnosis: Option<Diagnosis>,
    output: Option<String>,
    source: Option<io::Error>,
}

/// The kinds of an [`Error`], by what its reader can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No port of the range could be leased.
    Exhausted,
    /// The port that was asked for is leased, or bound by another program.
    PortTaken,
    /// The system does not let this process bind the port: it is privileged, or excluded.
    PortExcluded,
    /// A setting is wrong: a range, an environment variable, a combination of options.
    InvalidInput,
    /// The registry's directory, or a file in it, cannot be used.
    Registry,
    /// The process, or the system, is out of file descriptors.
    OutOfDescriptors,
    /// The server's program could not be started.
    Spawn,
    /// The server has ended, before it was ready or before what was waited for; or it is not running.
    Exited,
    /// The server was not ready in time, or did not print the line that was waited for.
    NotReady,
    /// The server could not be stopped.
    NotStopped,
    /// Another system call failed.
    Io,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        let message = message.into();
        let inner =
            Inner { kind, message, port: None, diagnosis: None, output: None, source: None };
        Error { inner: Box::new(inner) }
    }

    /// A failed system call: `doing` says what was tried ("lock /tmp/x").
    pub(crate) fn io(kind: ErrorKind, doing: impl fmt::Display, source: io::Error) -> Error {
        if sys::is_out_of_descriptors(&source) {
            return Error::new(
                ErrorKind::OutOfDescriptors,
                format!(
                    "failed to {doing}: no file descriptor is left (each lease takes two); \
                     release leases that are no longer needed, or raise the limit (`ulimit -n`)"
                ),
            )
            .with_source(source);
        }
        Error::new(kind, format!("failed to {doing}")).with_source(source)
    }

    pub(crate) fn with_source(mut self, source: io::Error) -> Error {
        self.inner.source = Some(source);
        self
    }

    pub(crate) fn with_port(mut self, port: u16) -> Error {
        self.inner.port = Some(port);
        self
    }

    pub(crate) fn with_diagnosis(mut self, diagnosis: Diagnosis) -> Error {
        self.inner.port = Some(diagnosis.port());
        self.inner.diagnosis = Some(diagnosis);
        self
    }

    pub(crate) fn with_output(mut self, output: String) -> Error {
        self.inner.output = Some(output);
        self
    }

    /// This error, of a part of what is named.
    pub(crate) fn within(mut self, whole: impl fmt::Display) -> Error {
        self.inner.message = format!("{whole}: {}", self.inner.message);
        self
    }

    /// This error, after which another came while its consequences were being dealt with.
    pub(crate) fn and_then(mut self, next: Error) -> Error {
        self.inner.message.push_str(&format!("; and then: {}", next.inner.message));
        self.inner.output = self.inner.output.or(next.inner.output);
        self
    }

    /// Which kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// The port that it is about, where it is about one.
    pub fn port(&self) -> Option<u16> {
        self.inner.port
    }

    /// Who had the port when this happened, where that is the reason.
    pub fn diagnosis(&self) -> Option<&Diagnosis> {
        self.inner.diagnosis.as_ref()
    }

    /// The last that the server printed, where it is about a server.
    pub fn output(&self) -> Option<&str> {
        self.inner.output.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)?;
        if let Some(diagnosis) = &self.inner.diagnosis {
            diagnosis.lines().try_for_each(|line| write!(f, "\n  {line}"))?;
        }
        match self.output().map(str::trim_end) {
            Some("") => f.write_str("\n  it printed nothing"),
            Some(output) => {
                f.write_str("\n  the last it printed:")?;
                output.lines().try_for_each(|line| write!(f, "\n    {line}"))
            }
            None => Ok(()),
        }
    }
}

/// The same text as [`Display`](fmt::Display), with the cause: it is what `unwrap` prints into the
/// log of a failed test.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.inner.kind)?;
        match &self.inner.source {
            Some(source) => write!(f, "\n  caused by: {source}"),
            None => Ok(()),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_ref().map(|source| source as _)
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = match error.kind() {
            ErrorKind::PortTaken | ErrorKind::Exhausted => io::ErrorKind::AddrInUse,
            ErrorKind::PortExcluded => io::ErrorKind::PermissionDenied,
            ErrorKind::InvalidInput => io::ErrorKind::InvalidInput,
            ErrorKind::NotReady | ErrorKind::NotStopped => io::ErrorKind::TimedOut,
            _ => error.inner.source.as_ref().map_or(io::ErrorKind::Other, io::Error::kind),
        };
        io::Error::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_word_wide_and_crosses_threads() {
        fn crosses_threads<T: Send + Sync + 'static>() {}
        crosses_threads::<Error>();
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }

    #[test]
    fn display_leaves_the_cause_to_source_and_debug_has_both() {
        let cause = io::Error::from(io::ErrorKind::StorageFull);
        let error = Error::io(ErrorKind::Registry, "lock the slot", cause);
        assert_eq!(error.to_string(), "failed to lock the slot");
        assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("no storage space"));
        assert_eq!(
            format!("{error:?}"),
            "Registry: failed to lock the slot\n  caused by: no storage space"
        );
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn as_an_io_error_it_has_the_kind_of_what_was_seen() {
        let kind = |kind| io::Error::from(Error::new(kind, "it failed")).kind();
        assert_eq!(kind(ErrorKind::PortTaken), io::ErrorKind::AddrInUse);
        assert_eq!(kind(ErrorKind::Exhausted), io::ErrorKind::AddrInUse);
        assert_eq!(kind(ErrorKind::PortExcluded), io::ErrorKind::PermissionDenied);
        assert_eq!(kind(ErrorKind::InvalidInput), io::ErrorKind::InvalidInput);
        assert_eq!(kind(ErrorKind::NotReady), io::ErrorKind::TimedOut);
        assert_eq!(kind(ErrorKind::NotStopped), io::ErrorKind::TimedOut);
        assert_eq!(kind(ErrorKind::Exited), io::ErrorKind::Other);
    }

    #[test]
    fn of_two_the_first_gives_the_kind_and_what_was_printed() {
        let error = |text: &str| Error::new(ErrorKind::NotStopped, text);
        let silent = Error::new(ErrorKind::Exited, "it ended");
        let both = silent.and_then(error("one stays").with_output("a".to_owned()));
        let three = both.and_then(error("two stay").with_output("b".to_owned()));
        assert_eq!(three.kind(), ErrorKind::Exited);
        let text =
            "it ended; and then: one stays; and then: two stay\n  the last it printed:\n    a";
        assert_eq!(three.to_string(), text);
    }

    #[test]
    fn output_is_indented_below_the_message() {
        let error = Error::new(ErrorKind::Exited, "it ended").with_output("one\ntwo\n".to_owned());
        assert_eq!(error.to_string(), "it ended\n  the last it printed:\n    one\n    two");
        let silent = Error::new(ErrorKind::Exited, "it ended").with_output(String::new());
        assert_eq!(silent.to_string(), "it ended\n  it printed nothing");
    }
}
