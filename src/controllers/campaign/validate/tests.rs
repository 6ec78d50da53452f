use serde_json::{Value, json};

use super::*;

fn run(spec: &CampaignSpec, webhooks: &BTreeMap<String, KnownWebhook>) -> Validated {
    super::run(spec, &compile(spec), webhooks)
}

fn spec(changes: &Value) -> CampaignSpec {
    let mut spec = json!({
        "audience": { "profiles": [] },
        "rules": [{ "name": "r", "effects": [
            { "createCoupon": {} },
            { "sendWebhook": { "webhookRef": { "name": "w" }, "parameters": { "Code": "${$Coupon.Code}", "Limit": "3" } } }] }],
    });
    for (pointer, value) in changes.as_object().into_iter().flatten() {
        *spec.pointer_mut(pointer).unwrap() = value.clone();
    }
    serde_json::from_value(spec).unwrap()
}

fn webhook(problem: Option<&str>) -> BTreeMap<String, KnownWebhook> {
    let parameters =
        serde_json::from_value(json!([{ "name": "Code", "type": "String" }, { "name": "Limit", "type": "Number" }]));
    BTreeMap::from([(
        "w".to_owned(),
        KnownWebhook { parameters: parameters.unwrap(), max_batch: 1, problem: problem.map(str::to_owned) },
    )])
}

const PARAMETERS: &str = "/rules/0/effects/1/sendWebhook/parameters";

#[test]
fn a_good_rule_is_prepared_and_waits_for_no_webhook_that_is_only_not_ready() {
    let validated = run(&spec(&json!({})), &webhook(Some("CredentialsRejected: no")));
    assert!(validated.problems.is_empty());
    assert_eq!(validated.rules[0].webhook_problem.as_deref(), Some("Webhook w is not ready (CredentialsRejected: no)"));
    assert_eq!(validated.rules[0].effects.deliveries[0].bindings.len(), 2);
}

#[test]
fn each_mismatch_is_named_with_its_field_and_what_to_do() {
    for (parameters, words) in [
        (json!({ "Code": "x" }), "effects[1].sendWebhook.parameters: Webhook w needs Limit: add it"),
        (
            json!({ "Code": "x", "Limit": "3", "Z": "1" }),
            "parameters[Z]: Webhook w has no such parameter (it has Code, Limit)",
        ),
        (json!({ "Code": "x", "Limit": "many" }), "parameters[Limit]: a Number is wanted"),
    ] {
        let validated = run(&spec(&json!({ PARAMETERS: parameters })), &webhook(None));
        let problem = &validated.problems[0];
        assert!(problem.message.contains(words) && !problem.stalled, "{problem:?}");
        assert!(validated.rules.is_empty());
    }
    let binding = run(&spec(&json!({ PARAMETERS: { "Code": "${$Code}", "Limit": "3" } })), &webhook(None));
    assert!(
        binding.problems[0].stalled
            && binding.problems[0].message.contains("parameters[Code]: line 1, column 1: Code is not known")
    );
    let absent = run(&spec(&json!({})), &BTreeMap::new());
    assert_eq!(absent.problems[0].reason, reason::WEBHOOK_NOT_FOUND);
}

#[test]
fn a_rule_with_a_problem_keeps_no_other_from_acting() {
    let mut spec = spec(&json!({}));
    let mut bad = spec.rules[0].clone();
    bad.name = "bad".into();
    bad.schedules = serde_json::from_value(json!([{ "onDates": ["2023-02-30"] }])).unwrap();
    spec.rules.insert(0, bad);
    let validated = run(&spec, &webhook(None));
    assert_eq!((validated.rules.len(), validated.problems.len()), (1, 1));
    assert!(validated.problems[0].message.starts_with("spec.rules[bad].schedules[0].onDates[0]: 2023-02-30"));
}

#[test]
fn a_coupon_holds_what_the_largest_request_takes_and_needs_few_requests() {
    let size = |requests: &[u32]| chunk_size(requests.iter().copied());
    assert_eq!([size(&[]), size(&[1]), size(&[1000]), size(&[1, 1])], [1, 1, 1000, 1]);
    assert_eq!([size(&[1, 1000]), size(&[1000, 1]), size(&[10, 1000, 1000]), size(&[50, 1000])], [20, 20, 200, 1000]);
    assert_eq!(size(&[1, 7]), 7);
}

#[test]
fn what_a_coupon_is_to_carry_is_prepared() {
    let create = |create: Value| run(&spec(&json!({ "/rules/0/effects/0/createCoupon": create })), &webhook(None));
    let good = create(json!({ "attributes": { "who": "${$Profile.IntegrationId}", "what": "gift" } }));
    let names: Vec<&str> = good.rules[0].effects.attributes.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["what", "who"]);
    let bad = create(json!({ "attributes": { "who": "${$Nobody}" } }));
    let place = "spec.rules[r].effects[0].createCoupon.attributes[who]: line 1, column 1";
    assert!(bad.problems[0].stalled && bad.problems[0].message.starts_with(place), "{:?}", bad.problems);
    let same = create(json!({ "pattern": "SAME" }));
    assert!(same.problems[0].message.contains("SAME has no # for a random character"), "{:?}", same.problems);
}

#[test]
fn an_audience_has_one_source() {
    let from = |audience: Value| run(&spec(&json!({ "/audience": audience })), &webhook(None)).problems;
    let map = json!({ "name": "m", "key": "k" });
    assert!(from(json!({ "configMapRef": map })).is_empty() && from(json!({ "profiles": [] })).is_empty());
    for wrong in [json!({}), json!({ "configMapRef": map, "profiles": [] })] {
        assert!(from(wrong)[0].message.starts_with("spec.audience: write one source"));
    }
}
