//! Whether the promises held: from the stand-in's own record, the changes that the API server made, and the Coupons.

use std::collections::{BTreeMap, BTreeSet};

use coupon_operator::api::coupon::Coupon;
use coupon_operator::records::Records;

use crate::proxy::Applied;
use crate::world::World;

/// What happened to a record, as far as nobody but a test can see it.
struct Truth {
    /// How often CleverTap stored it.
    stored: usize,
    /// A request of it was begun whose outcome no operator ever wrote down from its answer.
    lost: bool,
}

/// I1 to I5 for everybody whom the audience had.
pub fn check(
    world: &World,
    coupons: &[Coupon],
    applied: &[Applied],
    audience: &BTreeSet<String>,
) -> Result<(), String> {
    let codes = codes(coupons)?;
    let have: BTreeSet<String> = codes.keys().cloned().collect();
    if have != *audience {
        return Err(format!("I4: codes for {have:?}, and not for {audience:?}"));
    }
    let different: BTreeSet<String> = codes.values().map(|code| code.to_lowercase()).collect();
    if different.len() != codes.len() {
        return Err("I2: two hold the same code".to_owned());
    }
    for event in world.stand_in.events() {
        if codes.get(&event.identity).map(String::as_str) != event.data["CouponCode"].as_str() {
            return Err(format!("I3: {} was sent {}, and has another code", event.identity, event.data));
        }
    }
    for (coupon, row, recipient) in records(coupons) {
        let truth = truth(world, coupon, row, &recipient, applied);
        let status = coupon.status.as_ref().map(|s| s.deliveries.clone()).unwrap_or_default();
        let delivery = status.first().cloned().unwrap_or_default();
        let (accepted, unknown) = (delivery.accepted.contains(row), delivery.unknown.contains(row));
        if !accepted || truth.stored == 0 {
            return Err(format!("I4: {recipient}: accepted {accepted}, stored {} times", truth.stored));
        }
        if truth.stored > 1 && !unknown {
            return Err(format!("I5: {recipient} was told {} times, and the record does not say so", truth.stored));
        }
        if unknown != truth.lost {
            return Err(format!(
                "the ledger of doubt: {recipient} is called unknown: {unknown}; an outcome was lost: {}",
                truth.lost
            ));
        }
    }
    Ok(())
}

/// I1: nobody is in two.
fn codes(coupons: &[Coupon]) -> Result<BTreeMap<String, String>, String> {
    let mut codes = BTreeMap::new();
    for coupon in coupons {
        for (_, record) in Records::of(&coupon.spec).iter() {
            if codes.insert(record.recipient().to_owned(), record.code().to_owned()).is_some() {
                return Err(format!("I1: {} has two codes", record.recipient()));
            }
        }
    }
    Ok(codes)
}

fn records(coupons: &[Coupon]) -> impl Iterator<Item = (&Coupon, u32, String)> {
    coupons.iter().flat_map(|coupon| {
        Records::of(&coupon.spec).iter().map(move |(row, record)| (coupon, row, record.recipient().to_owned()))
    })
}

/// An attempt whose intent the API server took, and of which no other outcome was written than that its sender is
/// lost, is one that nobody could know.
fn truth(world: &World, coupon: &Coupon, row: u32, recipient: &str, applied: &[Applied]) -> Truth {
    let name = coupon.metadata.name.as_deref();
    let mut known: BTreeMap<i64, bool> = BTreeMap::new();
    for change in applied.iter().filter(|change| Some(change.coupon.as_str()) == name) {
        let attempt = &change.status["deliveries"][0]["lastAttempt"];
        let rows: coupon_operator::records::RowSet = attempt["rows"].as_str().unwrap_or_default().parse().unwrap();
        let Some(number) = attempt["number"].as_i64().filter(|_| rows.contains(row)) else { continue };
        let answered = attempt["outcome"].is_string() && attempt["outcome"] != "Unknown";
        *known.entry(number).or_default() |= answered;
    }
    let stored = world.stand_in.events().iter().filter(|e| e.identity == recipient).count();
    Truth { stored, lost: known.values().any(|known| !known) }
}
