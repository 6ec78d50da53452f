use serde_json::json;

use super::*;
use crate::rules::expression::EvaluationError;

fn profile() -> Profile {
    serde_json::from_value(json!({
        "integrationId": " customer-1 ",
        "attributes": {
            "tier": "gold", "age": 42, "score": 1.5, "big": u64::MAX, "vip": true, "nothing": null,
            "tags": ["new", "loyal"], "address": { "city": "Berlin", "zip": { "code": "10115" } },
            "signup": "2022-12-31T23:30:00-01:00", "email": "ada@example.com", "with space": 1, "address.city": "dotted",
        },
    }))
    .unwrap()
}

fn check(source: &str) -> Result<(), NotEligible> {
    let attributes = BTreeMap::from([("minimum".to_owned(), json!(18))]);
    let facts =
        Facts { campaign: "new-year", campaign_attributes: &attributes, now: "2023-01-01T08:00:00Z".parse().unwrap() };
    Eligibility::compile(source).unwrap().check(&profile(), facts)
}

fn refused(source: &str) -> String {
    Eligibility::compile(source).unwrap_err().to_string()
}

#[test]
fn an_expression_sees_the_profile_the_campaign_and_the_time() {
    for source in [
        r#"profile.integrationId == "customer-1""#,
        r#"profile.attributes.tier in ["gold", "silver"]"#,
        "profile.attributes.age >= campaign.attributes.minimum && profile.attributes.age < 43.5",
        "profile.attributes.score == 1.5 && profile.attributes.big > 9223372036854775807u",
        "profile.attributes.vip && profile.attributes.nothing == null",
        r#"profile.attributes.tags.exists(t, t.startsWith("loy")) && size(profile.attributes.tags) == 2"#,
        r#""new" in profile.attributes.tags && "tier" in profile.attributes && !("x" in profile.attributes)"#,
        "has(profile.attributes.tier) && !has(profile.attributes.missing)",
        "has(profile.attributes.address.city) && !has(profile.attributes.address.street)",
        r#"profile.attributes.address.city == "Berlin" && profile.attributes.address.zip.code == "10115""#,
        r#"profile.attributes["address.city"] == "dotted" && profile.attributes["with space"] == 1"#,
        r#"profile.attributes.?tier.orValue("none") == "gold" && profile.attributes.?level.orValue(0) == 0"#,
        "timestamp(profile.attributes.signup) < now && now - timestamp(profile.attributes.signup) < duration(\"8h\")",
        // UTC, as the CEL specification says, though the text has another offset.
        "timestamp(profile.attributes.signup).getHours() == 0 && timestamp(profile.attributes.signup).getFullYear() == 2023",
        "now.getHours(\"Europe/Berlin\") == 9 && now.getMonth() == 0",
        r#"profile.attributes.email.matches("^[^@]+@example\\.com$") && campaign.name == "new-year""#,
        r#"profile.attributes.tags.map(t, t + "!").filter(t, t != "new!") == ["loyal!"]"#,
        "[1, 2, 3].map(x, x > 1, x * 2) == [4, 6] && [1, 2].exists_one(x, x == 2) && [1, 2].all(x, x > 0)",
        "{'a': 1}['a'] == 1 && type(profile.attributes.age) == int && string(profile.attributes.age) == '42'",
        "size(profile.attributes) == 12 && profile.attributes.exists(k, k == 'tier')",
        "profile.attributes.age > 100 ? false : true",
        "profile.attributes.missing == 1 || true",
    ] {
        assert_eq!(check(source), Ok(()), "{source}");
    }
}

#[test]
fn the_reason_names_the_clause_that_failed() {
    let not = |source: &str| check(source).unwrap_err().to_string();
    assert_eq!(
        not(r#"profile.attributes.vip && profile.attributes.tier in ["silver"] && profile.attributes.age > 18"#),
        r#"eligibility: profile.attributes.tier in ["silver"] is false"#
    );
    assert_eq!(
        not("profile.attributes.level == 3 && true"),
        "eligibility: profile.attributes.level == 3: level is missing"
    );
    assert_eq!(
        not("profile.attributes.tier > 3"),
        "eligibility: profile.attributes.tier > 3: > does not go with (string, int)"
    );
    assert_eq!(
        not("profile.attributes.tier"),
        "eligibility: profile.attributes.tier: it gives a string, not true or false"
    );
    assert_eq!(
        not("profile.attributes.age / 0 == 1"),
        "eligibility: profile.attributes.age / 0 == 1: a number is out of range, or divided by zero"
    );
    // As CEL has it: what is false decides, whatever is wrong with the others.
    assert_eq!(
        not("profile.attributes.level == 3 && profile.attributes.age > 99"),
        "eligibility: profile.attributes.age > 99 is false"
    );
    assert_eq!(
        not("profile.attributes.vip && (false || profile.attributes.age == 1)"),
        "eligibility: (false || profile.attributes.age == 1) is false"
    );
}

/// Status counts by reason: no reason may hold what is in a profile.
#[test]
fn i7_reasons_hold_no_data() {
    for source in [
        "profile.attributes[profile.attributes.email] == 1",
        "profile.attributes.email < 3",
        "profile.attributes.email + 3 == 'x'",
        "int(profile.attributes.email) == 1",
        "timestamp(profile.attributes.email) < now",
        "profile.attributes.tags[profile.attributes.age] == 'x'",
        "profile.attributes.email && true",
        "profile.attributes.address.zip[profile.attributes.email] == 1",
        "duration(profile.attributes.email) < duration('1h')",
        "profile.attributes.tags['ada@example.com' == profile.attributes.email] == 1",
        "{profile.attributes.email: 1}['x'] == 1",
        "{profile.attributes.email: 1, profile.attributes.email: 2}['x'] == 1",
        "profile.attributes.tags - profile.attributes.email == 1",
        "-profile.attributes.email == 1",
    ] {
        let said = check(source).unwrap_err().to_string();
        let without_source = said.replace(source, "");
        assert!(!without_source.contains("ada@") && !without_source.contains("loyal"), "{said}");
    }
}

#[test]
fn what_is_wrong_is_found_before_anybody_is_known() {
    for (source, words) in [
        ("profile.attributes.tier ==", "line 1, column"),
        ("", "line 1"),
        ("profile.tier == 'gold'", "profile.tier is not known: write profile.integrationId, profile.attributes.X"),
        ("customer.tier == 'gold'", "customer is not known"),
        ("[1].exists(x, y == 1)", "y is not known"),
        ("profile.attributes.tier.lower() == 'gold'", "lower() is not known"),
        ("profile.attributes.tags.join(',') == 'gold'", "join() is not known"),
        ("profile.attributes.tags.exists(t) ", "exists() is not known, or not with so many arguments"),
        ("profile.attributes.email.matches(profile.attributes.tier)", "in quotes, not computed"),
        ("profile.attributes.email.matches('(')", "matches(): regex parse error"),
        ("'gold'", "gives a text"),
        ("42", "gives a number"),
        ("google.protobuf.Duration{seconds: 1} == duration('1s')", "google.protobuf.Duration{…} cannot be made here"),
        ("@tick(1)", "line 1"),
    ] {
        let said = refused(source);
        assert!(said.contains(words), "{source}: {said}");
    }
    assert!(
        Eligibility::compile("[1].exists(profile, profile.whatever == 1) || true").is_ok(),
        "a loop's variable hides ours"
    );
}

#[test]
fn large_profiles_are_refused_by_weight() {
    let eligibility = Eligibility::compile("true").unwrap();
    let large: Profile =
        serde_json::from_value(json!({ "integrationId": "a", "attributes": { "x": "y".repeat(70_000) } })).unwrap();
    let facts = Facts { campaign: "c", campaign_attributes: &BTreeMap::new(), now: DateTime::default() };
    assert_eq!(eligibility.check(&large, facts), Err(NotEligible::TooLarge));
}

#[test]
fn ordinary_loops_over_long_lists_are_not_too_expensive() {
    let eligibility = Eligibility::compile(
        r#"profile.attributes.items.exists(i, i.sku.startsWith("A") && i.price > 999) || profile.attributes.items.filter(i, i.price > 1).size() > 100"#,
    )
    .unwrap();
    let items: Vec<Value> = (0..1000).map(|i| json!({ "sku": format!("B{i}"), "price": i })).collect();
    let profile: Profile =
        serde_json::from_value(json!({ "integrationId": "a", "attributes": { "items": items } })).unwrap();
    let facts = Facts { campaign: "c", campaign_attributes: &BTreeMap::new(), now: DateTime::default() };
    assert_eq!(eligibility.check(&profile, facts), Ok(()));
}

#[test]
fn an_absorbed_shortage_of_steps_is_still_one() {
    let hungry = "profile.attributes.n.exists(x, profile.attributes.n.exists(y, x + y < 0)) || true";
    let n: Vec<i64> = (0..1000).collect();
    let profile: Profile = serde_json::from_value(json!({ "integrationId": "a", "attributes": { "n": n } })).unwrap();
    let facts = Facts { campaign: "c", campaign_attributes: &BTreeMap::new(), now: DateTime::default() };
    let found = Eligibility::compile(hungry).unwrap().check(&profile, facts);
    assert!(matches!(found, Err(NotEligible::Error { error: EvaluationError::TooExpensive, .. })), "{found:?}");
}
