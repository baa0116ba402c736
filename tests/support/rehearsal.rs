//! Fixed programs, of which the system calls are to fail one by one (`tests/adversity/sweep.rs`): those that are
//! made between two marks. What is held is said outside of them, and kept until somebody has looked.

use std::fmt::Display;
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::slice;
use std::thread;
use std::time::Duration;

use portlease::{Error, Group, Lease, LeaseBuilder, Registry, Server, ServerBuilder};
use socket2::{Domain, Socket, Type};

use super::actor::{Place, Talk, belongings, check_belongings, serves, shell};

const BEGIN: &str = "/portlease-begin";
const END: &str = "/portlease-end";

/// With a server that does not come up.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is done, and how that failed.
type Failed = (&'static str, Error);

/// `what` names the program.
pub(super) fn rehearse(what: &str, place: Place<'_>) {
    let mut talk = Talk::new();
    let before = belongings();
    mark(BEGIN);
    let mut scene = Scene { place, talk: &mut talk };
    let outcome = match what {
        "lease" => scene.lease_and_list(),
        "some" => scene.some_and_a_block(),
        "exact" => scene.exact_that_another_has(),
        "over-time-wait" => scene.exact_over_time_wait(),
        "server" => scene.start_and_stop(),
        "restart" => scene.restart_one_that_inherits(),
        "reported" => scene.start_one_that_reports(),
        "group" => scene.a_group_of_two(),
        other => panic!("no such program: {other:?}"),
    };
    mark(END);
    if let Err((operation, error)) = &outcome {
        talk.error(operation, error);
    }
    check_belongings(&mut talk, before);
    talk.say("done");
}

/// A look at what is not there, which can be seen in a list of system calls.
fn mark(name: &str) {
    let _ = fs::symlink_metadata(name);
}

struct Scene<'a> {
    place: Place<'a>,
    talk: &'a mut Talk,
}

impl Scene<'_> {
    fn show(&mut self, what: impl Display) {
        mark(END);
        self.talk.say(what);
        self.talk.answer();
        mark(BEGIN);
    }

    fn show_leases(&mut self, leases: &[Lease]) {
        let ports: Vec<_> = leases.iter().map(Lease::to_string).collect();
        self.show(format_args!("holds {}", ports.join(" ")));
    }

    fn show_servers<'s>(&mut self, how: &str, servers: impl IntoIterator<Item = &'s Server>) {
        let servers = servers.into_iter();
        let servers = servers.map(|server| format!("{}:{}", server.port(), server.pid()));
        self.show(format_args!("serves {how} {}", servers.collect::<Vec<_>>().join(" ")));
    }

    fn open(&self) -> Result<Registry, Failed> {
        Registry::open(self.place.dir).map_err(|error| ("open", error))
    }

    fn request(&self, registry: &Registry) -> LeaseBuilder {
        Lease::builder().registry(registry).range(self.place.ports.clone())
    }

    /// For a server.
    fn one(&self) -> Result<Lease, Failed> {
        self.request(&self.open()?).lease().map_err(|error| ("lease", error))
    }

    fn lease_and_list(&mut self) -> Result<(), Failed> {
        let registry = self.open()?;
        let lease = self.request(&registry).lease().map_err(|error| ("lease", error))?;
        self.show_leases(slice::from_ref(&lease));
        registry.list().map_err(|error| ("list", error))?;
        lease.release().map_err(|error| ("release", error))
    }

    fn some_and_a_block(&mut self) -> Result<(), Failed> {
        let registry = self.open()?;
        let mut leases =
            self.request(&registry).udp().lease_many(2).map_err(|error| ("lease", error))?;
        let block = self.request(&registry).label("block").lease_block(2);
        leases.extend(block.map_err(|error| ("lease", error))?);
        self.show_leases(&leases);
        drop(leases);
        Ok(())
    }

    /// Who has it lets it go after a moment. To wait in line, there is a thread.
    fn exact_that_another_has(&mut self) -> Result<(), Failed> {
        let registry = self.open()?;
        let lease = self.request(&registry).lease().map_err(|error| ("lease", error))?;
        let request = self.request(&registry).exact(lease.port()).wait(Duration::from_secs(10));
        let lets_it_go = || {
            thread::sleep(Duration::from_millis(20));
            drop(lease);
        };
        let lease = thread::scope(|scope| {
            // If it cannot be made, it goes at once.
            let _ = thread::Builder::new().spawn_scoped(scope, lets_it_go);
            request.lease().map_err(|error| ("exact", error))
        });
        let lease = lease?;
        self.show_leases(slice::from_ref(&lease));
        lease.release().map_err(|error| ("release", error))
    }

    fn exact_over_time_wait(&mut self) -> Result<(), Failed> {
        let port = *self.place.ports.start();
        mark(END);
        leave_in_time_wait(port);
        mark(BEGIN);
        let request = self.request(&self.open()?).exact(port);
        let lease = request.lease().map_err(|error| ("exact", error))?;
        self.show_leases(slice::from_ref(&lease));
        lease.release().map_err(|error| ("release", error))
    }

    fn start_and_stop(&mut self) -> Result<(), Failed> {
        let builder = Server::with(|ports| {
            ports.write_file("in/a/directory", "of its own");
            serves(&["serve", &ports.main().to_string()])
        });
        let server = start(builder.lease(self.one()?))?;
        self.show_servers("leased", [&server]);
        server.stop().map_err(|error| ("stop", error))?;
        Ok(())
    }

    fn restart_one_that_inherits(&mut self) -> Result<(), Failed> {
        let builder = Server::builder(shell("exec \"$0\" serve-inherited <&3")).inherit_port();
        let mut server = start(builder.lease(self.one()?))?;
        self.show_servers("leased", [&server]);
        server.restart().map_err(|error| ("restart", error))?;
        self.show_servers("leased", [&server]);
        drop(server);
        Ok(())
    }

    fn start_one_that_reports(&mut self) -> Result<(), Failed> {
        let server = start(Server::builder(serves(&["serve"])).report_port())?;
        self.show_servers("chosen", [&server]);
        server.stop().map_err(|error| ("stop", error))?;
        Ok(())
    }

    fn a_group_of_two(&mut self) -> Result<(), Failed> {
        let builder = || Server::builder(serves(&["serve"])).report_port().start_timeout(PATIENCE);
        let group = Group::builder().server("db", &[], move |_| Ok(builder()));
        let group = group.server("api", &["db"], move |_| Ok(builder())).start();
        let group = group.map_err(|error| ("start", error))?;
        self.show_servers("chosen", group.servers().map(|(_, server)| server));
        group.stop().map_err(|error| ("stop", error))?;
        Ok(())
    }
}

fn start(builder: ServerBuilder) -> Result<Server, Failed> {
    builder.start_timeout(PATIENCE).start().map_err(|error| ("start", error))
}

/// Leaves a connection to it in TIME_WAIT: its own end is the first to be closed.
fn leave_in_time_wait(port: u16) {
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = TcpListener::bind(addr).unwrap();
    let mut client = TcpStream::connect(addr).unwrap();
    drop(listener.accept().unwrap());
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    drop((client, listener));
    let stranger = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    stranger.bind(&addr.into()).expect_err("there is no TIME_WAIT");
}
