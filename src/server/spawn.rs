//! The spawn of a server: what its command is given, and what is started beside it.

use std::fs::File;
use std::io;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::config::Config;
use super::dir::Dir;
use super::escape::Trail;
use super::inherit::{self, Inheritance};
use super::output::Output;
use super::ports::Ports;
use super::process::Process;
use super::report::{Reader, Reports};
use super::running::Running;
use super::way::{Named, Source, Told, Way};
use super::{failure, stop};
use crate::error::{Error, ErrorKind, Result};
use crate::lease::Lease;
use crate::sys::{self, Signal, Watchdog};

impl Running {
    pub(super) fn spawn(config: &mut Config, leases: &[Lease]) -> Result<Running> {
        let ports = ports(config, leases);
        let before = listeners(config, &ports);
        if let Some(Way::Report(Source::File(path))) = &config.way {
            config.dir.forget(path); // that of the last start
        }
        // Before the closure is called, which may ask for the directory.
        let watchdog = watchdog(config, leases)?;
        config.dir.is_watched();
        let mut idle = Idle { watchdog, dir: Arc::clone(&config.dir) };
        let mut inheritance = Inheritance::new(config, &ports);
        let Config { launch, name, variables, named, stop_signal, pipe_stdin, dir, .. } = config;
        let is_the_same = launch.is_the_same();
        let mut command = launch.command(&ports).map_err(|error| {
            dir.problem().err().unwrap_or_else(|| failure::no_command(name.as_deref(), error))
        })?;
        dir.problem()?;
        tell_variables(&mut command, variables, named, &ports);
        let program = failure::file_name(&inherit::program(&command));
        let name = name.as_ref().unwrap_or(&program).clone();
        let inherited = inheritance.give(&mut command, &name, &ports)?;
        let stdin = if *pipe_stdin { Stdio::piped() } else { Stdio::null() };
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let stop_signal = stop_signal.unwrap_or(stop::usual_signal(&program));
        let trail = Trail { port: ports.main, program, ..Trail::default() };
        let process = Process::spawn(&mut command, &mut idle.watchdog, stop_signal, trail)
            .map_err(|error| failure::cannot_spawn(&name, &command, error))?;
        drop(inherited);
        if is_the_same {
            config.heirloom = inheritance.keep();
        }
        let (output, reports) = (Output::new(), Reports::default());
        output.read_for(reader(config.way.as_ref()), config.ready.lines());
        let mut running = Running { name, ports, process, output, before, reports, stop_signal };
        match running.drain(config.log_dir.as_deref()) {
            Ok(()) => Ok(running),
            Err(error) => {
                let _ = running.stop(Duration::ZERO);
                Err(error)
            }
        }
    }
}

/// Who reads its output for ports. Of a port that is not reported there, it may say that it is another.
fn reader(way: Option<&Way>) -> Option<Reader> {
    match way? {
        Way::Report(Source::Output(own)) => Some(Reader::new(own.clone())),
        way => way.is_servers_choice().then(Reader::default),
    }
}

/// One that has no server yet. If there comes none, by a panic of the closure too, it is reaped.
struct Idle {
    watchdog: Option<Watchdog>,
    dir: Arc<Dir>,
}

impl Drop for Idle {
    fn drop(&mut self) {
        if let Some(watchdog) = self.watchdog.take() {
            self.dir.remove();
            Watchdog::dismiss(Some(watchdog));
        }
    }
}

/// The ports of one start: those that are leased, and the others 0.
fn ports(config: &Config, leases: &[Lease]) -> Ports {
    let mut leased = leases.iter().map(Lease::port);
    let main = match &config.way {
        Some(way) if way.is_leased() => leased.next().unwrap_or(0),
        _ => 0,
    };
    let names = config.named.iter().map(|named| named.name.clone());
    let dir = Arc::clone(&config.dir);
    Ports { host: config.host, main, named: names.zip(leased).collect(), dir }
}

/// The inodes of the sockets that serve on its ports before it is started.
fn listeners(config: &Config, ports: &Ports) -> Vec<u32> {
    let only_one = Some(ports.main).filter(|&port| port != 0 && ports.named.is_empty());
    let sockets = config.protocols().iter().map(|&protocol| sys::servers(protocol, only_one));
    sockets.flat_map(io::Result::unwrap_or_default).map(|socket| socket.inode).collect()
}

fn watchdog(config: &Config, leases: &[Lease]) -> Result<Option<Watchdog>> {
    let locks = leases.iter().filter(|_| sys::COPIES_KEEP_LOCKS);
    let locks = locks.filter_map(|lease| lease.share_lock().transpose());
    let locks: io::Result<Vec<File>> = locks.collect();
    let locks = locks.map_err(|error| {
        Error::io(ErrorKind::Io, "share the locks of the server's ports", error)
    })?;
    let grace = match config.stop_signal {
        Some(Signal::Kill | Signal::Stop) => Duration::ZERO,
        _ => config.stop_grace,
    };
    Watchdog::spawn(locks, grace, config.dir.name())
        .map_err(|error| Error::io(ErrorKind::Spawn, sys::WATCHDOG, error))
}

fn tell_variables(command: &mut Command, variables: &[String], named: &[Named], ports: &Ports) {
    for variable in variables {
        command.env(variable, ports.main.to_string());
    }
    for (named, (_, port)) in named.iter().zip(&ports.named) {
        if let Told::Variable(variable) = &named.told {
            command.env(variable, port.to_string());
        }
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")] // elsewhere, nobody looks at sockets
mod tests {
    use std::net::{SocketAddr, TcpListener, UdpSocket};
    use std::os::fd::AsFd;

    use super::super::command::Launch;
    use super::super::way::Transport;
    use super::*;

    fn inode(socket: &impl AsFd) -> u32 {
        sys::inode(socket).expect("its inode").try_into().expect("a socket's")
    }

    /// Whoever cannot be told to be a stranger is told by his socket, which was there before.
    #[test]
    fn who_serves_on_its_ports_before_it_is_started() {
        let datagrams = UdpSocket::bind("127.0.0.1:0").expect("a UDP socket");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let port_of = |address: io::Result<SocketAddr>| address.expect("its address").port();
        let main = port_of(datagrams.local_addr());
        let beside = ("beside".to_owned(), port_of(listener.local_addr()));
        let mut config = Config::new(Launch::by(|_| Ok(Command::new("true"))), Some(Way::Lease));
        config.transport = Transport::Udp;
        let mut ports = Ports { host: config.host, main, named: vec![], dir: Arc::new(Dir::new()) };
        assert!(listeners(&config, &ports).contains(&inode(&datagrams)));
        config.named.push(Named { name: beside.0.clone(), told: Told::Closure });
        ports.named.push(beside);
        let found = listeners(&config, &ports);
        assert!(found.contains(&inode(&datagrams)) && found.contains(&inode(&listener)));
    }
}
