//! All that a program has to say: the machine, and its tables as they come.

use std::fs;

use serde_json::json;

use crate::args::{Args, give_up};
use crate::machine;
use crate::table::Table;

/// What a program measured.
#[derive(Debug)]
pub struct Report {
    program: &'static str,
    machine: String,
    notes: Vec<String>,
    tables: Vec<Table>,
}

impl Report {
    /// Says what machine it is. The load is that of the beginning, before the program adds to it.
    pub fn begin(program: &'static str) -> Report {
        let machine = machine::description();
        println!("{machine}\n");
        Report { program, machine, notes: Vec::new(), tables: Vec::new() }
    }

    /// What a reader has to know about the figures.
    pub fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        println!("{note}\n");
        self.notes.push(note);
    }

    /// One more table.
    pub fn table(&mut self, table: Table) {
        println!("{table}");
        self.tables.push(table);
    }

    /// Writes it into the file that `--json` names, if it does.
    pub fn end(self, args: &Args) {
        println!("load average at the end: {}", machine::load());
        let Some(path) = args.text("--json") else { return };
        let report = json!({
            "program": self.program,
            "machine": self.machine,
            "load average at the end": machine::load(),
            "notes": self.notes,
            "tables": self.tables.iter().map(Table::to_json).collect::<Vec<_>>(),
        });
        fs::write(path, format!("{report:#}\n"))
            .unwrap_or_else(|error| give_up(format_args!("{path}: {error}")));
    }
}
