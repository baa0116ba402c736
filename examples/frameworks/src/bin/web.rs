//! The application as a program: it listens on `PORT`, or on a port that the kernel chooses, says which one
//! it is, and ends when `SIGTERM` asks it to and the requests it has are answered.

use std::env;
use std::error::Error;
use std::io::{self, Write};

use portlease_frameworks::app;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // Before it listens: from then on it is ready, and may be asked to end.
    let mut terminate = signal(SignalKind::terminate())?;
    // SWAP: `portlease::child::listener()`, for which portlease moves to `[dependencies]`; the helper goes.
    let listener = listener().await?;
    let asked_to_end = async move {
        terminate.recv().await;
        println!("shutting down");
    };
    axum::serve(listener, app()).with_graceful_shutdown(asked_to_end).await?;
    println!("all requests are answered");
    Ok(())
}

async fn listener() -> Result<TcpListener, Box<dyn Error>> {
    let port = env::var("PORT").map_or(Ok(0), |port| port.parse())?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("PORT={}", listener.local_addr()?.port());
    io::stdout().flush()?;
    Ok(listener)
}
