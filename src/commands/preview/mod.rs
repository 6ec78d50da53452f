//! `preview`: what campaigns would do, offline.

mod recipients;
mod requests;
mod windows;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use coupon_operator::api::campaign::Profile;
use coupon_operator::audience::format::FormatError;
use coupon_operator::manifests::{CheckedCampaign, Finding, Manifests, Severity};
use coupon_operator::preview::{self, profiles};

use super::output::{Format, line};

#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The windows that are open at any time in a range, whole, in order. Times in the table are those of the campaign's time zone.
    Windows(windows::Options),
    /// Who would get a code at a time, and why others would not. Nobody is taken to have one yet.
    Recipients(recipients::Options),
    /// The requests that would be sent at a time, secrets aside.
    Requests(requests::Options),
}

impl Options {
    pub fn run(&self) -> Result<ExitCode, Box<dyn Error>> {
        match &self.what {
            What::Windows(options) => options.run(),
            What::Recipients(options) => options.run(),
            What::Requests(options) => options.run(),
        }
    }
}

/// The manifests that are looked at.
#[derive(Args)]
pub(super) struct Files {
    /// A file with manifests, YAML or JSON; - is standard input. May be given several times.
    #[arg(short, long = "file", required = true)]
    file: Vec<PathBuf>,

    /// A file of profiles that stands in for the campaigns' audiences: NDJSON, a profile a line, or CSV with a column integrationId.
    #[arg(long)]
    profiles: Option<PathBuf>,
}

/// What all previews are told.
#[derive(Args)]
struct Common {
    #[command(flatten)]
    files: Files,

    /// How results are written.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

impl Files {
    /// The manifests. If anything in them is wrong, it is said, and there is nothing to preview.
    pub(super) fn manifests(&self) -> Option<Manifests> {
        let mut manifests = Manifests::default();
        self.file.iter().for_each(|file| manifests.read(file));
        let findings = manifests.check();
        let errors = findings.iter().filter(|f| f.severity == Severity::Error);
        errors.clone().for_each(|finding| eprintln!("{}", line(finding)));
        if errors.count() > 0 {
            return None;
        }
        if manifests.campaigns().is_empty() {
            eprintln!("error: there is no Campaign in {}", self.files());
            return None;
        }
        Some(manifests)
    }

    fn files(&self) -> String {
        self.file.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
    }

    /// Goes through a Campaign's audience, or what stands in for it, in batches.
    pub(super) fn each_batch(
        &self,
        checked: &CheckedCampaign<'_>,
        mut look: impl FnMut(&[Profile]) -> Result<(), Box<dyn Error>>,
    ) -> Result<(), Box<dyn Error>> {
        let Some(path) = &self.profiles else {
            let audience = &checked.campaign.spec.audience;
            let in_map = audience.config_map_ref.as_ref().map(|source| format!("in ConfigMap {}", source.name));
            if let Some(place) = in_map.or_else(|| audience.http.as_ref().map(|_| "at a web address".to_owned())) {
                let campaign = preview::name(checked);
                return Err(format!("the audience of Campaign {campaign} is {place}, which is not read here: give its customers with --profiles FILE").into());
            }
            return audience.written().chunks(preview::recipients::BATCH).try_for_each(look);
        };
        for batch in batches(path)? {
            look(&batch.map_err(|error| format!("{}: {error}", path.display()))?)?;
        }
        Ok(())
    }
}

/// Says which Webhooks are not in the files.
pub(super) fn say_absent(checked: &CheckedCampaign<'_>, absent: &[String], severity: Severity, what: &str) {
    for webhook in absent {
        note(checked, severity, format!("Webhook {webhook} is not in the files: {what}; add its file with -f"));
    }
}

/// The profiles of a file in batches. They are read by a thread of their own, a little ahead of whoever looks
/// at them.
fn batches(path: &Path) -> Result<impl Iterator<Item = Result<Vec<Profile>, FormatError>>, Box<dyn Error>> {
    const AHEAD: usize = 2;
    let mut profiles = profiles::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let (sender, receiver) = std::sync::mpsc::sync_channel(AHEAD);
    std::thread::spawn(move || {
        loop {
            let batch: Result<Vec<Profile>, FormatError> = profiles.by_ref().take(preview::recipients::BATCH).collect();
            let last = batch.as_ref().map_or(true, Vec::is_empty);
            // Whoever looked at them may have seen enough.
            if sender.send(batch).is_err() || last {
                return;
            }
        }
    });
    Ok(receiver.into_iter())
}

/// Something to be said beside the results.
fn note(checked: &CheckedCampaign<'_>, severity: Severity, message: String) {
    let object = format!("Campaign/{}", preview::name(checked));
    eprintln!("{}", line(&Finding { file: checked.file.to_owned(), object, message, severity }));
}

/// An instant as people read it, in a time zone.
fn local(at: Option<DateTime<Utc>>, zone: chrono_tz::Tz, otherwise: &str) -> String {
    at.map_or_else(
        || otherwise.to_owned(),
        |at| at.with_timezone(&zone).format("%a %Y-%m-%d %H:%M:%S %Z").to_string().replace(":00 ", " "),
    )
}

/// How many get a code, and why others do not.
#[derive(Default)]
struct Summary {
    granted: u64,
    refused: BTreeMap<String, u64>,
}

impl Summary {
    /// Reasons with a time or a number in them are many; the most are told apart.
    const MOST: usize = 20;

    fn note(&mut self, reason: Option<&str>) {
        let Some(reason) = reason else {
            self.granted = self.granted.saturating_add(1);
            return;
        };
        let known = self.refused.contains_key(reason) || self.refused.len() < Self::MOST;
        let count = self.refused.entry(if known { reason } else { "other reasons" }.to_owned()).or_default();
        *count = count.saturating_add(1);
    }
}
