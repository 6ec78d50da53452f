//! `preview requests`.

use std::error::Error;
use std::fmt::Write;
use std::process::ExitCode;

use clap::Args;
use coupon_operator::clock::Clock;
use coupon_operator::manifests::{CheckedCampaign, Manifests, Severity};
use coupon_operator::preview::recipients::Recipients;
use coupon_operator::preview::requests::{RequestError, RequestRow, Requests};
use coupon_operator::preview::{Moment, name, zone_of};

use super::{Common, note, say_absent};
use crate::commands::output::{Rows, unless_closed};

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    common: Common,

    /// At this time: RFC 3339, or a time or a day in the campaign's time zone. Now if absent.
    #[arg(long)]
    at: Option<Moment>,

    /// No more requests of a campaign than this.
    #[arg(long, default_value_t = 10)]
    limit: usize,
}

/// No more is to be shown.
enum Stop {
    Enough,
    Failed(std::io::Error),
}

impl Options {
    pub fn run(&self) -> Result<ExitCode, Box<dyn Error>> {
        let Some(manifests) = self.common.files.manifests() else { return Ok(ExitCode::FAILURE) };
        let mut rows = Rows::new(self.common.output);
        let mut answered = true;
        for (checked, absent) in manifests.previewed() {
            say_absent(&checked, &absent, Severity::Error, "its requests cannot be shown");
            answered &= absent.is_empty();
            if absent.is_empty() {
                answered &= self.write(&manifests, &checked, &mut rows)?;
            }
        }
        unless_closed(rows.finish())?;
        Ok(if answered { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// False if a request cannot be made.
    fn write(
        &self,
        manifests: &Manifests,
        checked: &CheckedCampaign<'_>,
        rows: &mut Rows,
    ) -> Result<bool, Box<dyn Error>> {
        let now = self.at.map_or_else(|| Clock::real().now(), |at| at.in_zone(zone_of(checked)));
        let name = name(checked);
        let mut recipients = Recipients::new(&name, checked, now);
        let mut requests = Requests::new(manifests, checked, now);
        let (mut shown, mut all_made, mut enough) = (0_usize, true, false);
        let mut show = |made: Vec<Result<RequestRow, RequestError>>| {
            for request in made {
                if shown >= self.limit {
                    return Err(Stop::Enough);
                }
                shown = shown.saturating_add(1);
                match request {
                    Ok(row) => rows.text(&row, || text(&row)).map_err(Stop::Failed)?,
                    Err(error) => {
                        all_made = false;
                        note(checked, Severity::Error, error.to_string());
                    }
                }
            }
            Ok(())
        };
        self.common.files.each_batch(checked, |profiles| {
            if enough {
                return Ok(());
            }
            let looked = recipients.look(profiles, |_| Ok(()), |granted| show(requests.add(granted)));
            enough = unless_enough(looked)?;
            Ok(())
        })?;
        if !enough {
            enough = unless_enough(show(requests.finish()))?;
        }
        if enough {
            note(checked, Severity::Warning, format!("only {} requests are shown: --limit N shows more", self.limit));
        } else if shown == 0 {
            note(checked, Severity::Warning, "nobody gets a code at this time: preview recipients says why".to_owned());
        }
        Ok(all_made)
    }
}

/// True if no more is to be shown.
fn unless_enough(shown: Result<(), Stop>) -> Result<bool, Box<dyn Error>> {
    match shown {
        Ok(()) => Ok(false),
        Err(Stop::Enough) => Ok(true),
        Err(Stop::Failed(error)) => Ok(unless_closed(Err(error)).map(|()| true)?),
    }
}

/// A request as HTTP has it.
fn text(row: &RequestRow) -> String {
    let whom = row.recipient.clone().unwrap_or_else(|| format!("{} records", row.records));
    let mut text = format!(
        "# {} / {} / {}: {whom} → {}\n{} {}\n",
        row.campaign, row.rule, row.occurrence, row.delivery, row.method, row.url
    );
    for (name, value) in &row.headers {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}: {value}");
    }
    let body = row.body.as_deref().unwrap_or_default().trim_end();
    let _ = if body.is_empty() { writeln!(text) } else { writeln!(text, "\n{body}\n") };
    text
}
