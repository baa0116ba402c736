//! The application as a program: it listens on the socket that it inherits, on `PORT`, or on a port that the
//! kernel chooses, says which one it is, and ends when `SIGTERM` asks it to and the requests it has are answered.

use std::error::Error;

use portlease_frameworks::app;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // Before it listens: from then on it is ready, and may be asked to end.
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = portlease::tokio::child::listener()?;
    let asked_to_end = async move {
        terminate.recv().await;
        println!("shutting down");
    };
    axum::serve(listener, app()).with_graceful_shutdown(asked_to_end).await?;
    println!("all requests are answered");
    Ok(())
}
