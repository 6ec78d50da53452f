//! What was issued, read from the API: never from a cache, since it decides who gets another code.

use kube::Api;
use kube::api::ListParams;
use kube::core::DeserializeGuard;

use super::Pass;
use crate::api::coupon::Coupon;
use crate::controllers::error::{Error, bounded};
use crate::issuing::ledger::Ledger;
use crate::records::Records;
use crate::rules::budget::Allowance;

const PAGE: u32 = 500;

/// The ledger of a rule, and what is left of the campaign's budgets.
pub struct Books {
    pub ledger: Ledger,
    pub allowance: Allowance,
}

impl Pass<'_> {
    /// The books of a rule, selected by fields of the Coupons' immutable spec. With budgets the whole
    /// campaign counts.
    pub async fn books(&self, rule: &str) -> Result<Books, Error> {
        let fetched = self.fetched;
        let mut allowance = Allowance::at(&fetched.campaign.spec.budgets, fetched.zone(), fetched.now);
        let campaign = format!("spec.campaign={}", fetched.name);
        let selector = if allowance.is_unlimited() { format!("{campaign},spec.rule={rule}") } else { campaign };
        let mut ledger = Ledger::default();
        let look = |coupon: &Coupon| {
            if let Some(issued_at) = coupon.spec.issued_at {
                (0..Records::of(&coupon.spec).count()).for_each(|_| allowance.note(issued_at));
            }
            if coupon.spec.rule.as_deref() == Some(rule) {
                ledger.add(coupon);
            }
        };
        self.each_coupon(ListParams::default().fields(&selector), look).await?;
        Ok(Books { ledger, allowance })
    }

    pub(super) async fn each_coupon(&self, mut params: ListParams, mut look: impl FnMut(&Coupon)) -> Result<(), Error> {
        params = params.limit(PAGE);
        loop {
            let page = bounded(self.coupons().list(&params)).await?;
            page.items.iter().filter_map(|coupon| coupon.0.as_ref().ok()).for_each(&mut look);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(()),
            }
        }
    }

    /// How many Coupons the namespace holds: the API server counts what a list leaves out.
    pub(super) async fn count_coupons(&self) -> Result<u64, Error> {
        let page = bounded(self.coupons().list(&ListParams::default().limit(1))).await?;
        let rest = page.metadata.remaining_item_count.and_then(|n| u64::try_from(n).ok()).unwrap_or_default();
        Ok(rest.saturating_add(page.items.len() as u64))
    }

    fn coupons(&self) -> Api<DeserializeGuard<Coupon>> {
        Api::namespaced(self.context.client.clone(), &self.fetched.namespace)
    }
}
