//! What a server can be sent.

/// A signal for a server.
///
/// On Windows, where there are none, [`Terminate`](Signal::Terminate), [`Interrupt`](Signal::Interrupt) and
/// [`Quit`](Signal::Quit) are a Ctrl-Break, which goes to the server and to what it started, if they share
/// this process's console; [`Kill`](Signal::Kill) ends the process; and the others are an error. Not
/// everybody ends by a Ctrl-Break: Java prints its threads and goes on, until the grace is over. A program
/// that waits for Ctrl-C (`tokio::signal::ctrl_c`) does not hear it, and is ended by it at once
/// (`tokio::signal::windows::ctrl_break` does).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Signal {
    /// `SIGTERM`: end.
    Terminate,
    /// `SIGINT`: end, as by Ctrl-C.
    Interrupt,
    /// `SIGQUIT`: end, for some servers after their clients.
    Quit,
    /// `SIGHUP`: for many servers, read the configuration anew.
    Hangup,
    /// `SIGUSR1`.
    User1,
    /// `SIGUSR2`.
    User2,
    /// `SIGSTOP`: stop until [`Signal::Continue`]; cannot be ignored.
    Stop,
    /// `SIGCONT`: go on.
    Continue,
    /// `SIGKILL`: end at once; cannot be ignored.
    Kill,
}
