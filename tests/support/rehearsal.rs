//! Fixed programs, of which the system calls are to fail one by one (`tests/adversity/sweep.rs`): those that are
//! made between two marks. What is held is said outside of them, and kept until somebody has looked.

use std::fmt::Display;
use std::fs;
use std::time::Duration;

use portlease::{Error, Lease, LeaseBuilder, Registry, Server, ServerBuilder};

use super::actor::{Place, Talk, belongings, check_belongings, serves, shell};

const BEGIN: &str = "/portlease-begin";
const END: &str = "/portlease-end";

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
        "server" => scene.start_and_stop(),
        _ => scene.restart_one_that_inherits(),
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

    fn show_server(&mut self, how: &str, server: &Server) {
        self.show(format_args!("serves {how} {}:{}", server.port(), server.pid()));
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
        self.show(format_args!("holds {lease}"));
        registry.list().map_err(|error| ("list", error))?;
        lease.release().map_err(|error| ("release", error))
    }

    fn start_and_stop(&mut self) -> Result<(), Failed> {
        let builder = Server::with(|ports| {
            ports.write_file("in/a/directory", "of its own");
            serves(&["serve", &ports.main().to_string()])
        });
        let server = start(builder.lease(self.one()?))?;
        self.show_server("leased", &server);
        server.stop().map_err(|error| ("stop", error))?;
        Ok(())
    }

    fn restart_one_that_inherits(&mut self) -> Result<(), Failed> {
        let builder = Server::builder(shell("exec \"$0\" serve-inherited <&3")).inherit_port();
        let mut server = start(builder.lease(self.one()?))?;
        self.show_server("leased", &server);
        server.restart().map_err(|error| ("restart", error))?;
        self.show_server("leased", &server);
        drop(server);
        Ok(())
    }
}

fn start(builder: ServerBuilder) -> Result<Server, Failed> {
    builder.start_timeout(Duration::from_secs(10)).start().map_err(|error| ("start", error))
}
