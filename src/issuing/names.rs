//! The names of Coupons. A frozen format: a Coupon's name says what it records, so that the API
//! server itself refuses a second Coupon for the same recipient and occurrence.

use sha2::{Digest, Sha256};

/// What a Coupon records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant<'a> {
    pub campaign: &'a str,
    pub rule: &'a str,
    pub occurrence: &'a str,
    pub to: Recipients<'a>,
}

/// Whom a Coupon is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipients<'a> {
    One(&'a str),
    /// Those of the chunk of this number, from 1.
    Chunk(i32),
}

/// The name of the Coupon of a grant: `<campaign ≤ 40>-<rule ≤ 40>-<128-bit hash of the tuple>`.
#[must_use]
pub fn coupon_name(grant: Grant<'_>) -> String {
    format!("{}-{}-{}", shortened(grant.campaign), shortened(grant.rule), hash(grant))
}

/// Names of campaigns and rules are DNS labels, that is ASCII, so bytes are characters.
fn shortened(label: &str) -> &str {
    label.get(..40).unwrap_or(label)
}

/// The first 128 bits of the SHA-256 of the tuple. Each part has its length in front, so that no two
/// tuples make the same bytes.
fn hash(grant: Grant<'_>) -> String {
    let mut hasher = Sha256::new();
    let mut part = |part: &str| {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    };
    [grant.campaign, grant.rule, grant.occurrence].into_iter().for_each(&mut part);
    match grant.to {
        Recipients::One(recipient) => part(recipient),
        // A part more, so that no recipient is taken for the number of a chunk.
        Recipients::Chunk(number) => {
            part("chunk");
            part(&number.to_string());
        }
    }
    let digest = hex::encode(hasher.finalize());
    digest.get(..32).unwrap_or(&digest).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRANT: Grant<'_> = Grant {
        campaign: "new-year",
        rule: "create-coupon-on-1-january",
        occurrence: "20230101",
        to: Recipients::One("customer-1"),
    };

    /// Computed with another program, Python's hashlib, over the
    /// parts with their lengths as 64-bit big-endian numbers in front.
    #[test]
    fn names_are_a_frozen_format() {
        assert_eq!(coupon_name(GRANT), "new-year-create-coupon-on-1-january-b683057b824867abe90c224764a33757");
    }

    #[test]
    fn names_of_chunks_are_a_frozen_format_too() {
        let chunk = Grant { to: Recipients::Chunk(12), ..GRANT };
        assert_eq!(coupon_name(chunk), "new-year-create-coupon-on-1-january-66a24907760e580bad8ac15854b55c82");
        assert_ne!(coupon_name(chunk), coupon_name(Grant { to: Recipients::One("12"), ..GRANT }));
    }

    #[test]
    fn parts_cannot_run_into_each_other() {
        let moved = Grant { campaign: "new-yearc", rule: "reate-coupon-on-1-january", ..GRANT };
        assert_ne!(hash(GRANT), hash(moved));
    }

    #[test]
    fn long_names_stay_valid_object_names() {
        let long = "a".repeat(63);
        let name = coupon_name(Grant { campaign: &long, rule: &long, ..GRANT });
        assert_eq!(name.len(), 40 + 1 + 40 + 1 + 32);
    }
}
