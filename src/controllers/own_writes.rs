//! What this process has written and its cache does not show yet. A plan made of such a Coupon is made in vain: the
//! write that follows is refused, since its precondition does not hold.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kube::ResourceExt;

use crate::api::coupon::Coupon;

/// The versions of Coupons that this process replaces, until its watch shows a later one.
#[derive(Default)]
pub struct OwnWrites(Mutex<HashMap<Key, Replaced>>);

#[derive(Default)]
struct Replaced {
    versions: Vec<String>,
    /// Writes whose answer has not come.
    in_flight: u32,
    /// The watch has shown that it is gone, or settled.
    gone: bool,
}

type Key = (String, String);

fn key(coupon: &Coupon) -> Key {
    (coupon.namespace().unwrap_or_default(), coupon.name_any())
}

impl OwnWrites {
    /// Notes that a Coupon, as it is here, is about to be replaced.
    pub fn begin(&self, coupon: &Coupon) {
        let mut all = self.lock();
        let replaced = all.entry(key(coupon)).or_default();
        replaced.versions.extend(coupon.resource_version());
        replaced.in_flight = replaced.in_flight.saturating_add(1);
    }

    /// It was. True if the watch has shown already that it is gone, or settled: whoever looked then did not know how.
    pub fn written(&self, coupon: &Coupon) -> bool {
        let mut all = self.lock();
        let Some(replaced) = all.get_mut(&key(coupon)) else { return true };
        replaced.in_flight = replaced.in_flight.saturating_sub(1);
        let gone = replaced.gone;
        if gone && replaced.in_flight == 0 {
            all.remove(&key(coupon));
        }
        gone
    }

    /// It was not, or nobody knows: it is planned again as it is. True if it may be gone by what another did.
    pub fn failed(&self, coupon: &Coupon) -> bool {
        let mut all = self.lock();
        let Some(replaced) = all.get_mut(&key(coupon)) else { return true };
        replaced.in_flight = replaced.in_flight.saturating_sub(1);
        replaced.versions.retain(|version| Some(version) != coupon.metadata.resource_version.as_ref());
        let gone = replaced.gone;
        if replaced.in_flight == 0 && (gone || replaced.versions.is_empty()) {
            all.remove(&key(coupon));
        }
        gone
    }

    /// True if this process replaces, or has replaced, a Coupon as it is here.
    #[must_use]
    pub fn replaced(&self, coupon: &Coupon) -> bool {
        let version = coupon.metadata.resource_version.as_ref();
        self.lock().get(&key(coupon)).is_some_and(|replaced| replaced.versions.iter().any(|v| Some(v) == version))
    }

    /// The watch shows a Coupon. After a later version none of those before it is expected.
    pub fn seen(&self, coupon: &Coupon) {
        if !self.replaced(coupon) {
            self.lock().remove(&key(coupon));
        }
    }

    /// The watch shows that a Coupon is gone, or settled. True if that is what this process wrote, or is writing.
    pub fn gone(&self, coupon: &Coupon) -> bool {
        let mut all = self.lock();
        let Some(replaced) = all.get_mut(&key(coupon)) else { return false };
        replaced.gone = true;
        if replaced.in_flight == 0 {
            all.remove(&key(coupon));
        }
        true
    }

    /// All were listed anew.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Replaced>> {
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
        for version in [&first, &second] {
            own.begin(version);
            assert!(!own.written(version));
        }
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
        assert!(!own.failed(&second));
        assert_eq!([&first, &second].map(|c| own.replaced(c)), [true, false]);
        assert!(!own.failed(&first));
        assert!(own.lock().is_empty());
    }

    #[test]
    fn who_took_a_coupon_out_of_the_watch_is_known() {
        let own = OwnWrites::default();
        assert!(!own.gone(&version("1")), "this process wrote nothing");
        own.begin(&version("1"));
        assert!(!own.written(&version("1")));
        assert!(own.gone(&version("2")), "the answer came before the watch");
        own.begin(&version("2"));
        assert!(own.gone(&version("3")), "it comes after it");
        assert!(own.written(&version("2")), "so whoever counted then is to count again");
        assert!(own.lock().is_empty());
        own.begin(&version("3"));
        assert!(own.gone(&version("4")));
        assert!(own.failed(&version("3")), "it was another, or the answer was lost");
        assert!(own.lock().is_empty());
        own.begin(&version("4"));
        own.clear();
        assert!(own.failed(&version("4")), "it may have gone while all were listed");
    }

    #[test]
    fn nothing_is_kept_of_what_is_listed_anew() {
        let own = OwnWrites::default();
        own.begin(&version("1"));
        own.clear();
        assert!(own.lock().is_empty());
    }
}
