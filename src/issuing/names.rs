//! The names of Coupons. A frozen format: a Coupon's name says what it records, so that the API
//! server itself refuses a second Coupon for the same recipient and occurrence.

use sha2::{Digest, Sha256};

/// What a single Coupon records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant<'a> {
    pub campaign: &'a str,
    pub rule: &'a str,
    pub occurrence: &'a str,
    pub recipient: &'a str,
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
    for part in [grant.campaign, grant.rule, grant.occurrence, grant.recipient] {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
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
        recipient: "customer-1",
    };

    /// Computed with another program, Python's hashlib, over the
    /// parts with their lengths as 64-bit big-endian numbers in front.
    #[test]
    fn names_are_a_frozen_format() {
        assert_eq!(coupon_name(GRANT), "new-year-create-coupon-on-1-january-b683057b824867abe90c224764a33757");
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
