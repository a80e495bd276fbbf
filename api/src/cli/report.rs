//! How the rows of a report are written: as a table, as JSON, or as CSV. A row at a time, however many there are.

use std::io::Write;

use serde_json::{Map, Value as Json, json};
use tandem_domain::Value;
use tandem_gateways::FieldDrift;

use super::Failure;
use super::out::{Out, in_line, in_lines};
use super::tail::show;

/// The form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    Table,
    Json,
    Csv,
}

/// One row: its columns, and the fields that differ.
pub(super) struct Row {
    pub(super) columns: Vec<Column>,
    pub(super) fields: Vec<FieldDrift>,
}

/// One column of a row.
pub(super) struct Column {
    pub(super) name: &'static str,
    /// Characters, as far as they can be known beforehand: rows are written as they come.
    pub(super) width: usize,
    pub(super) text: Option<String>,
}

impl Column {
    pub(super) fn new(name: &'static str, width: usize, text: Option<String>) -> Self {
        Self { name, width, text }
    }
}

/// A report on its way to stdout.
pub(super) struct Report {
    format: Format,
    /// Customers' data is shown.
    values: bool,
    rows: usize,
    out: Out,
}

impl Report {
    /// Begins with what is said of the whole: an object in JSON, of which `rows` is the last member.
    pub(super) fn begin(format: Format, values: bool, whole: &impl serde::Serialize) -> Result<Self, Failure> {
        let mut out = Out::default();
        if format == Format::Json {
            let whole = serde_json::to_value(whole)?;
            let members = whole.as_object().into_iter().flatten();
            writeln!(out, "{{")?;
            for (name, value) in members {
                writeln!(out, "  {}: {value},", json!(name))?;
            }
            write!(out, "  \"rows\": [")?;
        }
        Ok(Self { format, values, rows: 0, out })
    }

    /// Nobody reads on: the other rows need not be looked for.
    pub(super) fn is_unread(&self) -> bool {
        self.out.is_unread()
    }

    pub(super) fn row(&mut self, row: Row) -> Result<(), Failure> {
        match self.format {
            Format::Table => self.as_text(&row)?,
            Format::Json => self.as_json(&row)?,
            Format::Csv => self.as_csv(&row)?,
        }
        self.rows += 1;
        Ok(())
    }

    /// Ends it. What is said at the end is for people.
    pub(super) fn end(mut self, last: &str) -> Result<(), Failure> {
        match self.format {
            Format::Table => writeln!(self.out, "{last}")?,
            Format::Json => writeln!(self.out, "{}]\n}}", if self.rows > 0 { "\n  " } else { "" })?,
            Format::Csv if self.is_unread() => {}
            Format::Csv => eprintln!("{}", in_lines(last)),
        }
        Ok(())
    }

    fn as_text(&mut self, row: &Row) -> Result<(), Failure> {
        let out = &mut self.out;
        let mut line = String::new();
        for Column { width, text, .. } in &row.columns {
            line += &format!("{:<width$}  ", in_line(text.as_deref().unwrap_or("-")));
        }
        if self.values {
            writeln!(out, "{}", line.trim_end())?;
            for FieldDrift { field, here, there } in &row.fields {
                let field = in_line(&field.to_string());
                writeln!(out, "    {field}: {} here, {} there", show(here.as_ref()), show(there.as_ref()))?;
            }
        } else {
            let fields: Vec<String> = row.fields.iter().map(|one| in_line(&one.field.to_string())).collect();
            writeln!(out, "{}", format!("{line}{}", fields.join(", ")).trim_end())?;
        }
        Ok(())
    }

    fn as_json(&mut self, row: &Row) -> Result<(), Failure> {
        let mut object: Map<String, Json> =
            row.columns.iter().map(|one| (one.name.to_owned(), json!(one.text))).collect();
        let fields = row.fields.iter().map(|one| if self.values { json!(one) } else { json!({ "field": one.field }) });
        object.insert("fields".to_owned(), fields.collect());
        let comma = if self.rows > 0 { "," } else { "" };
        write!(self.out, "{comma}\n    {}", Json::from(object))?;
        Ok(())
    }

    /// A line for each field that differs; one without where none does.
    fn as_csv(&mut self, row: &Row) -> Result<(), Failure> {
        let values = self.values;
        let mut csv = csv::Writer::from_writer(vec![]);
        if self.rows == 0 {
            let names = row.columns.iter().map(|one| one.name).chain(["field"]);
            csv.write_record(names.chain(["here", "there"].into_iter().filter(|_| values)))?;
        }
        let columns = row.columns.iter().map(|one| cell(one.text.as_deref().unwrap_or_default()));
        let columns: Vec<String> = columns.collect();
        let mut lines: Vec<[String; 3]> = row
            .fields
            .iter()
            .map(|one| {
                [one.field.to_string(), plain(one.here.as_ref()), plain(one.there.as_ref())].map(|one| cell(&one))
            })
            .collect();
        if lines.is_empty() {
            lines.push(Default::default());
        }
        for line in lines {
            csv.write_record(columns.iter().chain(line.iter().take(if values { 3 } else { 1 })))?;
        }
        self.out.write_all(&csv.into_inner()?)?;
        Ok(())
    }
}

/// A cell is in one line, whatever is in it: whoever reads lines takes what follows a line's end for one of ours. And a spreadsheet
/// takes a cell that begins so for a formula, which may call what it likes; after an apostrophe it is a text.
fn cell(text: &str) -> String {
    let text = &text.replace('\n', "\\u000a");
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '＝', '＋', '－', '＠']);
    if is_formula { format!("'{text}") } else { text.to_owned() }
}

fn plain(value: Option<&Value>) -> String {
    match value {
        None => String::new(),
        Some(Value::Text(text)) => text.clone(),
        Some(Value::Address(address)) => json!(address).to_string(),
        Some(Value::Other(json)) => json.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_of_a_csv_is_a_formula() {
        for text in ["=1+1", "+44 20 7946 0958", "-1", "@SUM(A1)", "\t=1", "\r=1", "＝1"] {
            assert_eq!(cell(text), format!("'{text}"));
        }
        for text in ["", "Ada", "a=1", " =1", "'=1", "{\"line1\":\"=1\"}"] {
            assert_eq!(cell(text), text);
        }
    }

    #[test]
    fn no_cell_of_a_csv_begins_a_line() {
        assert_eq!(cell("x\n\"FAKE\",1"), "x\\u000a\"FAKE\",1");
    }
}
