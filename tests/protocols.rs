//! Servers as people run them, each used over its own protocol, restarted on its port, used again, and
//! stopped: no process, descriptor, lock or leased port is left. The tests are ignored by default,
//! because the servers have to be installed.
#![cfg(target_os = "linux")] // shells, and looks into `/proc`

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;

use support::alone::{children, descriptors, in_own_process, threads};
use support::real::{self, Real};
use support::twin::{Twin, table};
use support::{DEADLINE, OwnRegistry, connect, eventually, get, who_answers};

table! {
    #[ignore = "needs Redis"] redis,
    #[ignore = "needs memcached"] memcached,
    #[ignore = "needs PostgreSQL"] postgresql,
    #[ignore = "needs nginx"] nginx,
    #[ignore = "needs Python"] python_http_server,
    #[ignore = "needs HAProxy"] haproxy,
    #[ignore = "needs Node"] node,
    #[ignore = "needs Go"] go,
}

/// The life of a server that `start` starts, in a process where nobody else has descriptors, threads
/// and children. `talk` uses it, in its life number 1, and 2.
fn two_lives<S: Twin>(test: &str, start: impl FnOnce() -> Real<S>, talk: impl Fn(&S, u32)) {
    if !in_own_process(&S::test(test)) {
        return;
    }
    // What is made once in a process, and kept, is here before it is counted.
    drop(OwnRegistry::new().request().lease().unwrap());
    let (descriptors_before, threads_before) = (descriptors(), threads());
    assert_eq!(children(), 0);
    let mut real = start();
    assert_ne!(descriptors(), descriptors_before);
    talk(&real.server, 1);
    real.restart();
    talk(&real.server, 2);
    real.stop();
    // They end with the server's output, and close it: nobody waits for them.
    eventually("its readers ended", || threads() == threads_before);
    assert_eq!(descriptors(), descriptors_before);
    assert_eq!(children(), 0);
}

/// A connection on which it is known beforehand what comes.
struct Client(TcpStream);

impl Client {
    fn ask(&mut self, request: &str, answer: &str) {
        self.0.write_all(request.as_bytes()).unwrap();
        let mut got = Vec::new();
        while got.len() < answer.len() && answer.as_bytes().starts_with(&got) {
            let mut chunk = [0; 1024];
            let read = self.0.read(&mut chunk).unwrap();
            assert!(read > 0, "{request:?}: it closed after {:?}", String::from_utf8_lossy(&got));
            got.extend(&chunk[..read]);
        }
        assert_eq!(String::from_utf8_lossy(&got), answer, "{request:?}");
    }
}

fn redis<S: Twin>() {
    two_lives::<S>("redis", real::redis, |server, life| {
        let mut client = Client(connect(server.addr()));
        client.ask("*2\r\n$3\r\nGET\r\n$4\r\nlife\r\n", "$-1\r\n"); // a new one knows nothing
        let set = format!("*3\r\n$3\r\nSET\r\n$4\r\nlife\r\n$1\r\n{life}\r\n");
        client.ask(&set, "+OK\r\n");
        client.ask("*2\r\n$3\r\nGET\r\n$4\r\nlife\r\n", &format!("$1\r\n{life}\r\n"));
    });
}

fn memcached<S: Twin>() {
    two_lives::<S>("memcached", real::memcached, |server, life| {
        let mut client = Client(connect(server.addr()));
        client.ask("get life\r\n", "END\r\n"); // a new one knows nothing
        client.ask(&format!("set life 0 0 1\r\n{life}\r\n"), "STORED\r\n");
        client.ask("get life\r\n", &format!("VALUE life 0 1\r\n{life}\r\nEND\r\n"));
    });
}

/// A client of PostgreSQL, in its protocol 3.0.
struct Postgres(TcpStream);

impl Postgres {
    fn connect(server: &impl Twin) -> Postgres {
        let mut client = Postgres(connect(server.addr()));
        client.send(b"", b"\0\x03\0\0user\0test\0database\0postgres\0\0");
        client.until_ready();
        client
    }

    /// The first column of each row.
    fn query(&mut self, sql: &str) -> Vec<String> {
        self.send(b"Q", format!("{sql}\0").as_bytes());
        self.until_ready()
    }

    fn send(&mut self, kind: &[u8], body: &[u8]) {
        let length = u32::try_from(4 + body.len()).unwrap();
        self.0.write_all(&[kind, &length.to_be_bytes(), body].concat()).unwrap();
    }

    /// What was in the rows that came until it is ready for a query.
    fn until_ready(&mut self) -> Vec<String> {
        let mut rows = Vec::new();
        loop {
            let mut head = [0; 5];
            self.0.read_exact(&mut head).unwrap();
            let length = u32::from_be_bytes(head[1..].try_into().unwrap());
            let mut body = vec![0; length as usize - 4];
            self.0.read_exact(&mut body).unwrap();
            match head[0] {
                b'Z' => return rows,
                b'D' => {
                    // How many columns there are; how long the first one is; and it.
                    let length = u32::from_be_bytes(body[2..6].try_into().unwrap());
                    rows.push(String::from_utf8(body[6..][..length as usize].to_vec()).unwrap());
                }
                b'R' => assert_eq!(body, [0; 4], "it wants a password"),
                b'E' => panic!("{:?}", String::from_utf8_lossy(&body)),
                _ => {}
            }
        }
    }
}

fn postgresql<S: Twin>() {
    let start = || real::postgres_in(real::postgres_data());
    two_lives::<S>("postgresql", start, |server, life| {
        let mut client = Postgres::connect(server);
        assert_eq!(client.query("select 6 * 7"), ["42"]);
        if life == 1 {
            client.query("create table lines (line text)");
            client.query("insert into lines values ('one'), ('two')");
        }
        assert_eq!(client.query("select line from lines order by line"), ["one", "two"]);
        client.send(b"X", b"");
    });
}

const FILE: (&str, &str) = ("hello.txt", "hello from a file\n");

fn serves_the_file(server: &impl Twin, _life: u32) {
    assert_eq!(get(server.addr(), "/hello.txt"), FILE.1);
}

fn nginx<S: Twin>() {
    two_lives::<S>("nginx", || real::nginx(&[FILE]), serves_the_file);
}

fn python_http_server<S: Twin>() {
    two_lives::<S>("python_http_server", || real::python(&[FILE]), serves_the_file);
}

fn haproxy<S: Twin>() {
    let backend = portlease::bind().unwrap().into_listener();
    backend.set_nonblocking(true).unwrap();
    let rule = format!("option forwardfor\nserver behind {}", backend.local_addr().unwrap());
    two_lives::<S>(
        "haproxy",
        || real::haproxy(&rule),
        |server, life| {
            thread::scope(|scope| {
                let client = scope.spawn(|| get(server.addr(), "/hello"));
                let mut accepted = None;
                eventually("it asks its backend", || {
                    accepted = backend.accept().ok();
                    accepted.is_some()
                });
                let (mut stream, _) = accepted.unwrap();
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                let lines =
                    BufReader::new(&stream).lines().map(|line| line.unwrap().to_lowercase());
                let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
                assert!(head[0].starts_with("get /hello http/1."), "{head:?}");
                assert!(head.contains(&"x-forwarded-for: 127.0.0.1".to_owned()), "{head:?}");
                write!(stream, "HTTP/1.0 200 OK\r\n\r\nin life {life}").unwrap();
                drop(stream);
                assert_eq!(client.join().unwrap(), format!("in life {life}"));
            });
        },
    );
}

fn answers_with_its_pid(server: &impl Twin, _life: u32) {
    assert_eq!(who_answers(server.addr()), server.pid());
}

fn node<S: Twin>() {
    two_lives::<S>("node", real::node, answers_with_its_pid);
}

fn go<S: Twin>() {
    two_lives::<S>("go", real::go, answers_with_its_pid);
}
