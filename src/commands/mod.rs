//! The subcommands.

mod api;
mod coupons;
mod crds;
mod export;
mod failures;
mod output;
mod preview;
mod resolve;
mod run;
mod status;
mod test_send;
mod validate;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Issues one coupon code per customer when a campaign's window opens, and delivers it.
#[derive(Parser)]
#[command(version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the operator.
    Run(run::Options),
    /// Print the CRDs.
    Crds(crds::Options),
    /// Check manifests, without a cluster or against one: one line for each thing that is wrong, and exit code 1 if there is any.
    Validate(validate::Options),
    /// Show what campaigns would do at some time, without a cluster.
    Preview(preview::Options),
    /// Send one request for one customer, and show the answer: as CleverTap's dry run, which stores nothing.
    TestSend(test_send::Options),
    /// Write out a campaign's codes: as Talon.One imports them, or as NDJSON.
    Export(export::Options),
    /// Show how far campaigns are: issued and delivered, how fast, how long it takes, and what goes wrong.
    Status(status::Options),
    /// List who did not get their code, and why.
    Failures(failures::Options),
    /// Decide on many Coupons at once whose records are held or failed.
    Resolve(resolve::Options),
}

impl Cli {
    pub async fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        match self.command {
            Command::Run(options) => options.run().await,
            Command::Crds(options) => options.run(),
            Command::Validate(options) => options.run().await,
            Command::Preview(options) => options.run(),
            Command::TestSend(options) => options.run().await,
            Command::Export(options) => options.run().await,
            Command::Status(options) => options.run().await,
            Command::Failures(options) => options.run().await,
            Command::Resolve(options) => options.run().await,
        }
    }
}
