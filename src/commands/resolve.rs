//! `resolve`: one decision for many Coupons, by the annotation that a person could write on each.

use std::error::Error;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use coupon_operator::api::RESOLVE_ANNOTATION;
use coupon_operator::api::coupon::{Coupon, CouponState};
use coupon_operator::clock::Clock;
use coupon_operator::controllers::coupon::resolve::{Decision, Resolution, undecided};
use futures::StreamExt;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::api::client;

/// Annotations that are written at once.
const AT_ONCE: usize = 8;
const PAGE: u32 = 100;

#[derive(Args)]
pub struct Options {
    /// The Campaign whose Coupons are meant.
    campaign: String,

    /// What is to become of records that are held, failed or expired: Retry sends them again, Delivered takes your word that they arrived, Abandon gives up those that are held.
    #[arg(long = "as", value_enum)]
    decision: Choice,

    /// Only those of this delivery; of each if absent.
    #[arg(long)]
    delivery: Option<String>,

    /// Only those of this occurrence, by its key.
    #[arg(long)]
    occurrence: Option<String>,

    /// Only Coupons in this state.
    #[arg(long, value_enum)]
    state: Option<Troubled>,

    /// The namespace; that of your kubeconfig if absent.
    #[arg(short, long)]
    namespace: Option<String>,

    /// Only say what would be annotated.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "PascalCase")]
enum Choice {
    Retry,
    Delivered,
    Abandon,
}

#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "PascalCase")]
enum Troubled {
    Held,
    Failed,
    PartiallyFailed,
    Expired,
}

/// What was annotated, or would be.
#[derive(Default)]
struct Count {
    coupons: u32,
    records: u32,
    failed: u32,
}

impl Options {
    pub async fn run(&self) -> Result<ExitCode, Box<dyn Error>> {
        let client = client().await?;
        let namespace = self.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        let api: Api<Coupon> = Api::namespaced(client, &namespace);
        let mut params = ListParams::default().fields(&self.selector()).limit(PAGE);
        let mut count = Count::default();
        loop {
            let page = api.list(&params).await?;
            self.annotate(&api, &page.items, &mut count).await?;
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => break,
            }
        }
        self.say(&count);
        Ok(if count.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn selector(&self) -> String {
        let mut selector = format!("spec.campaign={},{}", self.campaign, CouponState::TROUBLED_SELECTOR);
        if let Some(key) = &self.occurrence {
            selector = format!("{selector},spec.occurrence={key}");
        }
        match self.state {
            Some(Troubled::Held) => selector + ",status.state=Held",
            Some(Troubled::Failed) => selector + ",status.state=Failed",
            Some(Troubled::PartiallyFailed) => selector + ",status.state=PartiallyFailed",
            Some(Troubled::Expired) => selector + ",status.state=Expired",
            None => selector,
        }
    }

    async fn annotate(&self, api: &Api<Coupon>, coupons: &[Coupon], count: &mut Count) -> std::io::Result<()> {
        let decided = coupons.iter().filter_map(|coupon| Some((coupon, self.annotation(coupon)?)));
        let mut annotated = futures::stream::iter(decided)
            .map(|(coupon, (text, records))| async move { (coupon, records, self.write(api, coupon, &text).await) })
            .buffer_unordered(AT_ONCE);
        while let Some((coupon, records, written)) = annotated.next().await {
            match written {
                Ok(()) => {
                    count.coupons = count.coupons.saturating_add(1);
                    count.records = count.records.saturating_add(records);
                }
                Err(error) => {
                    count.failed = count.failed.saturating_add(1);
                    eprintln!("error: Coupon/{}: {error}", coupon.name_any());
                }
            }
        }
        if std::io::stderr().is_terminal() {
            eprint!("\r{} Coupons", count.coupons);
            std::io::stderr().flush()?;
        }
        Ok(())
    }

    /// The annotation for a Coupon, and how many records it decides on; none if there are none.
    fn annotation(&self, coupon: &Coupon) -> Option<(String, u32)> {
        let decision = match self.decision {
            Choice::Retry => Decision::Retry,
            Choice::Delivered => Decision::Delivered,
            Choice::Abandon => Decision::Abandon,
        };
        let status = coupon.status.as_ref()?;
        let meant = status.deliveries.iter().filter(|d| self.delivery.as_ref().is_none_or(|name| *name == d.name));
        let undecided = meant.map(|d| (d, undecided(d, decision).len())).filter(|(_, records)| *records > 0);
        let mut all = 0_u32;
        let mut texts = Vec::new();
        for (delivery, records) in undecided {
            all = all.saturating_add(records);
            let resolution = Resolution { delivery: delivery.name.clone(), decision, attempt: delivery.attempts };
            texts.push(resolution.to_string());
        }
        // With a note of its own, so that the same decision counts when it is made once more.
        let now = Clock::real().now().to_rfc3339();
        (!texts.is_empty()).then(|| (format!("{}; {now}", texts.join(",")), all))
    }

    async fn write(&self, api: &Api<Coupon>, coupon: &Coupon, annotation: &str) -> kube::Result<()> {
        if self.dry_run {
            return Ok(());
        }
        let patch = json!({ "metadata": {
            "annotations": { RESOLVE_ANNOTATION: annotation },
            // What was looked at is what is decided on.
            "resourceVersion": coupon.metadata.resource_version,
        } });
        api.patch(&coupon.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
    }

    fn say(&self, count: &Count) {
        if std::io::stderr().is_terminal() {
            eprintln!();
        }
        let done = if self.dry_run { "would be annotated" } else { "annotated, and the operator follows" };
        println!("{} Coupons with {} records {done}", count.coupons, count.records);
        if count.failed > 0 {
            println!("{} Coupons were not annotated: run it again", count.failed);
        }
    }
}
