//! The members of a group, by name and in their order.

use std::fmt;

use crate::error::{Error, ErrorKind, Result};

/// In the order in which they were added.
#[derive(Debug)]
pub(crate) struct Members<S>(Vec<Member<S>>);

impl<S> Default for Members<S> {
    fn default() -> Members<S> {
        Members(Vec::new())
    }
}

#[derive(Debug)]
pub(crate) struct Member<S> {
    pub(crate) name: String,
    pub(crate) place: usize,
    /// How many others have to be up, one after the other, before it can be started.
    pub(crate) level: usize,
    pub(crate) server: S,
}

impl<S> Members<S> {
    pub(crate) fn get(&self, name: &str) -> Result<&S> {
        let found = self.0.iter().find(|member| member.name == name);
        found.map(|member| &member.server).ok_or_else(|| self.unknown(name))
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Result<&mut S> {
        match self.0.iter().position(|member| member.name == name) {
            Some(at) => Ok(&mut self.0[at].server),
            None => Err(self.unknown(name)),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &S)> {
        self.0.iter().map(|member| (member.name.as_str(), &member.server))
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut S> {
        self.0.iter_mut().map(|member| &mut member.server)
    }

    /// Those whom nobody needs who is left.
    pub(crate) fn take_level(&mut self) -> Option<Vec<Member<S>>> {
        let last = self.0.iter().map(|member| member.level).max()?;
        let members = std::mem::take(&mut self.0).into_iter();
        let (level, rest) = members.partition(|member| member.level == last);
        self.0 = rest;
        Some(level)
    }

    /// The same ones, each with another hold of its server, if there is one.
    #[cfg(feature = "tokio")]
    pub(crate) fn filter_map<T>(self, mut hold: impl FnMut(S) -> Option<T>) -> Members<T> {
        let hold = |Member { name, place, level, server }| {
            Some(Member { name, place, level, server: hold(server)? })
        };
        self.0.into_iter().filter_map(hold).collect()
    }

    fn unknown(&self, name: &str) -> Error {
        let all: Vec<_> = self.iter().map(|(name, _)| name).collect();
        unknown(format_args!("there is no server `{name}` in the group; there are: "), &all)
    }
}

impl<S> FromIterator<Member<S>> for Members<S> {
    fn from_iter<I: IntoIterator<Item = Member<S>>>(members: I) -> Members<S> {
        Members(members.into_iter().collect())
    }
}

/// `message`, and which names there are.
pub(super) fn unknown(message: fmt::Arguments<'_>, names: &[&str]) -> Error {
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Error::new(ErrorKind::InvalidInput, format!("{message}{names}"))
}
