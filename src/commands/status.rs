//! `status`: how far campaigns are, once or as they go.

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use coupon_operator::api::campaign::Campaign;
use coupon_operator::api::coupon::Coupon;
use coupon_operator::clock::Clock;
use coupon_operator::reports::progress::{Progress, Troubles};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::api::client;
use super::coupons::each;
use super::output::unless_closed_by_reader;

/// Between looks at Campaigns, and between looks at Coupons, of which there may be many.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_AT_COUPONS: Duration = Duration::from_secs(10);

#[derive(Args)]
pub struct Options {
    /// The Campaign; all of the namespace if absent.
    campaign: Option<String>,

    /// Goes on until it is interrupted: on a terminal in place, else whenever something changed.
    #[arg(short, long)]
    watch: bool,

    /// The namespace; that of your kubeconfig if absent.
    #[arg(short, long)]
    namespace: Option<String>,
}

impl Options {
    pub async fn run(&self) -> Result<ExitCode, Box<dyn Error>> {
        let client = client().await?;
        let namespace = self.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        unless_closed_by_reader(self.show(&client, &namespace).await)?;
        Ok(ExitCode::SUCCESS)
    }

    async fn show(&self, client: &Client, namespace: &str) -> Result<(), Box<dyn Error>> {
        let begun = Instant::now();
        let mut progress = Progress::default();
        let (mut troubles, mut looked) = (Vec::new(), None::<Instant>);
        let mut shown = Vec::new();
        loop {
            let campaigns = match self.campaigns(client, namespace).await {
                Err(error) if self.watch && looked.is_some() => {
                    // What is watched may be out of reach for a while.
                    eprintln!("error: {error}");
                    tokio::time::sleep(LOOK).await;
                    continue;
                }
                campaigns => campaigns?,
            };
            if looked.is_none_or(|looked| looked.elapsed() >= LOOK_AT_COUPONS) {
                match of_each(&campaigns, client, namespace).await {
                    Err(error) if self.watch && looked.is_some() => eprintln!("error: {error}"),
                    found => troubles = found?,
                }
                looked = Some(Instant::now());
            }
            let none = Troubles::default();
            let of = |campaign: &Campaign| {
                let name = campaign.name_any();
                troubles.iter().find(|(of, _)| *of == name).map_or(&none, |(_, troubles)| troubles)
            };
            let (at, now) = (begun.elapsed(), Clock::real().now());
            let lines: Vec<String> = campaigns.iter().flat_map(|c| progress.lines(c, of(c), at, now)).collect();
            if lines != shown {
                write(&lines, self.watch)?;
                shown = lines;
            }
            if !self.watch {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn campaigns(&self, client: &Client, namespace: &str) -> Result<Vec<Campaign>, Box<dyn Error>> {
        let api: Api<Campaign> = Api::namespaced(client.clone(), namespace);
        let Some(name) = &self.campaign else { return Ok(api.list(&ListParams::default()).await?.items) };
        let found = api.get_opt(name).await?;
        let campaign = found.ok_or_else(|| format!("namespace {namespace} has no Campaign {name}"))?;
        Ok(vec![campaign])
    }
}

async fn of_each(
    campaigns: &[Campaign],
    client: &Client,
    namespace: &str,
) -> Result<Vec<(String, Troubles)>, Box<dyn Error>> {
    let api: Api<Coupon> = Api::namespaced(client.clone(), namespace);
    let mut all = Vec::new();
    for campaign in campaigns.iter().map(ResourceExt::name_any) {
        let mut troubles = Troubles::default();
        let note = |coupon: &Coupon| {
            troubles.note(coupon);
            Ok(())
        };
        each(&api, &format!("spec.campaign={campaign},status.state!=Delivered"), note).await?;
        all.push((campaign, troubles));
    }
    Ok(all)
}

fn write(lines: &[String], watch: bool) -> io::Result<()> {
    let mut out = io::stdout();
    if watch && out.is_terminal() {
        // Clears the screen, and goes to its beginning.
        write!(out, "\x1b[2J\x1b[H")?;
    }
    writeln!(out, "{}", lines.join("\n"))?;
    out.flush()
}
