//! Connections to a server, and one request over HTTP.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long the rest of an answer is waited for, and how much of it is read.
const REST: Duration = Duration::from_millis(50);
const MAX_REST: usize = 64 * 1024;

/// Whether somebody accepts connections at `addr`.
///
/// A connection whose ends are the same is the kernel's answer to a poll of a closed ephemeral
/// port: it had chosen that very port for our end.
pub(in crate::server) fn accepts(addr: SocketAddr) -> bool {
    connect(addr).is_some()
}

/// Who listens on a wildcard is reached on the loopback address of its family: as which Linux, macOS and
/// FreeBSD understand the wildcard, and Windows does not.
///
/// Windows does not take a refusal for an answer, and tries again for two seconds; who accepts on a loopback
/// address does so at once.
fn connect(addr: SocketAddr) -> Option<TcpStream> {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let addr = SocketAddr::new(ip, addr.port());
    let at_most = if cfg!(windows) && ip.is_loopback() { 20 } else { 200 };
    let stream = TcpStream::connect_timeout(&addr, Duration::from_millis(at_most)).ok()?;
    stream.local_addr().is_ok_and(|local| local != addr).then_some(stream)
}

/// One request. Of the answer, only the status counts.
pub(super) fn get(
    addr: SocketAddr,
    path: &str,
    expected: Option<u16>,
    at_most: Duration,
) -> Result<(), String> {
    let missing = |why: String| format!("GET http://{addr}{path}: {why}");
    let mut stream = connect(addr).ok_or_else(|| missing("no connection".to_owned()))?;
    let start = ask(&mut stream, addr, path, at_most).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            missing(format!("no answer within {:.1} s", at_most.as_secs_f64()))
        }
        _ => missing(error.to_string()),
    })?;
    let status = std::str::from_utf8(&start).ok().and_then(|start| start.strip_prefix("HTTP/1."));
    let status = status.and_then(|rest| rest.get(2..)).filter(|rest| !rest.starts_with('+'));
    let status = status.and_then(|rest| rest.parse().ok());
    match (status, expected) {
        (Some(status), Some(expected)) if status == expected => Ok(()),
        (Some(200..=399), None) => Ok(()),
        (Some(status), Some(expected)) => Err(missing(format!("status {status}, not {expected}"))),
        (Some(status), None) => Err(missing(format!("status {status}"))),
        (None, _) => Err(missing("an answer that is not HTTP".to_owned())),
    }
}

/// The first 12 bytes of the answer: "HTTP/1.1 200".
fn ask(
    stream: &mut TcpStream,
    addr: SocketAddr,
    path: &str,
    at_most: Duration,
) -> io::Result<[u8; 12]> {
    let deadline = Instant::now() + at_most;
    stream.set_write_timeout(Some(at_most))?;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nAccept: */*\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut start = [0; 12];
    let mut size = 0;
    // Each read with the time that is left: an answer may come byte by byte.
    while size < start.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut start[size..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => size += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    drain(stream);
    Ok(start)
}

/// Reads the rest of an answer: who closes before resets the connection, which not every server bears.
fn drain(stream: &mut TcpStream) {
    let start = Instant::now();
    let mut chunk = [0; 4 * 1024];
    let mut count = 0;
    while count < MAX_REST && stream.set_read_timeout(Some(REST)).is_ok() && start.elapsed() < REST
    {
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(size) => count += size,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::patience::eventually;

    const AT_MOST: Duration = Duration::from_secs(60);

    #[test]
    fn a_listener_accepts_and_a_closed_port_does_not() {
        let lease = crate::lease().expect("lease");
        assert!(!accepts(lease.addr()));
        let _listener = lease.bind().expect("listen");
        assert!(accepts(lease.addr()));
    }

    #[test]
    fn a_wildcard_is_asked_on_the_loopback() {
        for wildcard in [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()] {
            let Ok(listener) = TcpListener::bind((wildcard, 0)) else { continue }; // no IPv6
            assert!(accepts(listener.local_addr().expect("address")), "{wildcard}");
        }
    }

    fn check_http(answer: &'static [u8], expected: Option<u16>, missing: Option<&str>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let addr = listener.local_addr().expect("address");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accept");
            let mut request = [0; 1024];
            let size = stream.read(&mut request).expect("a request");
            stream.write_all(answer).expect("answer");
            String::from_utf8_lossy(&request[..size]).into_owned()
        });
        let result = get(addr, "/a?b", expected, AT_MOST);
        let request = server.join().expect("server");
        assert!(
            request.starts_with(&format!("GET /a?b HTTP/1.1\r\nHost: {addr}\r\n")),
            "{request}"
        );
        let answer = String::from_utf8_lossy(answer);
        match (result, missing) {
            (Ok(()), None) => {}
            (Err(text), Some(missing)) => assert!(text.contains(missing), "{answer:?}: {text}"),
            (result, missing) => panic!("{answer:?}: {result:?} instead of {missing:?}"),
        }
    }

    #[test]
    fn answers_over_http() {
        check_http(b"HTTP/1.1 200 OK\r\n\r\n", None, None);
        check_http(b"HTTP/1.0 399 ?\r\n\r\n", None, None);
        check_http(b"HTTP/1.1 204 No Content\r\n\r\n", Some(204), None);
        check_http(b"HTTP/1.1 200 OK\r\n\r\n", Some(204), Some("status 200, not 204"));
        check_http(b"HTTP/1.1 503 Busy\r\n\r\n", None, Some("/a?b: status 503"));
        check_http(b"SSH-2.0-OpenSSH_9.2\r\n", None, Some("not HTTP"));
        check_http(b"HTTP/1.1 2", None, Some("unexpected end of file"));
        check_http(b"HTTP/1.1 +20", None, Some("not HTTP"));
    }

    #[test]
    fn an_answer_is_read_to_its_end() {
        // Else the connection is reset, as it is on a busy machine if the rest comes too late.
        eventually(|| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
            let addr = listener.local_addr().expect("address");
            let server = thread::spawn(move || {
                let (mut stream, _) = listener.accept().expect("accept");
                let size = stream.read(&mut [0; 1024]).expect("a request");
                let answer = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(size * 100));
                stream.write_all(answer.as_bytes())?;
                stream.shutdown(std::net::Shutdown::Write)?;
                stream.read(&mut [0; 1])
            });
            get(addr, "/", None, AT_MOST).expect("an answer");
            server.join().expect("server").map(|size| assert_eq!(size, 0))
        });
    }

    /// Neither one that says nothing, nor one that says it byte by byte, takes longer than was granted.
    #[test]
    fn an_answer_that_takes_too_long() {
        for answer in ["", "HTTP/1.1 200 OK"] {
            let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
            let addr = listener.local_addr().expect("address");
            let server = thread::spawn(move || {
                let (mut stream, _) = listener.accept().expect("accept");
                for byte in answer.bytes() {
                    thread::sleep(Duration::from_millis(80));
                    if stream.write_all(&[byte]).is_err() {
                        return;
                    }
                }
                let _ = stream.read_to_end(&mut Vec::new()); // until the client is gone
            });
            let missing = get(addr, "/", None, Duration::from_millis(200)).expect_err("no answer");
            assert_eq!(missing, format!("GET http://{addr}/: no answer within 0.2 s"));
            server.join().expect("server");
        }
    }
}
