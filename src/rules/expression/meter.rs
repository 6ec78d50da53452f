//! The meter: how many steps an evaluation may still make. The functions that draw on it have names
//! that nobody can write in CEL.
#![allow(clippy::needless_pass_by_value)] // cel's signature of a function

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use cel::common::types::{
    CelBool, CelInt, CelList, CelMap, CelString, CelTimestamp, DYN_TYPE, INT_TYPE, STRING_TYPE, Type,
};
use cel::common::value::{CowVal, Val};
use cel::{Env, ExecutionError};
use regex::Regex;

use super::too_expensive;

pub(super) const TICK: &str = "@tick";
pub(super) const CHARGE: &str = "@charge";
pub(super) const ADD: &str = "@add";
pub(super) const MATCHES: &str = "@matches";
pub(super) const UTC: &str = "@utc";
/// A variable that tells whether another exists.
pub const HAS_PREFIX: &str = "@has.";

/// Steps of an evaluation: a list of a thousand short texts may be looked at some twenty times.
const STEPS: u64 = 200_000;

/// Data of so many bytes make each step cost one more, since a step may compare them all.
const BYTES_A_STEP: usize = 16_384;

/// A step copies or searches so many bytes of text that was put together.
const TEXT_A_STEP: usize = 4;

thread_local! {
    static LEFT: Cell<u64> = const { Cell::new(0) };
    static SCALE: Cell<u64> = const { Cell::new(1) };
    static REGEXES: RefCell<Option<Arc<[Regex]>>> = const { RefCell::new(None) };
}

/// The meter of this thread, for one evaluation.
pub struct Meter(());

impl Meter {
    pub fn start(weight: usize, regexes: &Arc<[Regex]>) -> Self {
        let scale = weight.div_euclid(BYTES_A_STEP).saturating_add(1);
        SCALE.set(u64::try_from(scale).unwrap_or(u64::MAX));
        LEFT.set(STEPS);
        if !regexes.is_empty() {
            REGEXES.set(Some(regexes.clone()));
        }
        Self(())
    }

    // The meter is that of the thread; having started it is what allows to ask.
    #[allow(clippy::unused_self)]
    pub fn is_exhausted(&self) -> bool {
        LEFT.get() == 0
    }
}

/// Draws on the meter for making a value of so many parts. Whoever makes it cannot fail: the meter is asked
/// afterwards.
pub fn spend(steps: usize) {
    LEFT.set(LEFT.get().saturating_sub(u64::try_from(steps).unwrap_or(u64::MAX)));
}

fn draw(steps: u64) -> Result<(), ExecutionError> {
    let left = LEFT.get().saturating_sub(steps);
    LEFT.set(left);
    if left == 0 { Err(too_expensive()) } else { Ok(()) }
}

fn draw_scaled(cost: &CowVal<'_, '_>) -> Result<(), ExecutionError> {
    let cost = cost.downcast_ref::<CelInt>().and_then(|cost| u64::try_from(*cost.inner()).ok()).unwrap_or(1);
    draw(cost.saturating_mul(SCALE.get()))
}

/// Declares the functions that edited expressions call.
pub fn declare(env: &mut Env) {
    let functions: [(&str, Vec<Type>, cel::common::functions::Function); 5] = [
        (TICK, vec![INT_TYPE], tick),
        (CHARGE, vec![INT_TYPE, DYN_TYPE], charge),
        (ADD, vec![DYN_TYPE, DYN_TYPE], add),
        (MATCHES, vec![STRING_TYPE, INT_TYPE], matches),
        (UTC, vec![DYN_TYPE], utc),
    ];
    for (name, types, function) in functions {
        // Nobody else has these names, so it cannot fail; without them nothing could be evaluated.
        let declared = env.add_overload(name, name, types, function);
        debug_assert!(declared.is_ok(), "{name}");
    }
}

fn tick<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    args.first().map_or(Ok(()), draw_scaled)?;
    Ok(CowVal::owned(CelBool::from(true)))
}

/// The element of a list that is made: it costs its round and its size.
fn charge<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let mut args = args.into_iter();
    let (Some(cost), Some(value)) = (args.next(), args.next()) else { return Err(too_expensive()) };
    draw_scaled(&cost)?;
    draw(weight(&*value))?;
    Ok(value)
}

fn add<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let mut args = args.into_iter();
    let (Some(left), Some(right)) = (args.next(), args.next()) else { return Err(too_expensive()) };
    draw(weight(&*left).saturating_add(weight(&*right)))?;
    let Some(adder) = left.as_adder() else {
        let types = [&left, &right].map(|value| value.get_type().name().to_owned()).into();
        return Err(ExecutionError::no_such_overload("_+_", types));
    };
    Ok(CowVal::Owned(adder.add(&*right)?.into_owned()))
}

fn matches<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let text = args.first().and_then(|text| text.downcast_ref::<CelString>()).ok_or_else(too_expensive)?;
    let place = args.get(1).and_then(|place| place.downcast_ref::<CelInt>()).ok_or_else(too_expensive)?;
    draw(steps_of(text.inner().len()))?;
    let place = usize::try_from(*place.inner()).unwrap_or(usize::MAX);
    let found = REGEXES.with_borrow(|all| all.as_deref()?.get(place).map(|regex| regex.is_match(text.inner())));
    found.map(|found| CowVal::owned(CelBool::from(found))).ok_or_else(too_expensive)
}

/// A time in UTC; anything else stays what it is.
fn utc<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let value = args.into_iter().next().ok_or_else(too_expensive)?;
    let time = value.downcast_ref::<CelTimestamp>().map(|time| time.inner().to_utc().fixed_offset());
    Ok(time.map_or(value, |time| CowVal::owned(CelTimestamp::from(time))))
}

fn steps_of(bytes: usize) -> u64 {
    u64::try_from(bytes.div_euclid(TEXT_A_STEP)).unwrap_or(u64::MAX).saturating_add(1)
}

/// The steps that a copy of a value costs, with all that is in it. Looks at no more than is left.
fn weight(value: &dyn Val) -> u64 {
    let mut left: Vec<&dyn Val> = vec![value];
    let mut steps = 0_u64;
    while let Some(value) = left.pop().filter(|_| steps < LEFT.get()) {
        steps = steps.saturating_add(1);
        if let Some(text) = value.downcast_ref::<CelString>() {
            steps = steps.saturating_add(steps_of(text.inner().len()));
        } else if let Some(list) = value.downcast_ref::<CelList>() {
            left.extend(list.inner().iter().map(AsRef::as_ref));
        } else if let Some(map) = value.downcast_ref::<CelMap>() {
            left.extend(map.inner().iter().flat_map(|(key, value)| [key.inner(), value.as_ref()]));
        }
    }
    steps
}
