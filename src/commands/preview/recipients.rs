//! `preview recipients`.

use std::error::Error;
use std::process::ExitCode;

use clap::Args;
use coupon_operator::clock::Clock;
use coupon_operator::manifests::{CheckedCampaign, Severity};
use coupon_operator::preview::recipients::{RecipientRow, Recipients};
use coupon_operator::preview::{Moment, name, zone_of};

use super::{Common, Summary, note, say_absent};
use crate::commands::output::{Rows, unless_closed};

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    common: Common,

    /// At this time: RFC 3339, or a time or a day in the campaign's time zone. Now if absent.
    #[arg(long)]
    at: Option<Moment>,
}

impl Options {
    pub fn run(&self) -> Result<ExitCode, Box<dyn Error>> {
        let Some(manifests) = self.common.files.manifests() else { return Ok(ExitCode::FAILURE) };
        let mut rows = Rows::new(self.common.output);
        unless_closed(rows.header(&["CAMPAIGN", "RULE", "OCCURRENCE", "RECIPIENT", "GRANTED", "REASON"]))?;
        for (checked, absent) in manifests.previewed() {
            say_absent(&checked, &absent, Severity::Warning, "its parameters are not checked");
            match self.write(&checked, &mut rows) {
                Err(error) if is_closed(&*error) => return Ok(ExitCode::SUCCESS),
                other => other?,
            }
        }
        unless_closed(rows.finish())?;
        Ok(ExitCode::SUCCESS)
    }

    fn write(&self, checked: &CheckedCampaign<'_>, rows: &mut Rows) -> Result<(), Box<dyn Error>> {
        let now = self.at.map_or_else(|| Clock::real().now(), |at| at.in_zone(zone_of(checked)));
        let name = name(checked);
        let mut recipients = Recipients::new(&name, checked, now);
        let mut summary = Summary::default();
        self.common.files.each_batch(checked, |profiles| {
            let row = |row: &RecipientRow<'_>| {
                summary.note(row.reason.as_deref());
                rows.row(row, || cells(row))
            };
            Ok(recipients.look(profiles, row, |_| Ok(()))?)
        })?;
        say(checked, &summary, recipients.repeated);
        Ok(())
    }
}

fn cells(row: &RecipientRow<'_>) -> [String; 6] {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let granted = if row.granted { "yes" } else { "no" };
    [
        row.campaign.to_owned(),
        row.rule.to_owned(),
        text(&row.occurrence),
        row.recipient.to_owned(),
        granted.to_owned(),
        text(&row.reason),
    ]
}

fn say(checked: &CheckedCampaign<'_>, summary: &Summary, repeated: u64) {
    if repeated > 0 {
        note(checked, Severity::Warning, format!("the audience names {repeated} ids more than once; each counts once"));
    }
    if checked.campaign.spec.suspend {
        note(checked, Severity::Warning, "spec.suspend is true: nothing is issued while it is".to_owned());
    }
    eprintln!("{}: {} get a code", name(checked), summary.granted);
    for (reason, count) in &summary.refused {
        eprintln!("{}: {count} do not: {reason}", name(checked));
    }
}

fn is_closed(error: &(dyn Error + 'static)) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
