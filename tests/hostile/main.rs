//! Expressions that are written to hang, to eat memory or to overflow the stack: each is refused, or
//! stopped in time and memory. One process and one test, so that the memory is that of the expressions.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use coupon_operator::api::campaign::Profile;
use coupon_operator::rules::eligibility::{Eligibility, Facts};
use serde_json::{Value, json};

/// Debug builds are slower than what runs in production, and machines may be busy.
const LONGEST: Duration = Duration::from_millis(if cfg!(debug_assertions) { 2000 } else { 250 });

/// Of the whole process.
const MOST_MEMORY_KIB: u64 = 256 * 1024;

fn hostile() -> Vec<String> {
    let numbers = (0..900).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let repeat = |text: &str, n: usize| text.repeat(n);
    let doubling = |n: usize| format!(r#"["aaaaaaaaaa"]{}.size() > 0"#, repeat(".map(x, x + x)", n));
    vec![
        // Stack: chains and nesting.
        format!("{}a == ''", repeat("'a' + ", 600)),
        format!("profile.attributes{} == 1", repeat(".b", 1400)),
        format!("1 == 1{}", repeat(" || 1 == 1", 400)),
        format!("{}1{} == 1", repeat("(", 2000), repeat(")", 2000)),
        format!("{}true", repeat("!", 4000)),
        format!("{}1 == 1", repeat("-", 4000)),
        format!("{}1{}.size() == 1", repeat("[", 2000), repeat("]", 2000)),
        format!("{}1{} == 1", repeat("{'a':", 700), repeat("}", 700)),
        format!("true{}", repeat(" ? true : true", 280)),
        format!("profile.attributes.s{} == 1", repeat(".size()", 580)),
        format!("{}true{}", repeat("[1].all(x, ", 300), repeat(")", 300)),
        repeat("(", 4096),
        repeat("[", 4096),
        repeat("a.b.", 1000),
        repeat("\"", 4096),
        repeat("'\\", 2048),
        repeat("`", 4095),
        repeat("?", 4096),
        repeat("/*", 2048),
        "x".repeat(1_000_000),
        // Time: loops in loops, over data and over literals.
        format!("[{numbers}].all(x, [{numbers}].all(y, x + y >= 0))"),
        "profile.attributes.n.all(x, profile.attributes.n.all(y, profile.attributes.n.all(z, x + y + z >= 0)))".into(),
        "profile.attributes.n.all(x, profile.attributes.n.all(y, x + y >= 0)) || true".into(),
        "profile.attributes.n.exists(x, profile.attributes.n.exists(y, profile.attributes.s == profile.attributes.s + 'x'))".into(),
        "profile.attributes.n.exists(x, profile.attributes.n.exists(y, profile.attributes.n == [x, y]))".into(),
        "profile.attributes.n.filter(x, profile.attributes.n.filter(y, profile.attributes.n.size() < 0).size() > 0).size() > 0".into(),
        "profile.attributes.n.exists_one(x, profile.attributes.n.exists_one(y, x == y + 5000))".into(),
        "profile.attributes.n.map(x, profile.attributes.n).map(y, y.map(z, y)).size() == 0".into(),
        "profile.attributes.n.exists(x, profile.attributes.n.exists(y, profile.attributes.s.contains('bbbbbbbbbb')))".into(),
        "profile.attributes.n.exists(x, has(profile.attributes.missing) || profile.attributes.n.exists(y, 'q' in profile.attributes))".into(),
        // Memory: what doubles.
        doubling(29),
        doubling(200),
        format!("[{}][0]{}.size() > 0", "[1]", repeat(".map(x, [x, x])", 40)),
        "profile.attributes.n.map(x, profile.attributes.n.map(y, profile.attributes.n)).size() == 0".into(),
        "profile.attributes.n.map(x, profile.attributes.s).map(x, x + x).map(x, x + x).map(x, x + x).size() == 0".into(),
        "profile.attributes.n.map(x, {'a': profile.attributes.n, 'b': profile.attributes.n}).map(y, [y, y, y, y]).size() == 0".into(),
        format!("{} == ''", vec!["profile.attributes.s"; 150].join(" + ")),
        "profile.attributes.n.map(x, profile.attributes.n.map(y, x + y)).map(l, l + l).map(l, l + l).size() == 0".into(),
        "profile.attributes.n.map(x, string(x) + string(x)).map(x, x + x + x + x).map(x, x + x + x + x).map(x, x + x + x + x).size() < 0".into(),
        // Regular expressions.
        format!("profile.attributes.s.matches('{}')", "(a*)*".repeat(100)),
        "profile.attributes.s.matches('((((a{1,100}){1,100}){1,100}){1,100})')".into(),
        "profile.attributes.s.matches('(?i)\\\\pL{500}\\\\pL{500}')".into(),
        format!("profile.attributes.s.matches('{}')", "(".repeat(500)),
        "profile.attributes.n.exists(x, profile.attributes.s.matches('^(a+)+$'))".into(),
        "profile.attributes.n.exists(x, profile.attributes.n.exists(y, profile.attributes.s.matches('(a|aa)+c')))".into(),
        format!("profile.attributes.s.matches('{}')", "x".repeat(3000)),
        (0..40).map(|i| format!("profile.attributes.s.matches('\\\\w{{{i}}}')")).collect::<Vec<_>>().join(" || "),
        // Times and numbers at their ends.
        "timestamp('9999-12-31T23:59:59Z') + duration('99999999h') > now".into(),
        "timestamp('0001-01-01T00:00:00Z') - duration('99999999h') < now".into(),
        "timestamp('9999-12-31T23:59:59-12:00') > now".into(),
        "timestamp(9223372036854775807) > now".into(),
        "timestamp(-9223372036854775807).getHours('Europe/Berlin') > 0".into(),
        "duration('9223372036854775807s') > duration('1s')".into(),
        "-(-9223372036854775807 - 1) > 0".into(),
        "(-9223372036854775807 - 1) / -1 > 0".into(),
        "(-9223372036854775807 - 1) % -1 == 0".into(),
        "int(1e300) > 0 || uint(-1) > 0u || int('x') > 0".into(),
        "now.getHours('No/Zone') > 0".into(),
        "profile.attributes.n[9223372036854775807] == 1".into(),
        "profile.attributes.n[-1] == 1".into(),
        "bytes(profile.attributes.s)[0] == 1".into(),
        "profile.attributes.n.exists(x, profile.attributes.n.exists(y, 'q' in profile.attributes))".into(),
        "profile.attributes.n.exists(x, profile.attributes.n.exists(y, profile.attributes.m == 1))".into(),
        "profile.attributes.n.exists(x, profile.attributes.n.exists(y, profile.attributes.m != profile.attributes.m))".into(),
        "optional.of(1).value() == 1 && optional.none().value() == 1".into(),
    ]
}

#[test]
fn hostile_expressions_are_refused_or_stopped_in_time_and_memory() {
    let numbers: Vec<i64> = (0..1000).collect();
    let lists = profile(&json!({ "n": numbers, "s": "a".repeat(40_000) }));
    // Many small values cost more than their bytes.
    let digits: Vec<i64> = (0..120).collect();
    let many: serde_json::Map<String, Value> = (0..5000).map(|i| (format!("k{i}"), 1.into())).collect();
    let mut many = Value::from(many);
    many["n"] = json!(digits);
    let objects = json!({ "n": digits, "m": vec![json!({ "": 0 }); 2500] });
    for profile in [lists, profile(&many), profile(&objects)] {
        try_all(&profile);
    }
}

fn profile(attributes: &Value) -> Profile {
    serde_json::from_value(json!({ "integrationId": "a", "attributes": attributes })).unwrap()
}

fn try_all(profile: &Profile) {
    let attributes: BTreeMap<String, Value> = BTreeMap::new();
    let facts = Facts { campaign: "c", campaign_attributes: &attributes, now: "2023-01-01T00:00:00Z".parse().unwrap() };
    // The tables of the parser and of time zones are not the expressions' doing.
    Eligibility::compile("now.getHours('Europe/Berlin') > 0").unwrap().check(profile, facts).unwrap();
    let mut refused = 0;
    for source in hostile() {
        let begun = Instant::now();
        let shown: String = source.chars().take(100).collect();
        let verdict = match Eligibility::compile(&source) {
            Err(error) => {
                refused += 1;
                format!("refused: {error}")
            }
            Ok(eligibility) => match eligibility.check(profile, facts) {
                Ok(()) => "eligible".into(),
                Err(error) => error.to_string(),
            },
        };
        let (took, memory) = (begun.elapsed(), peak_memory_kib());
        println!(
            "{took:>10.1?} {:>4} MiB  {shown}  →  {}",
            memory / 1024,
            verdict.chars().take(150).collect::<String>()
        );
        assert!(took < LONGEST, "{took:?}: {shown}");
        assert!(memory < MOST_MEMORY_KIB, "{memory} KiB: {shown}");
    }
    assert!(refused > 20, "{refused}");
}

/// The most that the process ever had in memory, as Linux counts it; elsewhere it is not known.
fn peak_memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0)
}
