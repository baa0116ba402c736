//! Connections of other programs, on loopback. Each takes an ephemeral port, which is where most pickers
//! get theirs.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// How many are open at any time.
const OPEN: usize = 300;

/// Two in each millisecond, so that each lives for 150 ms, about as a request to a slow service.
const EACH_MILLISECOND: usize = 2;

/// The role of the process that makes them. Ends with its input.
pub(crate) fn run() -> ! {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let address = listener.local_addr().expect("an address");
    portlease_peers::crew::wait_for_go();
    let mut open = VecDeque::new();
    loop {
        for _ in 0..EACH_MILLISECOND {
            // None is left when all ephemeral ports are taken: so much for this millisecond.
            let Ok(client) = TcpStream::connect(address) else { break };
            let (server, _) = listener.accept().expect("who has just connected");
            open.push_back((server, client));
            if open.len() > OPEN {
                // The server first: its end keeps TIME_WAIT, and the ephemeral port is free.
                let (server, client) = open.pop_front().expect("one of many");
                drop(server);
                drop(client);
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
}
