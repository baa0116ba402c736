//! PostgreSQL, with a data directory of its own, which is made before its first start and removed
//! after its last.
//!
//! Run it with `cargo run --example postgres`. It needs PostgreSQL's server and `initdb`.

use std::env;
use std::error::Error;
use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use portlease::{Ready, Server};

fn main() -> Result<(), Box<dyn Error>> {
    let programs = programs().ok_or("this example needs PostgreSQL: `apt install postgresql`")?;
    let postgres =
        Server::try_with(move |ports| -> Result<Command, Box<dyn Error + Send + Sync>> {
            let dir = ports.dir();
            // After a restart, it is there.
            if !dir.join("data").exists() {
                let mut initdb = command(&programs.join("initdb"), dir)?;
                initdb.args(["-D", "data", "--username=test", "--auth=trust"]);
                let output = initdb.args(["--no-locale", "--no-sync"]).output()?;
                if !output.status.success() {
                    return Err(String::from_utf8_lossy(&output.stderr).into());
                }
            }
            let mut postgres = command(&programs.join("postgres"), dir)?;
            postgres.args(["-D", "data", "-h", "127.0.0.1", "-p", &ports.main().to_string()]);
            // No socket in /tmp; and nothing here has to outlive the machine.
            postgres.args(["-c", "unix_socket_directories=", "-F"]);
            Ok(postgres)
        })
        // It listens before it serves: meanwhile, it turns its clients away (error 57P03).
        .ready(Ready::line("database system is ready to accept connections"))
        .start()?;

    let answer = query(&postgres, "select 'six times seven is ' || 6 * 7")?;
    assert!(answer.contains("six times seven is 42"), "{answer:?}");
    println!("PostgreSQL on {} says that six times seven is 42", postgres.addr());
    Ok(())
}

/// The directory of PostgreSQL's programs; Debian does not put it into PATH.
fn programs() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = versions.map(|version| version.path().join("bin"));
    env::split_paths(&path).chain(debian).find(|dir| dir.join("initdb").exists())
}

/// Runs in `dir`.
fn command(program: &Path, dir: &Path) -> io::Result<Command> {
    let mut command = Command::new(program);
    command.current_dir(dir);
    #[cfg(unix)]
    as_nobody(&mut command, dir)?;
    Ok(command)
}

/// If we are root, runs it as `nobody`, to whom `dir` is given: PostgreSQL refuses to be root.
#[cfg(unix)]
fn as_nobody(command: &mut Command, dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, chown};
    use std::os::unix::process::CommandExt;

    const NOBODY: u32 = 65_534;
    if fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0) {
        chown(dir, Some(NOBODY), Some(NOBODY))?;
        command.uid(NOBODY).gid(NOBODY);
    }
    Ok(())
}

/// All that it answers to one query, as it comes. A real client does more: postgres, sqlx, diesel ...
fn query(postgres: &Server, sql: &str) -> io::Result<String> {
    let message = |kind: &str, body: &str| {
        let length = (4 + body.len() as u32).to_be_bytes();
        [kind.as_bytes(), &length, body.as_bytes()].concat()
    };
    let mut stream = TcpStream::connect(postgres.addr())?;
    stream.write_all(&message("", "\0\x03\0\0user\0test\0database\0postgres\0\0"))?;
    stream.write_all(&message("Q", &format!("{sql}\0")))?;
    stream.write_all(&message("X", ""))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
