//! The Coupons of a campaign, page by page, so that a million codes take no more room than a few.

use std::error::Error;
use std::io::{IsTerminal, Write};

use clap::Args;
use coupon_operator::api::campaign::Campaign;
use coupon_operator::api::coupon::Coupon;
use kube::Api;
use kube::api::ListParams;

use super::api::client;

/// A Coupon may hold a thousand records.
const PAGE: u32 = 20;

/// Which Coupons are meant.
#[derive(Args)]
pub struct Selection {
    /// The Campaign whose Coupons are meant.
    campaign: String,

    /// Only those of this rule.
    #[arg(long)]
    rule: Option<String>,

    /// Only those of this occurrence, by its key.
    #[arg(long)]
    occurrence: Option<String>,

    /// The namespace; that of your kubeconfig if absent.
    #[arg(short, long)]
    namespace: Option<String>,
}

impl Selection {
    /// Shows each Coupon, those alone that a further selector selects. On a terminal it says how far it is.
    ///
    /// # Errors
    /// Those of the API server and of `look`; and if there are none, since no such Campaign exists.
    pub async fn each(
        &self,
        further: &str,
        mut look: impl FnMut(&Coupon) -> std::io::Result<()>,
    ) -> Result<(), Box<dyn Error>> {
        let client = client().await?;
        let namespace = self.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        let api: Api<Coupon> = Api::namespaced(client.clone(), &namespace);
        let mut seen = 0_usize;
        let counted = |coupon: &Coupon| {
            look(coupon)?;
            seen = seen.saturating_add(1);
            progress(seen)
        };
        each(&api, &self.selector(further), counted).await?;
        if seen == 0 && Api::<Campaign>::namespaced(client, &namespace).get_opt(&self.campaign).await?.is_none() {
            return Err(format!("namespace {namespace} has no Campaign {}, and no Coupon of one", self.campaign).into());
        }
        if seen > 0 && is_watched() {
            eprintln!("\r{seen} Coupons");
        }
        Ok(())
    }

    fn selector(&self, further: &str) -> String {
        let mut selector = format!("spec.campaign={}", self.campaign);
        for (field, value) in [("spec.rule", &self.rule), ("spec.occurrence", &self.occurrence)] {
            if let Some(value) = value {
                selector = format!("{selector},{field}={value}");
            }
        }
        if further.is_empty() { selector } else { format!("{selector},{further}") }
    }
}

/// Shows each Coupon that a selector selects.
///
/// # Errors
/// Those of the API server and of `look`.
pub async fn each(
    api: &Api<Coupon>,
    selector: &str,
    mut look: impl FnMut(&Coupon) -> std::io::Result<()>,
) -> Result<(), Box<dyn Error>> {
    let mut params = ListParams::default().fields(selector).limit(PAGE);
    loop {
        let page = api.list(&params).await?;
        for coupon in &page.items {
            look(coupon)?;
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(()),
        }
    }
}

/// Beside what is written into a file, not in the midst of what is shown.
fn is_watched() -> bool {
    std::io::stderr().is_terminal() && !std::io::stdout().is_terminal()
}

/// So often that it is seen to move.
fn progress(coupons: usize) -> std::io::Result<()> {
    if coupons.is_multiple_of(100) && is_watched() {
        eprint!("\r{coupons} Coupons");
        std::io::stderr().flush()?;
    }
    Ok(())
}
