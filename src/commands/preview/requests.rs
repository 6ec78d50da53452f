//! `preview requests`.

use std::error::Error;
use std::fmt::Write;
use std::process::ExitCode;

use clap::Args;
use coupon_operator::clock::Clock;
use coupon_operator::manifests::{CheckedCampaign, Manifests, Severity};
use coupon_operator::preview::recipients::{Granted, Recipients};
use coupon_operator::preview::requests::{RequestRow, requests};
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
        let Some(manifests) = self.common.manifests() else { return Ok(ExitCode::FAILURE) };
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
        let (mut shown, mut all_made, mut enough) = (0_usize, true, false);
        self.common.each_batch(checked, |profiles| {
            let show = |granted: &Granted<'_>| {
                for request in requests(manifests, checked, granted, now) {
                    if shown >= self.limit {
                        return Err(Stop::Enough);
                    }
                    shown = shown.saturating_add(1);
                    match request {
                        Ok(row) => rows.text(&row, || text(&row)).map_err(Stop::Failed)?,
                        Err(error) => {
                            all_made = false;
                            let who = granted.profile.integration_id.trim();
                            note(checked, Severity::Error, format!("rule {}: {who}: {error}", granted.rule.name));
                        }
                    }
                }
                Ok(())
            };
            if enough {
                return Ok(());
            }
            match recipients.look(profiles, |_| Ok(()), show) {
                Ok(()) => Ok(()),
                Err(Stop::Enough) => {
                    enough = true;
                    Ok(())
                }
                Err(Stop::Failed(error)) => Ok(unless_closed(Err(error))?),
            }
        })?;
        if enough {
            note(checked, Severity::Warning, format!("only {} requests are shown: --limit N shows more", self.limit));
        } else if shown == 0 {
            note(checked, Severity::Warning, "nobody gets a code at this time: preview recipients says why".to_owned());
        }
        Ok(all_made)
    }
}

/// A request as HTTP has it.
fn text(row: &RequestRow) -> String {
    let mut text = format!(
        "# {} / {} / {}: {} → {}\n{} {}\n",
        row.campaign, row.rule, row.occurrence, row.recipient, row.delivery, row.method, row.url
    );
    for (name, value) in &row.headers {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}: {value}");
    }
    let body = row.body.as_deref().unwrap_or_default().trim_end();
    let _ = if body.is_empty() { writeln!(text) } else { writeln!(text, "\n{body}\n") };
    text
}
