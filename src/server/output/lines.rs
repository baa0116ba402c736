//! The lines of a server as they come.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::Output;
use crate::server::{Line, Server};

/// The lines that a server prints, as they come; made by
/// [`follow`](crate::tokio::Server::follow).
///
/// It begins with the first line that is still kept, and ends when the output of this start of the server
/// does.
///
/// # Examples
///
/// ```no_run
/// # async fn test(server: portlease::tokio::Server) {
/// let mut lines = server.follow();
/// while let Some(line) = lines.next().await {
///     println!("{}", line.text());
/// }
/// # }
/// ```
///
/// # What this does not guarantee
///
/// Nothing waits for who reads it: 64 KiB are kept, and what is older when it is asked for was
/// [`missed`](Lines::missed).
#[must_use = "a stream does nothing unless it is polled"]
#[derive(Debug)]
pub struct Lines {
    /// `None`: the server is not running.
    output: Option<Output>,
    next: u64,
    missed: u64,
    /// By which its output knows this.
    number: u64,
}

impl Lines {
    /// Those of the present start of `server`.
    pub(crate) fn of(server: Option<&Server>) -> Lines {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let running = server.and_then(|server| server.running.as_ref());
        let output = running.map(|running| running.output.clone());
        Lines { output, next: 0, missed: 0, number: COUNT.fetch_add(1, Ordering::Relaxed) }
    }

    /// The next line; `None` when the output has ended.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost: the next call returns what this one would have.
    pub async fn next(&mut self) -> Option<Line> {
        std::future::poll_fn(|task| Pin::new(&mut *self).poll_next(task)).await
    }

    /// How many lines it has skipped, since they were not kept any more.
    pub fn missed(&self) -> u64 {
        self.missed
    }
}

impl Stream for Lines {
    type Item = Line;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Line>> {
        let Some(output) = &self.output else { return Poll::Ready(None) };
        let line = ready!(output.poll_line(self.next, self.number, task));
        if let Some(line) = &line {
            self.missed += line.number - self.next;
            self.next = line.number + 1;
        }
        Poll::Ready(line)
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if let Some(output) = &self.output {
            // Not dropped under the lock; see `poll_line`.
            let _waker = output.state().followers.remove(&self.number);
        }
    }
}

impl Output {
    /// The first line that is kept of number `next` or later; `Ready(None)` if there will be none. Until
    /// it comes, the task is known by the number `follower`.
    fn poll_line(&self, next: u64, follower: u64, task: &mut Context<'_>) -> Poll<Option<Line>> {
        let mut state = self.state();
        let first = state.lines.front().map_or(state.count, |line| line.number);
        let place = usize::try_from(next.saturating_sub(first)).ok();
        match place.and_then(|place| state.lines.get(place)) {
            Some(line) => Poll::Ready(Some(line.clone())),
            None if state.open == 0 => Poll::Ready(None),
            None => {
                let before = state.followers.insert(follower, task.waker().clone());
                // It may be the last that holds its task, which may have other `Lines` of this output.
                drop(state);
                drop(before);
                Poll::Pending
            }
        }
    }
}
