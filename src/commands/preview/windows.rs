//! `preview windows`.

use std::error::Error;
use std::process::ExitCode;

use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use coupon_operator::api::campaign::Profile;
use coupon_operator::clock::Clock;
use coupon_operator::manifests::{CheckedCampaign, Severity};
use coupon_operator::preview::windows::{WindowRow, cut_by_except, needing_a_recipient, windows};
use coupon_operator::preview::{Moment, zone_of};

use super::{Common, local, note};
use crate::commands::output::{Format, Rows, unless_closed};

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    common: Common,

    /// From this time on: RFC 3339, or a time or a day in the campaign's time zone. Now if absent.
    #[arg(long)]
    from: Option<Moment>,

    /// Until this time; a year after --from if absent.
    #[arg(long)]
    until: Option<Moment>,

    /// Whose anniversaries are meant, by integrationId, for rules that go by each recipient's own date.
    #[arg(long)]
    recipient: Option<String>,
}

/// Of so many windows an `except` that cuts them is looked for.
const LOOKED_AT: usize = 10_000;

impl Options {
    pub fn run(&self) -> Result<ExitCode, Box<dyn Error>> {
        let Some(manifests) = self.common.files.manifests() else { return Ok(ExitCode::FAILURE) };
        let mut rows = Rows::new(self.common.output);
        let mut answered = true;
        unless_closed(rows.header(&["CAMPAIGN", "RULE", "OCCURRENCE", "OPENS", "CLOSES", "LASTS"]))?;
        for checked in manifests.campaigns() {
            let (from, until) = self.range(&checked);
            if from >= until {
                eprintln!("error: --until must be after --from: {until} is not after {from}");
                return Ok(ExitCode::from(2));
            }
            let recipient = self.recipient(&checked)?;
            for rule in needing_a_recipient(&checked, recipient.as_ref()) {
                answered = false;
                let why = match &self.recipient {
                    Some(id) => format!(
                        "rule {rule} goes by each recipient's own date, and {id} is not in the audience or has none"
                    ),
                    None => format!("rule {rule} goes by each recipient's own date: say whose with --recipient ID"),
                };
                note(&checked, Severity::Error, why);
            }
            unless_closed(self.write(&checked, recipient.as_ref(), &mut rows))?;
        }
        unless_closed(rows.finish())?;
        Ok(if answered { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn write(
        &self,
        checked: &CheckedCampaign<'_>,
        recipient: Option<&Profile>,
        rows: &mut Rows,
    ) -> std::io::Result<()> {
        let zone = zone_of(checked);
        let range = self.range(checked);
        let mut seen: Vec<WindowRow> = Vec::new();
        for row in windows(checked, range, recipient) {
            rows.row(&row, || {
                let (opens, closes) = (local(row.opens, zone, "always"), local(row.closes, zone, "never"));
                [row.campaign.clone(), row.rule.clone(), row.occurrence.clone(), opens, closes, lasts(&row)]
            })?;
            if seen.len() < LOOKED_AT {
                seen.push(row);
            }
        }
        for warning in cut_by_except(&checked.campaign.spec, &seen) {
            note(checked, Severity::Warning, warning);
        }
        if checked.campaign.spec.suspend {
            note(checked, Severity::Warning, "spec.suspend is true: nothing is issued while it is".to_owned());
        }
        let unanswered = !needing_a_recipient(checked, recipient).is_empty();
        if seen.is_empty() && !unanswered && self.common.output == Format::Table {
            note(checked, Severity::Warning, "no window is open in this time".to_owned());
        }
        Ok(())
    }

    fn range(&self, checked: &CheckedCampaign<'_>) -> (DateTime<Utc>, DateTime<Utc>) {
        let zone = zone_of(checked);
        let from = self.from.map_or_else(|| Clock::real().now(), |from| from.in_zone(zone));
        let year = || from.checked_add_signed(TimeDelta::days(365)).unwrap_or(from);
        (from, self.until.map_or_else(year, |until| until.in_zone(zone)))
    }

    fn recipient(&self, checked: &CheckedCampaign<'_>) -> Result<Option<Profile>, Box<dyn Error>> {
        let Some(id) = self.recipient.as_deref().map(str::trim) else { return Ok(None) };
        let mut found = None;
        self.common.files.each_batch(checked, |profiles| {
            let is_meant = |profile: &&Profile| profile.integration_id.trim() == id;
            found = found.take().or_else(|| profiles.iter().find(is_meant).cloned());
            Ok(())
        })?;
        Ok(found)
    }
}

/// How long a window is, in the two largest units that it has.
fn lasts(row: &WindowRow) -> String {
    let Some((opens, closes)) = row.opens.zip(row.closes) else { return String::new() };
    let seconds = closes.signed_duration_since(opens).num_seconds();
    let units = [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let mut left = seconds;
    let parts = units.iter().filter_map(|(unit, name)| {
        let count = left.div_euclid(*unit);
        left = left.rem_euclid(*unit);
        (count > 0).then(|| format!("{count}{name}"))
    });
    parts.take(2).collect::<Vec<_>>().join(" ")
}
