//! The operator's calendars and the model agree.

use chrono::{DateTime, TimeDelta, Utc};
use coupon_operator::api::campaign::{CampaignSpec, Window};
use coupon_operator::schedule::{Calendar, ScheduleError};
use serde_json::{Value, json};

use crate::model::{Clock, ModelEntry, Opened, opened};
use crate::random::{Random, place};

/// A clock is worked out once for so many rules.
const RULES_A_CLOCK: u64 = 50;

/// A lead of two days, so that the model knows the ticks before, and three days that are compared.
const LEAD: usize = 2 * 1440;
const COMPARED: usize = 3 * 1440;

/// How many rules are compared: `SCHEDULE_CASES`, else a hundred thousand.
fn cases() -> u64 {
    std::env::var("SCHEDULE_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000)
}

#[test]
fn calendars_agree_with_the_slow_model() {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let seed: u64 = std::env::var("SCHEDULE_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(20_230_101);
    let clocks = cases().div_ceil(RULES_A_CLOCK);
    let counts: Vec<Counts> = std::thread::scope(|scope| {
        let run = |thread: usize| {
            scope.spawn(move || {
                let mut counts = Counts::default();
                (seed..seed + clocks)
                    .skip(thread)
                    .step_by(threads)
                    .for_each(|seed| compare_on_a_clock(seed, &mut counts));
                counts
            })
        };
        let running: Vec<_> = (0..threads).map(run).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let total = counts.iter().fold(Counts::default(), |a, b| a.plus(b));
    println!("compared {total:?}");
    assert!(total.rules >= cases());
    // A comparison of rules that are never open, or always, would say little.
    assert!(total.windows > total.rules / 2 && total.boundaries > total.rules / 2, "{total:?}");
}

#[derive(Clone, Debug, Default)]
struct Counts {
    rules: u64,
    never: u64,
    windows: u64,
    boundaries: u64,
    minutes: u64,
}

impl Counts {
    fn plus(&self, other: &Self) -> Self {
        Self {
            rules: self.rules + other.rules,
            never: self.never + other.never,
            windows: self.windows + other.windows,
            boundaries: self.boundaries + other.boundaries,
            minutes: self.minutes + other.minutes,
        }
    }
}

fn compare_on_a_clock(seed: u64, counts: &mut Counts) {
    let mut random = Random::seeded(seed);
    let (zone, center) = place(&mut random);
    let from = center.and_hms_opt(0, 0, 0).unwrap().and_utc() - TimeDelta::days(3) - TimeDelta::hours(12);
    let clock = Clock::new(zone, from, LEAD + COMPARED);
    for _ in 0..RULES_A_CLOCK {
        let rules = (0..=random.below(3)).map(|_| random.entry(center));
        let (schedules, entries): (Vec<Value>, Vec<ModelEntry>) = rules.unzip();
        let mut bound = |hours: i64| {
            let at =
                from + TimeDelta::days(3) + TimeDelta::hours(hours) + TimeDelta::minutes(random.below(3000).into());
            random.chance(10).then_some(at)
        };
        let (start, end) = (bound(-24), bound(12));
        let what = format!("seed {seed} {zone} around {center} start {start:?} end {end:?} {}", json!(schedules));
        let model = opened(&clock, &entries, start, end);
        let spec: CampaignSpec = serde_json::from_value(json!({
            "timeZone": zone.name(), "startTime": start, "endTime": end, "audience": { "profiles": [] },
            "rules": [{ "name": "r", "schedules": schedules, "effects": [] }],
        }))
        .unwrap();
        counts.rules += 1;
        match Calendar::of(&spec, &spec.rules[0]) {
            Ok(calendar) => Comparison { clock: &clock, model: &model, calendar: &calendar, what: &what }.run(counts),
            Err(ScheduleError::NeverOpens(_)) => {
                counts.never += 1;
                assert!(!model.open[LEAD..].contains(&true), "{what}: the model is open");
            }
            Err(error) => panic!("{what}: {error}"),
        }
    }
}

struct Comparison<'a> {
    clock: &'a Clock,
    model: &'a Opened,
    calendar: &'a Calendar,
    what: &'a str,
}

impl Comparison<'_> {
    fn run(&self, counts: &mut Counts) {
        let expected = self.expected();
        let (from, until) = (self.clock.instant(LEAD), self.clock.instant(LEAD + COMPARED));
        let found: Vec<Window> = self.calendar.windows(from, until).collect();
        let clipped: Vec<(DateTime<Utc>, DateTime<Utc>)> = found
            .iter()
            .map(|w| (w.start_time.map_or(from, |s| s.max(from)), w.end_time.map_or(until, |e| e.min(until))))
            .collect();
        assert_eq!(clipped, expected, "{}", self.what);
        counts.windows += expected.len() as u64;
        counts.minutes += COMPARED as u64;
        self.starts_before_the_range(&found);
        // One window of each rule is asked about: one that ticks each minute has thousands, all alike.
        let chosen = usize::try_from(counts.rules).unwrap().checked_rem(expected.len());
        for (i, (start, end)) in expected.iter().enumerate().filter(|(i, _)| Some(*i) == chosen) {
            self.boundaries(*start, *end, expected.get(i + 1).map(|next| next.0), found[i]);
            counts.boundaries += u64::from(*start > from) + u64::from(*end < until);
        }
    }

    /// The windows of the model, clipped to the compared range.
    fn expected(&self) -> Vec<(DateTime<Utc>, DateTime<Utc>)> {
        let mut windows = Vec::new();
        let mut began: Option<usize> = None;
        for minute in LEAD..LEAD + COMPARED {
            let (open, tick) = (self.model.open[minute], self.model.tick[minute]);
            if let Some(start) = began.filter(|_| !open || tick) {
                windows.push((self.clock.instant(start), self.clock.instant(minute)));
                began = None;
            }
            if open && began.is_none() {
                began = Some(minute);
            }
        }
        let end = self.clock.instant(LEAD + COMPARED);
        windows.extend(began.map(|start| (self.clock.instant(start), end)));
        windows
    }

    /// A window that was open at the beginning of the range began where the model says.
    fn starts_before_the_range(&self, found: &[Window]) {
        if !self.model.open[LEAD] || self.model.tick[LEAD] {
            return;
        }
        let mut start = LEAD;
        // The model does not know the ticks of the day before its clock.
        while start > LEAD - 300 && self.model.open[start - 1] && !self.model.tick[start] {
            start -= 1;
        }
        let known = start > LEAD - 300;
        let began = found[0].start_time;
        if known {
            assert_eq!(began, Some(self.clock.instant(start)), "{}", self.what);
        } else {
            assert!(began.is_none_or(|at| at <= self.clock.instant(start)), "{}", self.what);
        }
    }

    /// Searches that begin elsewhere find the same, but for what is so far away that one of them did not
    /// look there.
    fn same_window(&self, found: Option<Window>, window: Window) {
        let same = |a: Option<DateTime<Utc>>, b: Option<DateTime<Utc>>| a.is_none() || b.is_none() || a == b;
        let found = found.unwrap_or_else(|| panic!("no window at {window:?}: {}", self.what));
        let agree = same(found.start_time, window.start_time) && same(found.end_time, window.end_time);
        assert!(agree, "{found:?} is not {window:?}: {}", self.what);
    }

    /// What is asked of a calendar around a window gives that window.
    fn boundaries(&self, start: DateTime<Utc>, end: DateTime<Utc>, next: Option<DateTime<Utc>>, window: Window) {
        let second = TimeDelta::seconds(1);
        self.same_window(self.calendar.open_at(start), window);
        self.same_window(self.calendar.open_at(end - second), window);
        let boundary = self.calendar.next_boundary(end - second);
        assert!(boundary == window.end_time || window.end_time.is_none(), "{boundary:?} {window:?} {}", self.what);
        if let Some(next) = next {
            assert_eq!(self.calendar.next_opening(start), Some(next), "{}", self.what);
        }
        if window.start_time == Some(start) {
            assert_eq!(self.calendar.next_opening(start - second), Some(start), "{}", self.what);
        }
    }
}
