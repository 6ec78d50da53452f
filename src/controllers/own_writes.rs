//! What this process has written and its cache does not show yet. A plan made of such a Coupon is made in vain: the
//! write that follows is refused, since its precondition does not hold.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kube::ResourceExt;

use crate::api::coupon::Coupon;

/// The versions of Coupons that this process replaces, until its watch shows a later one.
#[derive(Default)]
pub struct OwnWrites(Mutex<HashMap<Key, Vec<String>>>);

type Key = (String, String);

fn key(coupon: &Coupon) -> Key {
    (coupon.namespace().unwrap_or_default(), coupon.name_any())
}

impl OwnWrites {
    /// Notes that a Coupon, as it is here, is about to be replaced.
    pub fn begin(&self, coupon: &Coupon) {
        self.lock().entry(key(coupon)).or_default().extend(coupon.resource_version());
    }

    /// It was not, or nobody knows: it is planned again as it is.
    pub fn failed(&self, coupon: &Coupon) {
        let mut replaced = self.lock();
        if let Some(versions) = replaced.get_mut(&key(coupon)) {
            versions.retain(|version| Some(version) != coupon.metadata.resource_version.as_ref());
            if versions.is_empty() {
                replaced.remove(&key(coupon));
            }
        }
    }

    /// True if this process replaces, or has replaced, a Coupon as it is here.
    #[must_use]
    pub fn replaced(&self, coupon: &Coupon) -> bool {
        let version = coupon.metadata.resource_version.as_ref();
        self.lock().get(&key(coupon)).is_some_and(|versions| versions.iter().any(|v| Some(v) == version))
    }

    /// The watch shows a Coupon. After a later version none of those before it is expected.
    pub fn seen(&self, coupon: &Coupon) {
        if !self.replaced(coupon) {
            self.gone(coupon);
        }
    }

    /// The watch shows that a Coupon is gone, or settled.
    pub fn gone(&self, coupon: &Coupon) {
        self.lock().remove(&key(coupon));
    }

    /// All were listed anew.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Vec<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn version(number: &str) -> Coupon {
        let metadata = json!({ "name": "c", "namespace": "n", "resourceVersion": number });
        let spec = json!({ "recipient": "r", "code": "c", "deliveries": [] });
        serde_json::from_value(json!({
            "apiVersion": "coupon-operator.dev/v1alpha1", "kind": "Coupon", "metadata": metadata, "spec": spec,
        }))
        .unwrap()
    }

    #[test]
    fn what_was_replaced_is_known_until_something_later_is_seen() {
        let own = OwnWrites::default();
        let [first, second, third] = ["1", "2", "3"].map(version);
        own.begin(&first);
        own.begin(&second);
        // The watch comes behind.
        own.seen(&first);
        own.seen(&second);
        assert_eq!([&first, &second, &third].map(|c| own.replaced(c)), [true, true, false]);
        own.seen(&third);
        assert_eq!([&first, &second, &third].map(|c| own.replaced(c)), [false; 3]);
        assert!(own.lock().is_empty(), "nothing is kept of what is seen");
    }

    #[test]
    fn a_write_that_failed_is_planned_again() {
        let own = OwnWrites::default();
        let [first, second] = ["1", "2"].map(version);
        own.begin(&first);
        own.begin(&second);
        own.failed(&second);
        assert_eq!([&first, &second].map(|c| own.replaced(c)), [true, false]);
        own.failed(&first);
        assert!(own.lock().is_empty());
    }

    #[test]
    fn nothing_is_kept_of_what_is_gone_or_listed_anew() {
        let own = OwnWrites::default();
        own.begin(&version("1"));
        own.gone(&version("2"));
        assert!(own.lock().is_empty());
        own.begin(&version("1"));
        own.clear();
        assert!(own.lock().is_empty());
    }
}
