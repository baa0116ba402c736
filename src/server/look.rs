//! One look at all processes, with what was read of each: at most once, for however many servers.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;

use crate::cookie::Cookie;
use crate::sys::{self, ProcessEntry, ProcessId};

#[derive(Debug)]
pub(super) struct Look {
    pub(super) all: Vec<ProcessEntry>,
    cookies: RefCell<HashMap<ProcessId, Option<Cookie>>>,
}

impl Look {
    /// # Errors
    ///
    /// As [`sys::processes`].
    pub(super) fn now() -> io::Result<Look> {
        Ok(Look { all: sys::processes()?, cookies: RefCell::default() })
    }

    /// The cookie that a process carries, if it can be read.
    pub(super) fn cookie(&self, id: ProcessId) -> Option<Cookie> {
        let mut cookies = self.cookies.borrow_mut();
        cookies.entry(id).or_insert_with(|| Cookie::of(id.pid)).clone()
    }
}
