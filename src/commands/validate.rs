//! `validate`: checks manifests, without a cluster or against one.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use coupon_operator::clock::Clock;
use coupon_operator::manifests::cluster::Cluster;
use coupon_operator::manifests::{Manifests, Severity};

use super::api::client;
use super::output::line;

#[derive(Args)]
pub struct Options {
    /// A file with manifests, YAML or JSON; - is standard input. May be given several times; what they name in each other is found.
    #[arg(short, long = "file", required = true)]
    file: Vec<PathBuf>,

    /// Also ask the cluster of your kubeconfig: whether its API server takes them, whether the Secrets and Webhooks that they name exist, and whether a rename or a move would give customers a second code. Nothing is written.
    #[arg(long)]
    against_cluster: bool,

    /// The namespace of objects that name none; that of your kubeconfig if absent.
    #[arg(short, long, requires = "against_cluster")]
    namespace: Option<String>,
}

impl Options {
    pub async fn run(&self) -> Result<ExitCode, Box<dyn Error>> {
        let mut manifests = Manifests::default();
        self.file.iter().for_each(|file| manifests.read(file));
        let mut findings = Vec::new();
        if self.against_cluster {
            let cluster = self.cluster().await?;
            cluster.complete(&mut manifests).await?;
            findings = cluster.check(&manifests, Clock::real().now()).await?;
        }
        findings.splice(0..0, manifests.check());
        if !manifests.any() && findings.is_empty() {
            println!("error: there is no Webhook, Campaign or Coupon in these files");
            return Ok(ExitCode::FAILURE);
        }
        for finding in &findings {
            println!("{}", line(finding));
        }
        let errors = findings.iter().filter(|f| f.severity == Severity::Error).count();
        Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    async fn cluster(&self) -> Result<Cluster, Box<dyn Error>> {
        let client = client().await?;
        let namespace = self.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        Ok(Cluster { client, namespace })
    }
}
