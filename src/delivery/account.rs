//! Accounts and credentials: who shares a limit, and whose mistake a refusal is.

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Requests that CleverTap's upload API takes at once for one account
/// (CleverTap's documentation, "API rate limits").
pub const CLEVERTAP_IN_FLIGHT: usize = 15;

/// What shares an in-flight limit and the pace after a 429.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AccountKey {
    /// A CleverTap account in a region, whoever uses it.
    CleverTap { host: String, account_id: String },
    /// An origin, as one namespace uses it.
    Origin { namespace: String, origin: String },
}

/// A digest that tells credentials apart without holding them. It is keyed with a value that is
/// random for each process, so that it says nothing outside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CredentialDigest([u8; 32]);

impl CredentialDigest {
    /// The digest of an account together with the values taken from Secrets and ConfigMaps.
    #[must_use]
    pub fn of(key: &[u8; 32], account: &AccountKey, values: &[(&str, &str)]) -> Self {
        // A key of any length will do for HMAC, so this cannot fail.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Self([0; 32]) };
        let account = format!("{account:?}");
        for part in std::iter::once(account.as_str()).chain(values.iter().flat_map(|(name, value)| [*name, *value])) {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        Self(mac.finalize().into_bytes().into())
    }
}
