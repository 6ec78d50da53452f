//! `failures`: who did not get their code, and why.

use std::error::Error;
use std::process::ExitCode;

use clap::Args;
use coupon_operator::reports::failures::failures;

use super::coupons::Selection;
use super::output::{Format, Rows, unless_closed, unless_closed_by_reader};

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    selection: Selection,

    /// How results are written.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

impl Options {
    /// Exits with 0 also if there are any: that is an answer, not an error.
    pub async fn run(&self) -> Result<ExitCode, Box<dyn Error>> {
        let mut rows = Rows::new(self.output);
        unless_closed(rows.header(&["RECIPIENT", "RULE", "OCCURRENCE", "DELIVERY", "END", "REASON", "MESSAGE"]))?;
        let look = |coupon: &_| {
            for failure in failures(coupon) {
                let cells = || {
                    let f = &failure;
                    let end = format!("{:?}", f.end);
                    [&f.recipient, &f.rule, &f.occurrence, &f.delivery, &end, &f.reason, &f.message].map(String::clone)
                };
                rows.row(&failure, cells)?;
            }
            Ok(())
        };
        // A Coupon of which some failed may be on its way with others.
        unless_closed_by_reader(self.selection.each("status.state!=Delivered", look).await)?;
        unless_closed(rows.finish())?;
        Ok(ExitCode::SUCCESS)
    }
}
