//! What the API server does at best, by the clock: nothing that makes Coupons of it can be faster.

use std::time::Instant;

use coupon_operator::api::coupon::Coupon;
use futures::StreamExt;
use kube::ResourceExt;
use kube::api::PostParams;

use crate::world::World;

/// Coupons a second: a create and two writes of status each, of the same size as a sample, 32 at once.
pub async fn ceiling(sample: &Coupon, count: usize) -> f64 {
    let world = World::new().await;
    let api = world.api::<Coupon>();
    let begun = Instant::now();
    let written = futures::stream::iter(0..count).map(|i| {
        let api = api.clone();
        async move {
            let mut coupon = Coupon::new(&format!("{}-{i}", sample.name_any()), sample.spec.clone());
            coupon.metadata.resource_version = None;
            let mut coupon = api.create(&PostParams::default(), &coupon).await.unwrap();
            for _ in 0..2 {
                let mut status = sample.status.clone().unwrap();
                status.deliveries[0].attempts = i32::try_from(i).unwrap()
                    + coupon.status.as_ref().map_or(0, |s| i32::try_from(s.deliveries.len()).unwrap());
                coupon.status = Some(status);
                coupon = api.replace_status(&coupon.name_any(), &PostParams::default(), &coupon).await.unwrap();
            }
        }
    });
    written.buffer_unordered(32).collect::<Vec<()>>().await;
    count as f64 / begun.elapsed().as_secs_f64()
}
