//! `export`: a campaign's codes, for a shop that is to accept them.

use std::error::Error;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use coupon_operator::reports::codes::{IssuedCode, TALON_ONE, codes};
use kube::ResourceExt;

use super::coupons::Selection;
use super::output::{unless_closed, unless_closed_by_reader};

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    selection: Selection,

    /// How codes are written: csv has the columns of Talon.One's coupon import, ndjson says all that is known of each.
    #[arg(short, long, value_enum, default_value_t = Format::Csv)]
    output: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Csv,
    Ndjson,
}

enum Out<W: Write> {
    Csv(Box<csv::Writer<W>>),
    Ndjson(W),
}

impl Options {
    pub async fn run(&self) -> Result<ExitCode, Box<dyn Error>> {
        let stdout = BufWriter::with_capacity(1 << 16, io::stdout());
        let mut out = match self.output {
            Format::Csv => Out::csv(stdout)?,
            Format::Ndjson => Out::Ndjson(stdout),
        };
        let mut unreadable = 0_u64;
        let look = |coupon: &_| {
            for code in codes(coupon) {
                match code {
                    Ok(code) => out.write(&code)?,
                    Err(error) => {
                        unreadable = unreadable.saturating_add(1);
                        eprintln!("error: Coupon/{}: {error}", coupon.name_any());
                    }
                }
            }
            Ok(())
        };
        unless_closed_by_reader(self.selection.each("", look).await)?;
        unless_closed(out.finish())?;
        // Whoever imports these would take them for all.
        Ok(if unreadable == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl<W: Write> Out<W> {
    fn csv(out: W) -> io::Result<Self> {
        let mut writer = csv::Writer::from_writer(out);
        writer.write_record(TALON_ONE)?;
        Ok(Self::Csv(Box::new(writer)))
    }

    fn write(&mut self, code: &IssuedCode<'_>) -> io::Result<()> {
        match self {
            Self::Csv(writer) => Ok(writer.write_record(code.talon_one())?),
            Self::Ndjson(out) => {
                serde_json::to_writer(&mut *out, code)?;
                out.write_all(b"\n")
            }
        }
    }

    fn finish(mut self) -> io::Result<()> {
        match &mut self {
            Self::Csv(writer) => writer.flush(),
            Self::Ndjson(out) => out.flush(),
        }
    }
}
