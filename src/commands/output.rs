//! How results are written: a table for people, or NDJSON for scripts, on standard output; what is to be
//! said beside them, on standard error.

use std::error::Error;
use std::io::{self, BufWriter, Stdout, Write};

use clap::ValueEnum;
use coupon_operator::manifests::{Finding, Severity};
use serde::Serialize;
use tabwriter::TabWriter;

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Ndjson,
}

/// Rows after which a table is written out: each block is aligned by itself, so that a long one needs
/// no memory.
const BLOCK: u32 = 1000;

/// Where rows go.
pub enum Rows {
    Table { out: TabWriter<BufWriter<Stdout>>, pending: u32 },
    Ndjson(BufWriter<Stdout>),
}

impl Rows {
    pub fn new(format: Format) -> Self {
        let out = BufWriter::with_capacity(1 << 16, io::stdout());
        match format {
            Format::Table => Self::Table { out: TabWriter::new(out).padding(3), pending: 0 },
            Format::Ndjson => Self::Ndjson(out),
        }
    }

    /// The first row of a table.
    pub fn header(&mut self, columns: &[&str]) -> io::Result<()> {
        match self {
            Self::Table { out, .. } => writeln!(out, "{}", columns.join("\t")),
            Self::Ndjson(_) => Ok(()),
        }
    }

    /// A row: its cells for a table, itself for scripts.
    pub fn row<const N: usize>(&mut self, row: &impl Serialize, cells: impl FnOnce() -> [String; N]) -> io::Result<()> {
        match self {
            Self::Ndjson(out) => {
                serde_json::to_writer(&mut *out, row)?;
                out.write_all(b"\n")
            }
            Self::Table { out, pending } => {
                // A tab or a line break in a value would be a column or a row.
                let cells = cells().map(|cell| cell.replace(['\t', '\n', '\r'], " "));
                writeln!(out, "{}", cells.join("\t"))?;
                *pending = pending.saturating_add(1);
                if *pending >= BLOCK {
                    *pending = 0;
                    out.flush()?;
                }
                Ok(())
            }
        }
    }

    /// Text as it is, in a table's place.
    pub fn text(&mut self, row: &impl Serialize, text: impl FnOnce() -> String) -> io::Result<()> {
        match self {
            Self::Table { out, .. } => write!(out, "{}", text()),
            Self::Ndjson(_) => self.row(row, || [String::new()]),
        }
    }

    pub fn finish(mut self) -> io::Result<()> {
        match &mut self {
            Self::Table { out, .. } => out.flush(),
            Self::Ndjson(out) => out.flush(),
        }
    }
}

/// Whoever reads the output may have seen enough: `… | head` is no error.
pub fn unless_closed(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// The same of what failed in whatever way.
pub fn unless_closed_by_reader(result: Result<(), Box<dyn Error>>) -> Result<(), Box<dyn Error>> {
    match result {
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => {
            Ok(())
        }
        other => other,
    }
}

/// One line for a finding: file, object, what it is, and what is wrong.
pub fn line(finding: &Finding) -> String {
    let severity = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let place = [finding.file.as_str(), finding.object.as_str()];
    let place = place.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ");
    format!("{place}: {severity}: {}", finding.message)
}
