//! A table: on the screen as Markdown, since that is what `benches/README.md` is made of; or as JSON.

use std::fmt;

use serde_json::{Value, json};

/// One figure, or one word.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// A word.
    Text(String),
    /// How many.
    Count(u64),
    /// A figure, with so many decimals on the screen.
    Figure(f64, usize),
    /// Nothing was measured.
    Empty,
}

/// A title, columns and rows.
#[derive(Clone, Debug)]
pub struct Table {
    title: String,
    columns: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Without rows.
    pub fn new(title: impl Into<String>, columns: &[&str]) -> Table {
        let columns = columns.iter().map(|&column| column.to_owned()).collect();
        Table { title: title.into(), columns, rows: Vec::new() }
    }

    /// One more row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(crate) fn to_json(&self) -> Value {
        let row = |cells: &Vec<Cell>| -> Value {
            let fields = self.columns.iter().cloned().zip(cells.iter().map(Cell::to_json));
            Value::Object(fields.collect())
        };
        json!({ "title": self.title, "rows": self.rows.iter().map(row).collect::<Vec<_>>() })
    }
}

impl Cell {
    /// A figure with so many decimals; empty, if it is none.
    pub fn figure(value: f64, decimals: usize) -> Cell {
        if value.is_nan() { Cell::Empty } else { Cell::Figure(value, decimals) }
    }

    fn to_json(&self) -> Value {
        match self {
            Cell::Text(text) => json!(text),
            Cell::Count(count) => json!(count),
            Cell::Figure(figure, _) => json!(figure), // not a number: null
            Cell::Empty => Value::Null,
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cell::Text(text) => f.write_str(text),
            Cell::Count(count) => f.write_str(&grouped(*count)),
            Cell::Figure(figure, decimals) => write!(f, "{figure:.decimals$}"),
            Cell::Empty => Ok(()),
        }
    }
}

/// `1 048 576`.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(Cell::to_string).collect()).collect();
        let width = |index: usize| {
            let cells = rows.iter().filter_map(|row| row.get(index));
            cells.chain([&self.columns[index]]).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let line = |cells: &[String], f: &mut fmt::Formatter<'_>| {
            for (index, (cell, width)) in cells.iter().zip(&widths).enumerate() {
                // Words to the left, figures to the right.
                match index {
                    0 => write!(f, "| {cell:<width$} ")?,
                    _ => write!(f, "| {cell:>width$} ")?,
                }
            }
            writeln!(f, "|")
        };
        writeln!(f, "**{}**\n", self.title)?;
        line(&self.columns, f)?;
        for (index, width) in widths.iter().enumerate() {
            match index {
                0 => write!(f, "|{:-<1$}", "", width + 2)?,
                _ => write!(f, "|{:-<1$}:", "", width + 1)?,
            }
        }
        writeln!(f, "|")?;
        rows.iter().try_for_each(|row| line(row, f))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_the_screen_and_as_json() {
        let mut table = Table::new("Title", &["who", "how many", "us"]);
        table.row(["a peer".into(), Cell::Count(1_048_576), Cell::Figure(1.25, 1)]);
        table.row(["ours".into(), Cell::Count(0), Cell::Empty]);
        let text = "**Title**\n\n\
                    | who    |  how many |  us |\n\
                    |--------|----------:|----:|\n\
                    | a peer | 1 048 576 | 1.2 |\n\
                    | ours   |         0 |     |\n";
        assert_eq!(table.to_string(), text);
        let rows = json!([
            { "who": "a peer", "how many": 1_048_576, "us": 1.25 },
            { "who": "ours", "how many": 0, "us": null },
        ]);
        assert_eq!(table.to_json(), json!({ "title": "Title", "rows": rows }));
    }
}
