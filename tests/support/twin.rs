//! Servers in their two forms: those that block, and, with feature `tokio`, those that are awaited.
//!
//! A scenario is written once, for any [`Twin`], and a [`table`] makes a test of it for each form. What is
//! awaited is awaited in a runtime that is new for each operation, without timers or sockets, and is dropped
//! outside of any: there a drop waits, as that of the other form does. Drops inside are those of the harness
//! (`harness.rs`), and of `awaited.rs`.
#![allow(dead_code, unused_imports, unused_macros)] // the tests use the table; the child program does not

use std::convert::identity;
use std::fmt::Debug;
#[cfg(feature = "tokio")]
use std::future::Future;
use std::net::SocketAddr;
use std::process::{ChildStdin, ExitStatus};
use std::time::Duration;

use portlease::{
    Error, ErrorKind, GroupBuilder, Line, PanicLog, Result, ServerBuilder, Signal, Stopped,
};

/// Makes a test of each scenario for each form, in a module for each. Who writes one and forgets it here
/// is told so by the compiler: nobody calls it.
macro_rules! table {
    ($($(#[$attribute:meta])* $case:ident),+ $(,)?) => {
        mod blocking {
            $(#[test] $(#[$attribute])* fn $case() {
                super::$case::<portlease::Server>();
            })+
        }
        #[cfg(feature = "tokio")]
        mod awaited {
            $(#[test] $(#[$attribute])* fn $case() {
                super::$case::<portlease::tokio::Server>();
            })+
        }
    };
}
pub(crate) use table;

/// A server, in either form.
pub(crate) trait Twin: Debug + Sized + Send + Sync + 'static {
    type Group: TwinGroup<Self>;

    /// Of the module of its tests, and of its roles in the child program.
    const NAME: &'static str;

    /// The whole name of a test of the table.
    fn test(case: &str) -> String {
        format!("{}::{case}", Self::NAME)
    }

    fn start(builder: ServerBuilder) -> Result<Self>;
    fn stop(self) -> Result<Stopped>;
    fn stop_all(servers: Vec<Self>) -> Vec<Result<Stopped>>;
    fn restart(&mut self) -> Result<()>;
    fn wait_for_line(&self, text: &str, at_most: Duration) -> Result<Line>;
    fn wait_for_line_where(
        &self,
        which: &str,
        at_most: Duration,
        matches: impl FnMut(&str) -> bool + Send + 'static,
    ) -> Result<Line>;
    fn wait(&mut self, at_most: Duration) -> Result<Option<ExitStatus>>;
    fn try_wait(&mut self) -> Result<Option<ExitStatus>>;
    fn signal(&self, signal: Signal) -> Result<()>;
    fn take_stdin(&mut self) -> Option<ChildStdin>;
    fn log_on_panic(&self) -> PanicLog;
    fn port(&self) -> u16;
    fn port_of(&self, name: &str) -> Option<u16>;
    fn addr(&self) -> SocketAddr;
    fn url(&self, path: &str) -> String;
    fn name(&self) -> &str;
    fn pid(&self) -> u32;
    fn output(&self) -> String;
    fn lines(&self) -> Vec<Line>;
}

/// The error of one that is not ready in time. On a busy machine, it may not have come so far by then that the
/// error tells what it `is_to_tell`: then it gets more time.
pub(crate) fn not_ready<S: Twin>(
    builder: impl Fn() -> ServerBuilder,
    is_to_tell: impl Fn(&Error) -> bool,
) -> Error {
    let mut patience = Duration::from_secs(2);
    loop {
        let error = S::start(builder().start_timeout(patience)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotReady, "{error}");
        if is_to_tell(&error) {
            return error;
        }
        patience *= 3;
        assert!(patience < Duration::from_secs(60), "{error:?}");
    }
}

/// A group of them.
pub(crate) trait TwinGroup<S>: Debug + Sized {
    fn start(builder: GroupBuilder<'static>) -> Result<Self>;
    fn server(&self, name: &str) -> Result<&S>;
    fn server_mut(&mut self, name: &str) -> Result<&mut S>;
    fn servers(&self) -> Vec<(&str, &S)>;
    fn stop(self) -> Result<Vec<Stopped>>;
}

/// The forms differ in how they start, and in what becomes of that which takes its time.
macro_rules! twin {
    (
        $name:literal,
        $server:ty: $start:path, $stop_all:path, $done:path;
        $group:ty: $start_group:path, $group_done:path
    ) => {
        impl Twin for $server {
            type Group = $group;

            const NAME: &'static str = $name;

            fn start(builder: ServerBuilder) -> Result<Self> {
                $done($start(builder))
            }

            fn stop(self) -> Result<Stopped> {
                $done(self.stop())
            }

            fn stop_all(servers: Vec<Self>) -> Vec<Result<Stopped>> {
                $stop_all(servers)
            }

            fn restart(&mut self) -> Result<()> {
                $done(self.restart())
            }

            fn wait_for_line(&self, text: &str, at_most: Duration) -> Result<Line> {
                $done(self.wait_for_line(text, at_most))
            }

            fn wait_for_line_where(
                &self,
                which: &str,
                at_most: Duration,
                matches: impl FnMut(&str) -> bool + Send + 'static,
            ) -> Result<Line> {
                $done(self.wait_for_line_where(which, at_most, matches))
            }

            fn wait(&mut self, at_most: Duration) -> Result<Option<ExitStatus>> {
                $done(self.wait(at_most))
            }

            fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
                self.try_wait()
            }

            fn signal(&self, signal: Signal) -> Result<()> {
                self.signal(signal)
            }

            fn take_stdin(&mut self) -> Option<ChildStdin> {
                self.take_stdin()
            }

            fn log_on_panic(&self) -> PanicLog {
                self.log_on_panic()
            }

            fn port(&self) -> u16 {
                self.port()
            }

            fn port_of(&self, name: &str) -> Option<u16> {
                self.port_of(name)
            }

            fn addr(&self) -> SocketAddr {
                self.addr()
            }

            fn url(&self, path: &str) -> String {
                self.url(path)
            }

            fn name(&self) -> &str {
                self.name()
            }

            fn pid(&self) -> u32 {
                self.pid()
            }

            fn output(&self) -> String {
                self.output()
            }

            fn lines(&self) -> Vec<Line> {
                self.lines()
            }
        }

        impl TwinGroup<$server> for $group {
            fn start(builder: GroupBuilder<'static>) -> Result<Self> {
                $group_done($start_group(builder))
            }

            fn server(&self, name: &str) -> Result<&$server> {
                self.server(name)
            }

            fn server_mut(&mut self, name: &str) -> Result<&mut $server> {
                self.server_mut(name)
            }

            fn servers(&self) -> Vec<(&str, &$server)> {
                self.servers().collect()
            }

            fn stop(self) -> Result<Vec<Stopped>> {
                $group_done(self.stop())
            }
        }
    };
}

twin!(
    "blocking",
    portlease::Server: ServerBuilder::start, portlease::Server::stop_all, identity;
    portlease::Group: GroupBuilder::start, identity
);

#[cfg(feature = "tokio")]
twin!(
    "awaited",
    portlease::tokio::Server: portlease::tokio::Server::start, joined_stops, block_on;
    portlease::tokio::Group: portlease::tokio::Group::start, block_on_threads
);

/// As most tests have it: one thread, which is this one.
#[cfg(feature = "tokio")]
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// As programs have it.
#[cfg(feature = "tokio")]
pub(crate) fn block_on_threads<T>(future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).build().unwrap().block_on(future)
}

/// Each in a task of its own.
#[cfg(feature = "tokio")]
fn joined_stops(servers: Vec<portlease::tokio::Server>) -> Vec<Result<Stopped>> {
    block_on_threads(async {
        let stops: Vec<_> = servers.into_iter().map(|server| tokio::spawn(server.stop())).collect();
        let mut outcomes = Vec::new();
        for stop in stops {
            outcomes.push(stop.await.unwrap());
        }
        outcomes
    })
}
