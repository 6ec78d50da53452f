//! The choices of a pass, over random lives of a campaign: edits of times, zone, `oncePer` and kind, clocks
//! that go forward and back, a status that is lost, an audience that grows. Compared with an obvious
//! reading of the promise: by calendar dates and by windows that have an instant in common.

use std::collections::{BTreeMap, HashMap, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::*;
use crate::api::campaign::{OncePer, Window};
use crate::api::coupon::Coupon;
use crate::controllers::campaign::plan::{self, Memory};
use crate::controllers::campaign::validate::{self, CompiledRule, KnownWebhook};
use crate::issuing::ledger::Held;
use crate::issuing::selection::Offer;
use crate::schedule::Calendar;

const ZONES: [&str; 3] = ["Europe/Berlin", "America/New_York", "Pacific/Auckland"];
const ONCE_PER: [&str; 6] = ["Window", "Day", "Week", "Month", "Year", "Campaign"];

fn schedules() -> Vec<Value> {
    vec![
        json!([]),
        json!([{ "onDates": ["2023-01-01"] }]),
        json!([{ "onDates": ["2023-01-01", "2023-01-02", "2023-01-10"] }]),
        json!([{ "daysOfWeek": ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"] }]),
        json!([{ "timeOfDay": { "from": "09:00", "to": "11:00" } }, { "timeOfDay": { "from": "14:00", "to": "16:00" } }]),
        json!([{ "timeOfDay": { "from": "20:00", "to": "04:00" } }]),
        json!([{ "cron": "0 */6 * * *", "windowSeconds": 7200 }]),
        json!([{ "rrule": { "start": "2022-12-30T18:00", "rule": "FREQ=WEEKLY;BYDAY=FR,SU" }, "windowSeconds": 100_000 }]),
        json!([{ "after": "2022-12-30T00:00", "before": "2023-01-20T00:00", "except": [{ "daysOfWeek": ["Sunday"] }] }]),
        json!([{ "anniversaryOf": { "attribute": "birthday", "daysBefore": 3, "daysAfter": 3 } }]),
        json!([{ "anniversaryOf": { "attribute": "birthday", "daysBefore": 250, "daysAfter": 250 } }]),
    ]
}

/// A campaign's definition, compiled once.
struct Variant {
    spec: Value,
    compiled: Vec<CompiledRule>,
    /// None for a rule that goes by birthdays.
    calendar: Option<Calendar>,
    zone: Tz,
    once_per: OncePer,
}

fn variants() -> Vec<Variant> {
    let mut variants = Vec::new();
    for schedules in schedules() {
        let birthdays = schedules.pointer("/0/anniversaryOf").is_some();
        for zone in ZONES {
            for once_per in ONCE_PER.iter().take(if birthdays { 1 } else { 6 }) {
                let spec = json!({
                    "timeZone": zone, "audience": { "profiles": [] },
                    "rules": [{ "name": "r", "schedules": schedules, "oncePer": once_per, "effects": [
                        { "createCoupon": {} }, { "sendWebhook": { "webhookRef": { "name": "w" } } }] }],
                });
                let typed: crate::api::campaign::CampaignSpec = serde_json::from_value(spec.clone()).unwrap();
                variants.push(Variant {
                    compiled: validate::compile(&typed),
                    calendar: (!birthdays).then(|| Calendar::of(&typed, &typed.rules[0]).unwrap()),
                    zone: zone.parse().unwrap(),
                    once_per: typed.rules[0].once_per,
                    spec,
                });
            }
        }
    }
    variants
}

/// A Coupon that was issued.
#[derive(Clone)]
struct Entry {
    recipient: String,
    occurrence: String,
    window: Window,
    issued_at: Option<DateTime<Utc>>,
}

fn read(entries: &[Entry]) -> Ledger {
    let mut ledger = Ledger::default();
    for entry in entries {
        let spec = json!({ "recipient": entry.recipient, "occurrence": entry.occurrence, "window": entry.window,
            "issuedAt": entry.issued_at, "campaignUid": "uid", "deliveries": [] });
        ledger.add(&Coupon::new("x", serde_json::from_value(spec).unwrap()));
    }
    ledger
}

/// A campaign's life.
struct Life {
    campaign: Value,
    ledger: Vec<Entry>,
    audience: usize,
    now: DateTime<Utc>,
}

impl Life {
    fn campaign(&self, variant: &Variant) -> Campaign {
        let mut campaign = self.campaign.clone();
        campaign["spec"] = variant.spec.clone();
        let profile = |i: usize| json!({ "integrationId": format!("c{i}"), "attributes": { "birthday": format!("1990-01-{:02}", 1 + i * 3) } });
        campaign["spec"]["audience"]["profiles"] = (0..self.audience).map(profile).collect();
        serde_json::from_value(campaign).unwrap()
    }

    /// A pass, as the operator makes it, without an API server: who is granted what now.
    fn pass(&mut self, variant: &Variant) -> Vec<Entry> {
        let campaign = self.campaign(variant);
        let webhooks =
            BTreeMap::from([("w".to_owned(), KnownWebhook { parameters: Vec::new(), max_batch: 1, problem: None })]);
        let validated = validate::run(&campaign.spec, &variant.compiled, &webhooks);
        let memory = Memory {
            since_pass: None,
            able: 0,
            boundary: None,
            since_count: None,
            coupons_changed: false,
            counts_unknown: false,
            audience_poll: std::time::Duration::from_secs(300),
            outcome: PassOutcome::default(),
        };
        let plan = plan::run((&campaign, campaign.spec.audience.written()), &validated, &memory, self.now);
        let mut status = campaign.status.clone().unwrap_or_default();
        let mut granted = Vec::new();
        let mut issues: VecDeque<Issue> = plan.issue.into();
        while let Some(issue) = issues.pop_front() {
            let offer = Offer {
                timing: &issue.rule.timing,
                eligibility: None,
                campaign: "c",
                campaign_attributes: &BTreeMap::new(),
                now: self.now,
            };
            let candidates = select::candidates(campaign.spec.audience.written(), |_| true, &issue, offer);
            let ledger = read(&self.ledger);
            let mut occurrence = occurrence(&issue, &ledger, "uid");
            let mut left_behind = false;
            assert_eq!(missing(&occurrence, ledger.tally(&occurrence.key, "uid"), 0), 0, "nothing was deleted");
            for (profile, own) in candidates.under(&occurrence.key).open {
                let held = ledger.held(&profile.integration_id, &own);
                left_behind |= held == Some(Held::KeyOnly) && occurrence.key != issue.own_key();
                if held.is_none() {
                    let taken = self
                        .ledger
                        .iter()
                        .any(|e| e.recipient == profile.integration_id && e.occurrence == occurrence.key);
                    assert!(!taken, "the API server would refuse the name");
                    granted.push(Entry {
                        recipient: profile.integration_id.clone(),
                        occurrence: occurrence.key.clone(),
                        window: own.window,
                        issued_at: Some(self.now),
                    });
                }
            }
            self.ledger.extend(granted.iter().filter(|g| g.occurrence == occurrence.key).cloned());
            let tally = read(&self.ledger).tally(&occurrence.key, "uid");
            write_tally(&mut occurrence, tally);
            status.occurrences.retain(|o| o.key != occurrence.key);
            status.occurrences.push(occurrence);
            if left_behind {
                assert!(!issue.own_key, "under its own key nobody is left behind");
                issues.push_front(issue.under_own_key(&status.occurrences));
            }
        }
        self.campaign["status"] = json!(status);
        granted
    }
}

fn shown(ledger: &[Entry]) -> String {
    let text = |at: Option<DateTime<Utc>>| at.map_or("…".to_owned(), |at| at.format("%m-%dT%H:%M").to_string());
    let line = |e: &Entry| {
        let (start, end) = (text(e.window.start_time), text(e.window.end_time));
        format!("{} {} {start}/{end} issued {}\n", e.recipient, e.occurrence, text(e.issued_at))
    };
    ledger.iter().map(line).collect::<Vec<_>>().concat()
}

/// The local period of an instant, as a calendar on a wall shows it.
fn on_the_wall(once_per: OncePer, zone: Tz, at: DateTime<Utc>) -> String {
    let format = match once_per {
        OncePer::Window => return at.to_string(),
        OncePer::Day => "%F",
        OncePer::Week => "%G-W%V",
        OncePer::Month => "%Y-%m",
        OncePer::Year => "%Y",
        OncePer::Campaign => "campaign",
    };
    at.with_timezone(&zone).format(format).to_string()
}

/// What may not be: a second code although an earlier one is of a window that has an instant in common with
/// the one that is open, or of the same period.
fn is_second(earlier: &Entry, open: Window, variant: &Variant, now: DateTime<Utc>) -> bool {
    if variant.once_per == OncePer::Window {
        return earlier.window.overlaps(&open);
    }
    // A window that is no longer than its period belongs to the one in which it starts.
    let days = match variant.once_per {
        OncePer::Day => 1,
        OncePer::Week => 7,
        OncePer::Month => 28,
        OncePer::Year => 365,
        _ => 1_000_000,
    };
    let short = open
        .start_time
        .zip(open.end_time)
        .filter(|(start, end)| *end - *start <= TimeDelta::days(days))
        .map(|(start, _)| start);
    let wall = |at| on_the_wall(variant.once_per, variant.zone, at);
    earlier.window.start_time.is_none_or(|start| wall(start) == wall(short.unwrap_or(now)))
}

/// How many are tried: `CAMPAIGN_LIVES`, else so many as find what edits can break.
fn lives() -> u64 {
    std::env::var("CAMPAIGN_LIVES").ok().and_then(|n| n.parse().ok()).unwrap_or(1500)
}

#[test]
fn i1_no_life_of_a_campaign_gives_a_second_code_or_leaves_anybody_out() {
    let variants = variants();
    let mut counts: HashMap<&str, u32> = HashMap::new();
    for seed in 0..lives() {
        let mut random = StdRng::seed_from_u64(seed);
        let mut life = Life {
            campaign: json!({ "apiVersion": "coupon-operator.dev/v1alpha1", "kind": "Campaign", "metadata": { "name": "c", "uid": "uid" } }),
            ledger: Vec::new(),
            audience: 2,
            now: "2022-12-31T20:00:00Z".parse().unwrap(),
        };
        let mut variant = &variants[random.random_range(0..variants.len())];
        for step in 0..14 {
            match random.random_range(0..10) {
                0..4 => variant = &variants[random.random_range(0..variants.len())],
                4 => life.campaign["status"] = Value::Null,
                5 => life.audience = (life.audience + 1).min(6),
                6 => life.now -= TimeDelta::minutes(random.random_range(1..90)),
                7 => life.now += TimeDelta::hours(random.random_range(20..200)),
                _ => life.now += TimeDelta::minutes(random.random_range(5..700)),
            }
            let before = life.ledger.clone();
            let granted = life.pass(variant);
            let what = format!("seed {seed} step {step} at {} {}\n{}", life.now, variant.spec, shown(&life.ledger));
            *counts.entry("granted").or_default() += u32::try_from(granted.len()).unwrap();
            let Some(open) = variant.calendar.as_ref().map(|calendar| calendar.open_at(life.now)) else {
                continue;
            };
            let Some(open) = open else {
                assert!(granted.is_empty(), "nothing is open: {what}");
                continue;
            };
            for new in &granted {
                let second =
                    before.iter().any(|e| e.recipient == new.recipient && is_second(e, open, variant, life.now));
                assert!(!second, "a second code: {what}");
            }
            // Nobody gets two codes of one key, whatever edits did to its window.
            let own_key = variant.compiled[0].timing.as_ref().unwrap().open_at(life.now).unwrap().key;
            for recipient in (0..life.audience).map(|i| format!("c{i}")) {
                let mut own = life.ledger.iter().filter(|e| e.recipient == recipient);
                *counts.entry("looked at").or_default() += 1;
                // Being cautious after an edit may leave out whoever has a code of an overlapping window.
                let has = own.any(|e| {
                    is_second(e, open, variant, life.now) || e.window.overlaps(&open) || e.occurrence == own_key
                });
                assert!(has, "{recipient} was left out: {what}");
            }
        }
    }
    println!("{counts:?}");
    let lives = u32::try_from(lives()).unwrap();
    assert!(counts["granted"] > 3 * lives && counts["looked at"] > 13 * lives, "{counts:?}");
}
