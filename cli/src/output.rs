//! Output: rows as a table on a terminal, as tab-separated values elsewhere, or as one JSON object a line.

use std::{
    cell::Cell,
    io::{self, IsTerminal, StdoutLock, Write},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::exit::Failure;

/// Characters of a cell in a table.
const WIDEST: usize = 60;

pub(crate) struct Output {
    is_json: bool,
    is_terminal: bool,
    /// Something was written, so that a section begins with an empty line.
    begun: Cell<bool>,
}

impl Output {
    pub(crate) fn new(is_json: bool) -> Self {
        Self { is_json, is_terminal: io::stdout().is_terminal(), begun: Cell::new(false) }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.is_json
    }

    /// Writes rows: each has a value per column. In JSON, all members of the objects; else the columns alone.
    pub(crate) fn rows(&self, columns: &[&str], rows: &[Map<String, Value>]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        if self.is_json {
            for row in rows {
                json_line(&mut out, row)?;
            }
            return Ok(out.flush()?);
        }
        let lines = cells(columns, rows);
        if self.is_terminal {
            table(&mut out, &lines)?;
        } else {
            lines.iter().try_for_each(|line| writeln!(out, "{}", line.join("\t")))?;
        }
        Ok(out.flush()?)
    }

    /// Writes rows of one kind among others, which JSON names under `kind`. Nothing without rows.
    pub(crate) fn section(&self, kind: &str, columns: &[&str], rows: &[Map<String, Value>]) -> Result<(), Failure> {
        if rows.is_empty() {
            return Ok(());
        }
        if self.is_json {
            let of_kind = |row: &Map<String, Value>| {
                let mut row = row.clone();
                row.insert("kind".to_owned(), kind.into());
                row
            };
            return self.rows(columns, &rows.iter().map(of_kind).collect::<Vec<_>>());
        }
        if self.begun.replace(true) {
            writeln!(io::stdout())?;
        }
        self.rows(columns, rows)
    }

    /// Writes one object in JSON, whatever the format of rows.
    pub(crate) fn object(&self, object: &impl Serialize) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, object).map_err(io::Error::from)?;
        Ok(writeln!(out)?)
    }

    /// Writes one value: `text` on a line of its own, or `row` in JSON.
    pub(crate) fn line(&self, text: &str, row: &Map<String, Value>) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        match self.is_json {
            true => json_line(&mut out, row)?,
            false => writeln!(out, "{text}")?,
        }
        Ok(out.flush()?)
    }

    /// Writes bytes as they are.
    pub(crate) fn bytes(&self, bytes: &[&[u8]]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        bytes.iter().try_for_each(|bytes| out.write_all(bytes))?;
        Ok(out.flush()?)
    }
}

fn json_line(out: &mut StdoutLock<'_>, row: &Map<String, Value>) -> Result<(), Failure> {
    serde_json::to_writer(&mut *out, row).map_err(io::Error::from)?;
    Ok(writeln!(out)?)
}

/// A header, and the columns' values of each row.
pub(crate) fn cells(columns: &[&str], rows: &[Map<String, Value>]) -> Vec<Vec<String>> {
    let cells = rows.iter().map(|row| columns.iter().map(|column| cell(row.get(*column))).collect());
    let header = columns.iter().map(|column| (*column).to_owned()).collect();
    std::iter::once(header).chain(cells).collect()
}

/// Writes columns side by side, aligned to the left; long cells are cut.
pub(crate) fn table(out: &mut impl Write, lines: &[Vec<String>]) -> io::Result<()> {
    let short = |cell: &str| match cell.char_indices().nth(WIDEST) {
        Some((end, _)) => format!("{}..", &cell[..end]),
        None => cell.to_owned(),
    };
    let lines: Vec<Vec<_>> = lines.iter().map(|line| line.iter().map(|cell| short(cell)).collect()).collect();
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    for line in &lines {
        let padded: Vec<_> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", padded.join("  ").trim_end())?;
    }
    Ok(())
}

/// A value on one line and without tabs.
fn cell(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => return String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let mut cell = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\\' => cell.push_str("\\\\"),
            char if char.is_control() => cell.extend(char.escape_default()),
            char => cell.push(char),
        }
    }
    cell
}

/// Adds bytes to a row: as text under `name` if they are UTF-8, else in base64 under `{name}_base64`.
pub(crate) fn put_bytes(row: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => row.insert(name.to_owned(), text.into()),
        Err(_) => row.insert(format!("{name}_base64"), STANDARD.encode(bytes).into()),
    };
}

/// Adds headers to a row: an object, values that are no text in base64 under `{key}_base64`.
pub(crate) fn put_headers<'a>(row: &mut Map<String, Value>, headers: impl Iterator<Item = (&'a str, &'a [u8])>) {
    let mut object = Map::new();
    headers.for_each(|(key, value)| put_bytes(&mut object, key, value));
    row.insert("headers".to_owned(), object.into());
}

/// An object of these members.
macro_rules! row {
    ($($name:literal: $value:expr),* $(,)?) => {{
        let mut row = serde_json::Map::new();
        $(row.insert($name.to_owned(), serde_json::Value::from($value));)*
        row
    }};
}

pub(crate) use row;

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(cells: &[&[&str]]) -> String {
        let lines: Vec<Vec<_>> =
            cells.iter().map(|line| line.iter().map(|cell| (*cell).to_owned()).collect()).collect();
        let mut out = Vec::new();
        table(&mut out, &lines).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_are_aligned_and_long_cells_are_cut() {
        assert_eq!(shown(&[&["id", "body"], &["1311", "é"], &["7", ""]]), "id    body\n1311  é\n7\n");
        let long = "ä".repeat(100);
        assert_eq!(shown(&[&["body", "x"], &[&long, "1"]]).lines().last().unwrap(), format!("{}..  1", "ä".repeat(60)));
        assert_eq!(shown(&[]), "");
    }

    #[test]
    fn a_cell_is_one_line_without_tabs() {
        assert_eq!(cell(Some(&"a\tb\nc\\d\u{1b}e".into())), "a\\tb\\nc\\\\d\\u{1b}e");
        assert_eq!(
            (cell(None), cell(Some(&7.into())), cell(Some(&true.into()))),
            (String::new(), "7".into(), "true".into())
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_in_base64() {
        let mut row = row! { "id": "1" };
        put_bytes(&mut row, "body", b"text");
        put_headers(&mut row, [("a", &b"b"[..]), ("raw", &[0xff])].into_iter());
        let text = Value::from(row).to_string();
        assert_eq!(text, r#"{"body":"text","headers":{"a":"b","raw_base64":"/w=="},"id":"1"}"#);
    }
}
