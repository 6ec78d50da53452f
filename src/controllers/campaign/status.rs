//! What a Campaign's status says, and its one write.

use chrono::{DateTime, SubsecRound, Utc};
use kube::api::PostParams;
use kube::{Api, ResourceExt};

use super::fetch::Fetched;
use super::plan::{Applied, PassOutcome, Plan, is_settled};
use super::validate::{Problem, Validated};
use crate::api::campaign::{Campaign, CampaignStatus, OccurrenceStatus};
use crate::api::conditions::{self, Fact, Verdict, reason};
use crate::controllers::context::Context;
use crate::controllers::error::{Error, bounded};

/// Occurrences kept after they can grant no more.
const KEPT: usize = 10;

/// Writes the status, if it changed.
pub async fn write(
    fetched: &Fetched,
    validated: &Validated,
    plan: &Plan,
    applied: &Applied,
    context: &Context,
) -> Result<(), Error> {
    // While a pass is due and not yet made, status keeps what it says of the last.
    if plan.later.is_some() && fetched.campaign.status.as_ref().is_some_and(|s| s.observed_generation != -1) {
        return Ok(());
    }
    let api: Api<Campaign> = Api::namespaced(context.client.clone(), &fetched.namespace);
    let mut changed = status(fetched, validated, plan, applied);
    if fetched.campaign.status.as_ref() == Some(&changed) {
        return Ok(());
    }
    let mut campaign = fetched.campaign.clone();
    if !plan.issue.is_empty() {
        // The pass may have opened an occurrence, which changed the resourceVersion.
        campaign = bounded(api.get(&fetched.name)).await?;
        if campaign.metadata.generation != fetched.campaign.metadata.generation
            || campaign.uid() != fetched.campaign.uid()
        {
            return Err(Error::Changed(format!("Campaign {}", fetched.name)));
        }
        keep_opened(&mut changed, campaign.status.as_ref(), fetched.campaign.status.as_ref());
        if campaign.status.as_ref() == Some(&changed) {
            return Ok(());
        }
    }
    campaign.status = Some(changed);
    bounded(api.replace_status(&fetched.name, &PostParams::default(), &campaign)).await.map(drop)
}

/// An occurrence that another process opened meanwhile is not forgotten. One that this process knew and
/// left out was let go on purpose.
fn keep_opened(changed: &mut CampaignStatus, fresh: Option<&CampaignStatus>, before: Option<&CampaignStatus>) {
    for occurrence in fresh.into_iter().flat_map(|status| &status.occurrences) {
        let same = |o: &OccurrenceStatus| o.rule == occurrence.rule && o.key == occurrence.key;
        let known = changed.occurrences.iter().any(same) || before.is_some_and(|b| b.occurrences.iter().any(same));
        if !known {
            changed.occurrences.push(occurrence.clone());
        }
    }
}

/// The status that follows from what was found and done. Pure.
fn status(fetched: &Fetched, validated: &Validated, plan: &Plan, applied: &Applied) -> CampaignStatus {
    let campaign = &fetched.campaign;
    let generation = campaign.metadata.generation.unwrap_or_default();
    let occurrences = kept(applied.occurrences.clone(), fetched.now);
    let sum = |value: fn(&OccurrenceStatus) -> i64| Some(occurrences.iter().map(value).sum());
    let issued = sum(|o| o.issued);
    let delivered = sum(|o| o.delivered);
    let standing = Standing {
        settled: occurrences.iter().all(is_settled),
        any_issued: issued > Some(0),
        all_delivered: issued == delivered,
        earlier: occurrences.iter().map(|o| o.issued_by_earlier_campaign).sum(),
    };
    let verdict = verdict(fetched, validated, plan, &applied.outcome, standing);
    let mut status = campaign.status.clone().unwrap_or_default();
    status.observed_generation = generation;
    conditions::set_all(&mut status.conditions, &verdict.conditions(), generation, fetched.now);
    conditions::set_all(&mut status.conditions, &standing.facts(plan), generation, fetched.now);
    status.next_window_time = plan.next_window;
    look_back(&mut status, plan, applied, fetched.now);
    (status.issued, status.delivered, status.failed) = (issued, delivered, sum(|o| o.failed));
    status.occurrences = occurrences;
    status
}

/// What status says of windows that have closed: up to when they were looked at, and how many of them were
/// missed. It is not written for the sake of that instant alone.
fn look_back(status: &mut CampaignStatus, plan: &Plan, applied: &Applied, now: DateTime<Utc>) {
    let now = now.trunc_subsecs(0);
    // A clock that ran ahead and was put right must not keep what closes until then from being looked at.
    let ahead = status.windows_checked_until.is_none_or(|checked| checked > now);
    if plan.closed_after.is_some() || ahead {
        status.windows_checked_until = Some(now);
    }
    let missed = i64::try_from(applied.missed.len()).unwrap_or(i64::MAX);
    status.missed_windows = status.missed_windows.saturating_add(missed);
    let reopened = applied.reopened.join(" ");
    status.reopened = Some(reopened).filter(|places| !places.is_empty());
}

/// How the Coupons of all occurrences stand.
#[derive(Clone, Copy)]
struct Standing {
    settled: bool,
    any_issued: bool,
    all_delivered: bool,
    earlier: i64,
}

impl Standing {
    fn facts(self, plan: &Plan) -> [Fact; 2] {
        let settled = self.settled && !plan.window_open;
        let delivered = self.any_issued && self.all_delivered;
        [
            Fact::new(conditions::SETTLED, settled, if settled { reason::SETTLED } else { reason::UNSETTLED }, ""),
            Fact::new(
                conditions::DELIVERED,
                delivered,
                if delivered { reason::DELIVERED } else { reason::UNDELIVERED },
                "",
            ),
        ]
    }
}

fn verdict(
    fetched: &Fetched,
    validated: &Validated,
    plan: &Plan,
    outcome: &PassOutcome,
    standing: Standing,
) -> Verdict {
    if let Some(problem) = validated.problems.iter().find(|p| p.stalled).or_else(|| validated.problems.first()) {
        return not_ready(problem, &validated.problems);
    }
    if let Some((reason, message)) = &outcome.stopped {
        return Verdict::stalled(reason, message);
    }
    if fetched.campaign.spec.suspend {
        return Verdict::ready(reason::SUSPENDED, "nothing is issued or sent while spec.suspend is true");
    }
    let over = standing.settled && !plan.window_open && plan.next_window.is_none();
    if let Some((reason, message)) = fetched.audience_problem().filter(|_| !over) {
        return Verdict::waiting(reason, message);
    }
    if let Some(problem) = validated.rules.iter().find_map(|rule| rule.webhook_problem.as_ref()).filter(|_| !over) {
        return Verdict::waiting(reason::WEBHOOK_NOT_READY, format!("{problem}. Coupons are issued and wait for it"));
    }
    let (reason, message) = match &outcome.exhausted {
        Some(spent) => (reason::EXHAUSTED, spent.clone()),
        None if outcome.canary => {
            (reason::DELIVERING, "those who go first have a code; the others wait until these are settled".to_owned())
        }
        None => progress(plan, standing),
    };
    let warnings = plan.warnings.iter().map(|warning| [". Warning: ", warning]).collect::<Vec<_>>().concat().concat();
    Verdict::ready(reason, message + &of_earlier(standing) + &of_repeated(fetched.repeated()) + &warnings)
}

fn not_ready(problem: &Problem, all: &[Problem]) -> Verdict {
    let message =
        all.iter().filter(|p| p.stalled == problem.stalled).map(|p| p.message.as_str()).collect::<Vec<_>>().join("; ");
    if problem.stalled { Verdict::stalled(problem.reason, message) } else { Verdict::waiting(problem.reason, message) }
}

fn progress(plan: &Plan, standing: Standing) -> (&'static str, String) {
    if !standing.settled {
        return (reason::DELIVERING, "Coupons are being delivered".to_owned());
    }
    if plan.window_open {
        return (reason::OPEN, "a window is open: everybody seen in the audience gets a code".to_owned());
    }
    match plan.next_window {
        Some(next) => (reason::SCHEDULED, format!("the next window opens at {}", next.to_rfc3339())),
        None if standing.any_issued => {
            (reason::COMPLETE, "every window is over, and every Coupon has come to its end".to_owned())
        }
        None => (reason::ENDED, "every window is over".to_owned()),
    }
}

fn of_earlier(standing: Standing) -> String {
    match standing.earlier {
        0 => String::new(),
        n => format!(". {n} Coupons of an earlier Campaign of this name count: their recipients get no other"),
    }
}

fn of_repeated(repeated: usize) -> String {
    match repeated {
        0 => String::new(),
        n => format!(". Warning: the audience names {n} ids more than once; each counts once"),
    }
}

/// All that can still grant or are not settled, then the last ten: missing Coupons of an occurrence
/// that status forgot would not be noticed.
fn kept(mut occurrences: Vec<OccurrenceStatus>, now: DateTime<Utc>) -> Vec<OccurrenceStatus> {
    occurrences.sort_by(|a, b| (a.window.start_time, &a.rule, &a.key).cmp(&(b.window.start_time, &b.rule, &b.key)));
    let over = |o: &OccurrenceStatus| is_settled(o) && o.grants_until.is_some_and(|until| until <= now);
    let mut surplus = occurrences.iter().filter(|o| over(o)).count().saturating_sub(KEPT);
    occurrences.retain(|occurrence| {
        let forget = surplus > 0 && over(occurrence);
        surplus = surplus.saturating_sub(usize::from(forget));
        !forget
    });
    occurrences
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::super::missed::Missed;
    use super::super::plan::Memory;
    use super::super::validate;
    use super::*;
    use crate::api::campaign::Window;
    use crate::audience::Reading;

    fn occurrence(key: &str, end: &str, issued: i64, delivered: i64) -> Value {
        json!({ "rule": "r", "key": key, "window": { "startTime": "2022-01-01T00:00:00Z", "endTime": end }, "grantsUntil": end, "issued": issued, "delivered": delivered })
    }

    fn occurrences(list: &[Value]) -> Vec<OccurrenceStatus> {
        list.iter().map(|o| serde_json::from_value(o.clone()).unwrap()).collect()
    }

    fn keys(list: &[OccurrenceStatus]) -> Vec<&str> {
        list.iter().map(|o| o.key.as_str()).collect()
    }

    #[test]
    fn what_can_still_grant_or_is_unsettled_is_kept_and_then_the_last_ten() {
        let now = "2023-01-01T12:00:00Z".parse().unwrap();
        let mut list: Vec<Value> =
            (10..30).map(|i| occurrence(&format!("k{i}"), "2022-06-01T00:00:00Z", 1, 1)).collect();
        list.push(occurrence("a-open", "2023-01-02T00:00:00Z", 1, 1));
        list.push(occurrence("a-unsettled", "2022-06-01T00:00:00Z", 2, 1));
        let left = kept(occurrences(&list), now);
        assert_eq!(left.len(), 12);
        assert!(keys(&left).contains(&"a-open") && keys(&left).contains(&"a-unsettled"));
        assert!(keys(&left).contains(&"k29") && !keys(&left).contains(&"k19"));
    }

    #[allow(clippy::needless_pass_by_value)] // calls read better
    fn fetched(spec: Value, status: Value) -> Fetched {
        let object = json!({ "apiVersion": "coupon-operator.dev/v1alpha1", "kind": "Campaign",
            "metadata": { "name": "c", "generation": 3 }, "spec": spec, "status": status });
        let campaign: Campaign = serde_json::from_value(object).unwrap();
        let memory = Memory {
            since_pass: None,
            able: 0,
            since_count: None,
            coupons_changed: false,
            counts_unknown: false,
            boundary: None,
            audience_poll: std::time::Duration::from_secs(300),
            outcome: PassOutcome::default(),
        };
        Fetched {
            campaign,
            namespace: "ns".into(),
            name: "c".into(),
            compiled: Arc::default(),
            webhooks: BTreeMap::new(),
            memory,
            reading: None,
            excluded: Arc::default(),
            now: "2023-01-05T00:00:00.7Z".parse().unwrap(),
        }
    }

    fn spec() -> Value {
        json!({ "audience": { "profiles": [{ "integrationId": "a" }] }, "rules": [] })
    }

    fn applied(list: &[Value]) -> Applied {
        Applied { occurrences: occurrences(list), ..Applied::default() }
    }

    fn open() -> Plan {
        Plan { window_open: true, next_window: "2023-03-01T00:00:00Z".parse().ok(), ..Plan::default() }
    }

    /// The reason of Ready, whether it holds, its message, and whether Settled and Delivered hold.
    fn said(validated: &Validated, plan: &Plan, applied: &Applied, spec: Value) -> (String, bool, String, [bool; 2]) {
        let status = status(&fetched(spec, Value::Null), validated, plan, applied);
        let ready = status.conditions.iter().find(|c| c.type_ == conditions::READY).unwrap();
        let facts =
            [conditions::SETTLED, conditions::DELIVERED].map(|type_| conditions::holds(&status.conditions, type_));
        (ready.reason.clone(), ready.status == "True", ready.message.clone(), facts)
    }

    #[test]
    fn what_a_campaign_does_is_its_reason() {
        let none = Validated::default();
        let end = "2023-01-02T00:00:00Z";
        let told = |plan: &Plan, applied: &Applied| {
            let (reason, ready, _, facts) = said(&none, plan, applied, spec());
            assert!(ready, "{reason}");
            (reason, facts)
        };
        let waits = Plan { next_window: open().next_window, ..Plan::default() };
        let (all, some) = (applied(&[occurrence("k", end, 2, 2)]), applied(&[occurrence("k", end, 2, 1)]));
        assert_eq!(told(&waits, &applied(&[])), (reason::SCHEDULED.into(), [true, false]));
        assert_eq!(told(&open(), &applied(&[])), (reason::OPEN.into(), [false, false]));
        assert_eq!(told(&open(), &some), (reason::DELIVERING.into(), [false, false]));
        assert_eq!(told(&Plan::default(), &some), (reason::DELIVERING.into(), [false, false]));
        assert_eq!(told(&open(), &all), (reason::OPEN.into(), [false, true]));
        assert_eq!(told(&waits, &all), (reason::SCHEDULED.into(), [true, true]));
        assert_eq!(told(&Plan::default(), &all), (reason::COMPLETE.into(), [true, true]));
        assert_eq!(told(&Plan::default(), &applied(&[])), (reason::ENDED.into(), [true, false]));
        let mut failed = occurrence("k", end, 2, 1);
        failed["failed"] = 1.into();
        assert_eq!(told(&Plan::default(), &applied(&[failed])), (reason::COMPLETE.into(), [true, false]));
        let exhausted = PassOutcome { exhausted: Some("spent".into()), ..PassOutcome::default() };
        let (reason, _, message, _) = said(&none, &open(), &Applied { outcome: exhausted, ..applied(&[]) }, spec());
        assert_eq!((reason.as_str(), message.as_str()), (reason::EXHAUSTED, "spent"));
    }

    #[test]
    fn what_keeps_a_campaign_from_acting_is_said_first() {
        let problem = |stalled, message: &str| Problem { reason: reason::INVALID, stalled, message: message.into() };
        let with = |problems: Vec<Problem>| Validated { problems, ..Validated::default() };
        let stopped =
            || Applied { outcome: PassOutcome::stopped(reason::COUPONS_MISSING, "why".into()), ..applied(&[]) };
        let mut suspended = spec();
        suspended["suspend"] = true.into();
        let told = |validated: &Validated, applied: &Applied, spec: Value| {
            let (reason, ready, message, _) = said(validated, &open(), applied, spec);
            (reason, ready, message)
        };
        let three = with(vec![problem(false, "waits"), problem(true, "one"), problem(true, "two")]);
        assert_eq!(told(&three, &stopped(), spec()), (reason::INVALID.into(), false, "one; two".into()));
        let waits = with(vec![problem(false, "waits")]);
        assert_eq!(told(&waits, &stopped(), spec()), (reason::INVALID.into(), false, "waits".into()));
        assert_eq!(
            told(&with(vec![]), &stopped(), suspended.clone()),
            (reason::COUPONS_MISSING.into(), false, "why".into())
        );
        assert_eq!(told(&with(vec![]), &applied(&[]), suspended).0, reason::SUSPENDED);
    }

    #[test]
    fn what_a_campaign_waits_for_is_said_until_nothing_needs_it_any_more() {
        let incomplete = Reading { problem: Some((reason::AUDIENCE_INCOMPLETE, "why".into())), ..Reading::default() };
        let of = |validated: &Validated, reading: Option<Reading>, plan: &Plan, applied: &Applied| {
            let fetched = Fetched { reading: reading.map(Arc::new), ..fetched(spec(), Value::Null) };
            let status = status(&fetched, validated, plan, applied);
            status.conditions.iter().find(|c| c.type_ == conditions::READY).unwrap().reason.clone()
        };
        let end = "2023-01-02T00:00:00Z";
        let (settled, unsettled) = (applied(&[occurrence("k", end, 2, 2)]), applied(&[occurrence("k", end, 2, 1)]));
        let waits = Plan { next_window: open().next_window, ..Plan::default() };
        let unready = Validated { rules: vec![rule_whose_webhook_is_not_ready()], ..Validated::default() };
        for (validated, reading, said) in [
            (Validated::default(), Some(incomplete), reason::AUDIENCE_INCOMPLETE),
            (unready, None, reason::WEBHOOK_NOT_READY),
        ] {
            for (plan, applied) in [(&open(), &settled), (&waits, &settled), (&Plan::default(), &unsettled)] {
                assert_eq!(of(&validated, reading.clone(), plan, applied), said);
            }
            assert_eq!(of(&validated, reading, &Plan::default(), &settled), reason::COMPLETE);
        }
    }

    fn rule_whose_webhook_is_not_ready() -> validate::PreparedRule {
        let spec = serde_json::from_value(json!({
            "audience": { "profiles": [] },
            "rules": [{ "name": "r", "effects": [
                { "createCoupon": {} }, { "sendWebhook": { "webhookRef": { "name": "w" } } }] }],
        }))
        .unwrap();
        let webhook =
            validate::KnownWebhook { parameters: Vec::new(), max_batch: 1, problem: Some("it is broken".into()) };
        let webhooks = BTreeMap::from([("w".to_owned(), webhook)]);
        validate::run(&spec, &validate::compile(&spec), &webhooks).rules.remove(0)
    }

    #[test]
    fn warnings_stand_beside_what_it_does() {
        let mut earlier = occurrence("k", "2023-01-02T00:00:00Z", 2, 2);
        earlier["issuedByEarlierCampaign"] = 2.into();
        let plan = Plan { warnings: vec!["one".into(), "two".into()], ..open() };
        let mut repeated = spec();
        repeated["audience"]["profiles"] =
            json!([{ "integrationId": "a" }, { "integrationId": " a" }, { "integrationId": "b" }]);
        let (_, _, message, _) = said(&Validated::default(), &plan, &applied(&[earlier]), repeated);
        assert!(message.contains(". 2 Coupons of an earlier Campaign of this name count"), "{message}");
        assert!(message.contains(". Warning: the audience names 1 ids more than once"), "{message}");
        assert!(message.ends_with(". Warning: one. Warning: two"), "{message}");
        let (_, _, alone, _) = said(&Validated::default(), &open(), &applied(&[]), spec());
        assert_eq!(alone, "a window is open: everybody seen in the audience gets a code");
    }

    #[test]
    fn status_counts_all_occurrences_and_remembers_what_was_looked_at() {
        let mut one = occurrence("one", "2023-01-02T00:00:00Z", 5, 2);
        one["failed"] = 3.into();
        let two = occurrence("two", "2023-01-02T00:00:00Z", 1, 1);
        let missed = Missed { rule: "r".into(), key: "k".into(), window: Window::default(), partly: false };
        let done = Applied {
            missed: vec![missed.clone(), missed],
            reopened: vec!["r/a".into(), "r/b".into()],
            ..applied(&[one, two])
        };
        let before =
            json!({ "observedGeneration": 2, "windowsCheckedUntil": "2023-01-04T00:00:00Z", "missedWindows": 1 });
        let of = |plan: &Plan, applied: &Applied, before: Value| {
            status(&fetched(spec(), before), &Validated::default(), plan, applied)
        };
        let counted = of(&open(), &done, before.clone());
        assert_eq!((counted.issued, counted.delivered, counted.failed), (Some(6), Some(3), Some(3)));
        assert_eq!((counted.observed_generation, counted.missed_windows), (3, 3));
        assert_eq!((counted.reopened.as_deref(), counted.next_window_time), (Some("r/a r/b"), open().next_window));
        assert_eq!(of(&open(), &applied(&[]), before.clone()).reopened, None);
        let checked = |plan: &Plan, before: Value| of(plan, &applied(&[]), before).windows_checked_until;
        let now = "2023-01-05T00:00:00Z".parse().ok();
        assert_eq!(checked(&open(), before.clone()), "2023-01-04T00:00:00Z".parse().ok(), "not for its own sake");
        let looked = Plan { closed_after: "2023-01-04T00:00:00Z".parse().ok(), ..open() };
        assert_eq!(checked(&looked, before), now);
        assert_eq!(checked(&open(), Value::Null), now, "it was never looked");
        let exactly = json!({ "windowsCheckedUntil": "2023-01-05T00:00:00Z" });
        assert_eq!(checked(&open(), exactly), now);
        let ahead = json!({ "windowsCheckedUntil": "2023-02-01T00:00:00Z" });
        assert_eq!(checked(&open(), ahead), now, "a clock ran ahead");
    }

    #[test]
    fn i1_an_occurrence_that_another_process_opened_is_not_forgotten() {
        let status = |list: &[Value]| CampaignStatus { occurrences: occurrences(list), ..CampaignStatus::default() };
        let [ours, theirs, old] = ["ours", "theirs", "old"].map(|key| occurrence(key, "2023-01-02T00:00:00Z", 0, 0));
        let mut changed = status(std::slice::from_ref(&ours));
        keep_opened(&mut changed, Some(&status(&[ours.clone(), theirs, old.clone()])), Some(&status(&[ours, old])));
        assert_eq!(keys(&changed.occurrences), ["ours", "theirs"]);
    }
}
