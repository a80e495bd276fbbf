//! The results: as a table for people, and as JSON.

use std::fmt;

use serde::Serialize;

use crate::machine::{Load, Machine, load};
use crate::row::Row;

/// All results of one run.
#[derive(Debug, Serialize)]
pub struct Table {
    machine: Machine,
    load_before: Load,
    load_after: Load,
    rows: Vec<Row>,
}

impl Table {
    /// An empty one, of this machine.
    pub fn of(machine: Machine) -> Self {
        Self { machine, load_before: load(), load_after: load(), rows: vec![] }
    }

    /// Adds results.
    pub fn add(&mut self, rows: Vec<Row>) {
        self.rows.extend(rows);
    }

    /// Notes how busy the machine was in the end.
    pub fn finish(&mut self) {
        self.load_after = load();
    }
}

impl fmt::Display for Table {
    /// As Markdown, its columns aligned.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.machine)?;
        writeln!(f, "load average {} before, {} after (the run itself included)\n", self.load_before, self.load_after)?;
        let head = ["", "what", "measured", "bare", "ratio", "target", "ok?"].map(str::to_owned);
        let rule = ["-", "-", "-:", "-:", "-:", "-:", "-"].map(str::to_owned);
        let lines: Vec<[String; 7]> = [head, rule].into_iter().chain(self.rows.iter().map(cells)).collect();
        let widths: Vec<usize> =
            (0..7).map(|n| lines.iter().map(|line| line[n].chars().count()).max().unwrap_or_default()).collect();
        for line in lines {
            write!(f, "|")?;
            for (n, (cell, width)) in line.iter().zip(&widths).enumerate() {
                match (cell.as_str(), n) {
                    ("-", _) => write!(f, " {:-<width$} |", "")?,
                    ("-:", _) => write!(f, " {:->width$} |", ":")?,
                    (_, 2..=5) => write!(f, " {cell:>width$} |")?,
                    _ => write!(f, " {cell:<width$} |")?,
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

fn cells(row: &Row) -> [String; 7] {
    let with_unit = |value: f64| format!("{} {}", number(value), row.unit);
    [
        row.part.to_owned(),
        row.what.clone(),
        with_unit(row.measured),
        row.bare.map(with_unit).unwrap_or_default(),
        row.ratio.map(|ratio| format!("{ratio:.2}x")).unwrap_or_default(),
        row.target.clone().unwrap_or_default(),
        row.ok.map(|ok| if ok { "yes" } else { "NO" }.to_owned()).unwrap_or_default(),
    ]
}

/// Three digits that matter.
fn number(value: f64) -> String {
    match value.abs() {
        below if below < 10.0 => format!("{value:.2}"),
        below if below < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
