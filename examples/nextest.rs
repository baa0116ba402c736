//! Tests with a server of their own, and tests that share one; for `cargo test`, where they are
//! threads of one process, and for `cargo nextest run`, where each is a process.
//!
//! Run them with `cargo test --example nextest`, and with `cargo nextest run --example nextest`. They
//! need `python3`. In your package, they are a file of `tests/`.

fn main() {
    println!("run `cargo nextest run --example nextest`, or `cargo test --example nextest`");
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::net::TcpStream;
    use std::process::Command;
    use std::sync::LazyLock;

    use portlease::Server;

    /// Serves a file. Any number of them can run at the same time.
    fn file_server(text: &'static str) -> Server {
        let builder = Server::with(move |ports| {
            ports.write_file("file.txt", text);
            let mut command = Command::new("python3");
            command.args(["-m", "http.server", &ports.main().to_string()]);
            command.args(["--bind", "127.0.0.1", "--directory"]).arg(ports.dir());
            command
        });
        builder.start().unwrap()
    }

    fn get(server: &Server, path: &str) -> String {
        let mut stream = TcpStream::connect(server.addr()).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        io::read_to_string(stream).unwrap()
    }

    #[test]
    fn one_of_its_own() {
        let server = file_server("one");
        assert!(get(&server, "/file.txt").ends_with("\r\n\r\none"));
    }

    #[test]
    fn another_of_its_own() {
        let server = file_server("another");
        assert!(get(&server, "/file.txt").ends_with("\r\n\r\nanother"));
    }

    /// One for all tests of a process: with `cargo test`, of this file; with nextest, for each that
    /// asks for it. Statics are never dropped: the server ends with the process.
    static SHARED: LazyLock<Server> = LazyLock::new(|| file_server("shared"));

    #[test]
    fn the_file_is_there() {
        let _log = SHARED.log_on_panic(); // what it printed, if this test fails
        assert!(get(&SHARED, "/file.txt").ends_with("\r\n\r\nshared"));
    }

    #[test]
    fn another_file_is_not() {
        let _log = SHARED.log_on_panic();
        assert!(get(&SHARED, "/other.txt").starts_with("HTTP/1.0 404 "));
    }
}
