//! Writes Coupons. Their names say what they record, so that the API server refuses a second one.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::stream::{self, StreamExt};
use kube::Api;
use kube::core::ObjectMeta;

use super::Pass;
use crate::api::campaign::OccurrenceStatus;
use crate::api::coupon::{Coupon, CouponSpec};
use crate::controllers::error::{Error, bounded};
use crate::controllers::writes;
use crate::issuing::chunks::Queue;
use crate::issuing::ledger::Ledger;
use crate::issuing::names::{Grant, Recipients, coupon_name};

/// Creates in flight: names make them safe side by side.
const CREATES_AT_ONCE: usize = 8;

/// A Coupon that is there.
enum Written {
    New(Coupon),
    There(Coupon),
}

/// A Coupon that could not be written.
pub(super) enum CreateError {
    Api(Error),
    NameConflict(String),
}

/// What came of writing Coupons.
#[derive(Default)]
pub(super) struct Created {
    /// Those that are there.
    pub coupons: Vec<Coupon>,
    pub failed: Option<CreateError>,
    /// False if the Campaign changed before all were written.
    pub whole: bool,
}

impl Pass<'_> {
    /// Writes Coupons of one record until all are there, one fails, or the Campaign is suspended.
    pub(super) async fn create_singles(&self, drafts: Vec<CouponSpec>) -> Created {
        let stop = AtomicBool::new(false);
        let begun = drafts.len();
        let goes_on = |_: &CouponSpec| std::future::ready(!stop.load(Ordering::Relaxed) && self.goes_on());
        let mut results =
            stream::iter(drafts).take_while(goes_on).map(|draft| self.create(draft)).buffered(CREATES_AT_ONCE);
        let mut created = Created::default();
        while let Some(result) = results.next().await {
            match result {
                Ok(Written::New(coupon) | Written::There(coupon)) => created.coupons.push(coupon),
                // Those already on their way are let finish, so that they are counted.
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    created.failed = created.failed.or(Some(error));
                }
            }
        }
        drop(results);
        created.whole = created.coupons.len() == begun;
        created
    }

    /// Writes Coupons of many records, one after the other: each chunk only after those before it are there
    /// and were read, so that nobody is in two. What does not fill a chunk waits, unless these are the last.
    pub(super) async fn create_chunks(
        &self,
        queue: &mut Queue,
        occurrence: &OccurrenceStatus,
        ledger: &Ledger,
        last: bool,
    ) -> Created {
        let size = occurrence.batch_size.and_then(|size| usize::try_from(size).ok()).unwrap_or(1);
        let mut number = ledger.next_chunk(&occurrence.key);
        let mut created = Created { whole: true, ..Created::default() };
        while queue.len() >= size || (last && !queue.is_empty()) {
            if !self.goes_on() {
                created.whole = false;
                break;
            }
            let Some(chunk) = queue.take(size, number) else { break };
            match self.create(chunk.spec.clone()).await {
                Ok(Written::New(coupon)) => created.coupons.push(coupon),
                Ok(Written::There(coupon)) => {
                    queue.put_back(chunk, &coupon.spec);
                    created.coupons.push(coupon);
                }
                Err(error) => {
                    created.failed = Some(error);
                    break;
                }
            }
            number = number.saturating_add(1);
        }
        created
    }

    /// Writes one Coupon. If one of that name is there, it must record the same grant.
    async fn create(&self, spec: CouponSpec) -> Result<Written, CreateError> {
        let name = coupon_name(grant(&spec));
        let api: Api<Coupon> = Api::namespaced(self.context.client.clone(), &self.fetched.namespace);
        let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
        let coupon = Coupon { metadata, spec, status: None };
        match writes::create(&self.context.client, &api, &coupon).await {
            Ok(created) => Ok(Written::New(Coupon { metadata: created.metadata, ..coupon })),
            Err(error) if error.is_conflict() => {
                let there = bounded(api.get(&name)).await.map_err(CreateError::Api)?;
                if grant(&there.spec) == grant(&coupon.spec) {
                    return Ok(Written::There(there));
                }
                Err(CreateError::NameConflict(format!(
                    "Coupon {name} exists and records something else, so {} gets no code: delete or rename that Coupon",
                    coupon.spec.recipient.as_deref().unwrap_or("its chunk of recipients")
                )))
            }
            Err(error) => Err(CreateError::Api(error)),
        }
    }
}

fn grant(spec: &CouponSpec) -> Grant<'_> {
    Grant {
        campaign: spec.campaign.as_deref().unwrap_or_default(),
        rule: spec.rule.as_deref().unwrap_or_default(),
        occurrence: spec.occurrence.as_deref().unwrap_or_default(),
        to: match spec.chunk {
            Some(number) => Recipients::Chunk(number),
            None => Recipients::One(spec.recipient.as_deref().unwrap_or_default()),
        },
    }
}
