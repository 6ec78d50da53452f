//! `test-send`: one request for one customer, before anybody gets a code.

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use clap::Args;
use coupon_operator::api::coupon::{CouponSpec, Delivery};
use coupon_operator::api::webhook::{ResponseFormat, Webhook};
use coupon_operator::clock::Clock;
use coupon_operator::controllers::webhook::fetch;
use coupon_operator::controllers::webhook::validate::{Invalid, joined, resolved};
use coupon_operator::delivery::client::GuardedClient;
use coupon_operator::delivery::endpoint::ResolvedHeader;
use coupon_operator::delivery::outcome::{self, Body, Observation, Outcome, Verdict};
use coupon_operator::manifests::{CheckedCampaign, Manifests, Severity};
use coupon_operator::preview::recipients::Recipients;
use coupon_operator::preview::requests::{Outgoing, Requests};
use coupon_operator::preview::{Moment, name, zone_of};

use super::api::client;
use super::preview::{Files, say_absent};
use super::run::Hosts;

/// So much of an answer is shown.
const SHOWN: usize = 4096;

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    files: Files,

    /// The customer, by their integrationId.
    #[arg(long)]
    recipient: String,

    /// As at this time: RFC 3339, or a time or a day in the campaign's time zone. Now if absent.
    #[arg(long)]
    at: Option<Moment>,

    /// The rule; the first that gives the customer a code if absent.
    #[arg(long)]
    rule: Option<String>,

    /// The delivery; the rule's first if absent.
    #[arg(long)]
    delivery: Option<String>,

    /// The namespace of the Secrets and ConfigMaps that headers name; that of the Webhook, else of your kubeconfig, if absent.
    #[arg(short, long)]
    namespace: Option<String>,

    /// Send it as the operator would: the customer is told, with a code that is in no Coupon.
    #[arg(long)]
    for_real: bool,

    #[command(flatten)]
    hosts: Hosts,
}

impl Options {
    /// Exits with 0 if the request was accepted.
    pub async fn run(&self) -> Result<ExitCode, Box<dyn Error>> {
        let Some(manifests) = self.files.manifests() else { return Ok(ExitCode::FAILURE) };
        let mut why = Vec::new();
        for (checked, absent) in manifests.previewed() {
            say_absent(&checked, &absent, Severity::Error, "its requests cannot be sent");
            if !absent.is_empty() {
                return Ok(ExitCode::FAILURE);
            }
            match self.coupon(&manifests, &checked)? {
                Ok(coupon) => return self.send(&manifests, &checked, &coupon).await,
                Err(refusals) => why.extend(refusals),
            }
        }
        if why.is_empty() {
            why.push("no audience names them".to_owned());
        }
        Err(format!("{} gets no code: {}", self.recipient, why.join("; ")).into())
    }

    fn now(&self, checked: &CheckedCampaign<'_>) -> DateTime<Utc> {
        self.at.map_or_else(|| Clock::real().now(), |at| at.in_zone(zone_of(checked)))
    }

    /// The Coupon that the customer would get, or why there is none.
    fn coupon(
        &self,
        manifests: &Manifests,
        checked: &CheckedCampaign<'_>,
    ) -> Result<Result<CouponSpec, Vec<String>>, Box<dyn Error>> {
        let now = self.now(checked);
        let campaign = name(checked);
        let mut recipients = Recipients::new(&campaign, checked, now);
        let requests = Requests::new(manifests, checked, now);
        let (mut found, mut why) = (None, Vec::new());
        let meant = |rule: &str| self.rule.as_deref().is_none_or(|wanted| wanted == rule);
        self.files.each_batch(checked, |profiles| {
            let them: Vec<_> =
                profiles.iter().filter(|p| p.integration_id.trim() == self.recipient.trim()).cloned().collect();
            recipients.look(
                &them,
                |row| {
                    let reason = row.reason.as_ref().filter(|_| meant(row.rule));
                    why.extend(reason.map(|reason| format!("rule {}: {reason}", row.rule)));
                    Ok::<(), Box<dyn Error>>(())
                },
                |granted| {
                    if found.is_none() && meant(&granted.rule.name) {
                        found = Some(requests.draft(granted)?);
                    }
                    Ok(())
                },
            )
        })?;
        Ok(found.ok_or(why))
    }

    async fn send(
        &self,
        manifests: &Manifests,
        checked: &CheckedCampaign<'_>,
        coupon: &CouponSpec,
    ) -> Result<ExitCode, Box<dyn Error>> {
        let requests = Requests::new(manifests, checked, self.now(checked));
        let delivery = self.delivery_of(coupon)?;
        let webhook = requests.webhook(delivery)?;
        let dry = webhook.spec.response_format == ResponseFormat::CleverTap && !self.for_real;
        if !dry && !self.for_real {
            return Err(format!(
                "Webhook {} calls an API that has no dry run: {} would be told. If that is meant, say --for-real",
                delivery.webhook_ref.name, self.recipient
            )
            .into());
        }
        let headers = self.headers(webhook).await?;
        let mut outgoing = requests.outgoing(coupon, delivery, headers)?;
        if dry {
            outgoing.request.url.query_pairs_mut().append_pair("dryRun", "1");
        }
        let http = GuardedClient::new(&self.hosts.client_options(false)?, Clock::real())?;
        let timeout = Duration::from_secs(u64::try_from(webhook.spec.timeout_seconds).unwrap_or(30));
        show_request(&outgoing);
        let begun = Instant::now();
        let seen = http.send(&outgoing.request, timeout).await;
        let outcome = outcome::read(outgoing.endpoint.templates.answers(), outgoing.request.sent(), &seen);
        Ok(show_answer(&seen, &outcome, begun.elapsed()))
    }

    fn delivery_of<'c>(&self, coupon: &'c CouponSpec) -> Result<&'c Delivery, String> {
        let wanted = |d: &&Delivery| self.delivery.as_deref().is_none_or(|name| name == d.name);
        let names = || coupon.deliveries.iter().map(|d| d.name.as_str()).collect::<Vec<_>>().join(", ");
        coupon.deliveries.iter().find(wanted).ok_or_else(|| format!("--delivery: the rule has {}", names()))
    }

    /// The values that the Webhook's headers name, from the cluster.
    async fn headers(&self, webhook: &Webhook) -> Result<Vec<ResolvedHeader>, Box<dyn Error>> {
        if webhook.spec.headers.iter().all(|header| header.value_from.is_none()) {
            return Ok(Vec::new());
        }
        let client = client().await.map_err(|error| {
            format!("the Secrets and ConfigMaps that headers name are read from the cluster, which cannot be reached: {error}")
        })?;
        let own = self.namespace.clone().or_else(|| webhook.metadata.namespace.clone());
        let namespace = own.unwrap_or_else(|| client.default_namespace().to_owned());
        let values = fetch::values(&webhook.spec.headers, &namespace, &client).await?;
        resolved("spec", &webhook.spec.headers, &values).map_err(|invalid| match invalid {
            Invalid::Reference { message, .. } => format!("{message} (namespace {namespace})").into(),
            Invalid::Spec(errors) => joined(&errors).into(),
        })
    }
}

fn show_request(outgoing: &Outgoing) {
    let request = &outgoing.request;
    println!("{} {}", serde_json::json!(request.method).as_str().unwrap_or_default(), request.url);
    let secret: Vec<String> = outgoing.endpoint.resolved.iter().map(|h| h.clone().into_pair().0).collect();
    for (name, value) in &request.headers {
        println!("{name}: {}", if secret.contains(name) { "<redacted>" } else { value.reveal() });
    }
    println!("\n{}\n", request.body.as_deref().unwrap_or_default().trim_end());
}

fn show_answer(seen: &Observation, outcome: &Outcome, took: Duration) -> ExitCode {
    if let Observation::Answer(answer) = seen {
        println!("{} after {} ms", answer.status, took.as_millis());
        match &answer.body {
            Body::Complete(bytes) => println!("{}", String::from_utf8_lossy(bytes.get(..SHOWN).unwrap_or(bytes))),
            Body::Cut => println!("(the answer ended early)"),
            Body::TooLarge => println!("(the answer is too large)"),
        }
    }
    let record = outcome.records.first();
    let verdict = record.map_or(outcome.verdict, |record| record.verdict);
    let (reason, message) =
        record.map_or((&outcome.reason, &outcome.message), |record| (&record.reason, &record.message));
    let said = if message.is_empty() { reason.clone() } else { format!("{reason}: {message}") };
    println!("{verdict:?}: {said}");
    if verdict == Verdict::Accepted { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
