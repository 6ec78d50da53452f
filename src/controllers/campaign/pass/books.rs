//! What was issued, read from the API: never from a cache, since it decides who gets another code.

use kube::Api;
use kube::api::ListParams;
use kube::core::DeserializeGuard;

use super::Pass;
use crate::api::coupon::Coupon;
use crate::controllers::error::{Error, bounded};
use crate::issuing::counts::Counts;
use crate::issuing::ledger::{Ledger, Tally};
use crate::records::Records;
use crate::rules::budget::Allowance;

/// The most and the fewest Coupons of a page, and how many records are wanted in one: a Coupon holds one or a thousand,
/// and takes up to a megabyte.
const PAGE: std::ops::RangeInclusive<u32> = 10..=500;
const RECORDS_A_PAGE: u32 = 20_000;

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
        let reading = self.counts(Counts::begin);
        let look = |coupon: &Coupon| {
            self.counts(|counts| counts.read(coupon, reading));
            if let Some(issued_at) = coupon.spec.issued_at {
                (0..Records::of(&coupon.spec).count()).for_each(|_| allowance.note(issued_at));
            }
            if coupon.spec.rule.as_deref() == Some(rule) {
                ledger.add(coupon);
            }
        };
        let as_of = self.each_coupon(ListParams::default().fields(&selector), look).await?;
        self.counts(|counts| counts.end(rule, reading, as_of.as_deref()));
        Ok(Books { ledger, allowance })
    }

    /// How the Coupons of an occurrence stand: by what is known of each, or, if not all were read yet, by the books.
    pub async fn tally(&self, rule: &str, key: &str) -> Result<Tally, Error> {
        if let Some(tally) = self.counts(|counts| counts.tally(rule, key, self.campaign_uid())) {
            return Ok(tally);
        }
        Ok(self.books(rule).await?.ledger.tally(key, self.campaign_uid()))
    }

    fn counts<T>(&self, look: impl FnOnce(&mut Counts) -> T) -> T {
        self.context.counts.with(&self.fetched.namespace, &self.fetched.name, look)
    }

    /// The version of the list.
    pub(super) async fn each_coupon(
        &self,
        mut params: ListParams,
        mut look: impl FnMut(&Coupon),
    ) -> Result<Option<String>, Error> {
        params = params.limit(*PAGE.start());
        loop {
            let page = bounded(self.coupons().list(&params)).await?;
            let coupons = || page.items.iter().filter_map(|coupon| coupon.0.as_ref().ok());
            coupons().for_each(&mut look);
            let records = coupons().map(|coupon| Records::of(&coupon.spec).count()).fold(0, u32::saturating_add);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => {
                    params = params.limit(next_page(page.items.len(), records)).continue_token(&token);
                }
                None => return Ok(page.metadata.resource_version),
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

/// How many Coupons the next page has, after one of so many that held so many records.
fn next_page(coupons: usize, records: u32) -> u32 {
    let coupons = u32::try_from(coupons).unwrap_or(u32::MAX);
    let wanted = RECORDS_A_PAGE.saturating_mul(coupons).checked_div(records).unwrap_or(*PAGE.end());
    wanted.clamp(*PAGE.start(), *PAGE.end())
}

#[cfg(test)]
mod tests {
    use super::next_page;

    #[test]
    fn a_page_holds_so_many_records_whatever_the_shape() {
        assert_eq!([next_page(10, 10), next_page(10, 10_000), next_page(500, 500)], [500, 20, 500]);
        assert_eq!([next_page(20, 20_000), next_page(500, 500_000), next_page(10, 1000)], [20, 20, 200]);
        assert_eq!([next_page(0, 0), next_page(10, u32::MAX)], [500, 10]);
    }
}
