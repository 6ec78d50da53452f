#![no_main]

use arbitrary::Arbitrary;
use coupon_operator_fuzz::{ZONES, ask};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};

/// A schedule whose texts are valid, so that its combinations are what is tried.
#[derive(Arbitrary, Debug)]
struct Input {
    zone: u8,
    once_per: u8,
    at: i64,
    entries: Vec<Entry>,
}

#[derive(Arbitrary, Debug)]
struct Entry {
    fields: Fields,
    except: Vec<Fields>,
}

#[derive(Arbitrary, Debug)]
struct Fields {
    dates: Vec<u16>,
    month_days: Vec<u16>,
    weekdays: u8,
    times: Option<(u16, u16)>,
    after: Option<u32>,
    before: Option<u32>,
    cron: Option<(u8, u8, u8, u8, u8)>,
    rule: Option<(u8, u8, u16, u16)>,
    window: u32,
}

const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const RULES: [&str; 8] = [
    "FREQ=DAILY", "FREQ=WEEKLY;BYDAY=MO,FR", "FREQ=MONTHLY;BYDAY=-1FR", "FREQ=MONTHLY;BYMONTHDAY=31", "FREQ=YEARLY;BYWEEKNO=53",
    "FREQ=YEARLY;BYYEARDAY=-1", "FREQ=DAILY;BYHOUR=0,1,2,3", "FREQ=MONTHLY;BYDAY=MO,TU;BYSETPOS=-1",
];

fn date(day: u16) -> chrono::NaiveDate {
    chrono::NaiveDate::from_ymd_opt(1990, 1, 1).unwrap() + chrono::Days::new(u64::from(day) % 40_000)
}

fn minute(minute: u16) -> String {
    format!("{:02}:{:02}", minute / 60 % 24, minute % 60)
}

fn field(value: u8, step: u8) -> String {
    if value.is_multiple_of(3) { "*".to_owned() } else { format!("*/{}", value % step + 1) }
}

impl Fields {
    fn json(&self) -> Value {
        let mut fields = Map::new();
        let mut set = |name: &str, value: Option<Value>| value.into_iter().for_each(|value| drop(fields.insert(name.to_owned(), value)));
        let some = |list: Vec<Value>| (!list.is_empty()).then(|| Value::from(list));
        set("onDates", some(self.dates.iter().take(20).map(|d| date(*d).to_string().into()).collect()));
        set("monthDays", some(self.month_days.iter().take(20).map(|d| date(*d).format("%m-%d").to_string().into()).collect()));
        set("daysOfWeek", some((0..7).filter(|i| self.weekdays >> i & 1 == 1).map(|i| DAYS[i].into()).collect()));
        let times = self.times.filter(|(from, to)| minute(*from) != minute(*to));
        set("timeOfDay", times.map(|(from, to)| json!({ "from": minute(from), "to": minute(to) })));
        let bound = |at: u32| Value::from(format!("{}T{}", date((at >> 16) as u16), minute(at as u16)));
        set("after", self.after.map(bound));
        set("before", self.before.map(bound));
        let cron = |(a, b, c, d, e)| format!("{} {} {} {} {}", field(a, 59), field(b, 23), field(c, 28), field(d, 12), field(e, 6));
        set("cron", self.cron.map(|values| cron(values).into()));
        let rule = |(rule, interval, day, time): (u8, u8, u16, u16)| {
            json!({ "start": format!("{}T{}", date(day), minute(time)), "rule": format!("{};INTERVAL={}", RULES[usize::from(rule % 8)], interval % 5 + 1) })
        };
        set("rrule", self.rule.map(rule));
        set("windowSeconds", (self.cron.is_some() || self.rule.is_some()).then(|| json!(self.window % 3_000_000 + 1)));
        fields.into()
    }
}

fuzz_target!(|input: Input| {
    let entry = |entry: &Entry| {
        let mut json = entry.fields.json();
        json["except"] = entry.except.iter().take(8).map(Fields::json).collect();
        json
    };
    let schedules: Value = input.entries.iter().take(16).map(entry).collect();
    let once_per = ["Window", "Day", "Week", "Month", "Year", "Campaign"][usize::from(input.once_per % 6)];
    ask(ZONES[usize::from(input.zone) % ZONES.len()], once_per, &schedules, input.at);
});
