//! `validate`: checks manifests without a cluster.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use coupon_operator::manifests::{Finding, Manifests, Severity};

#[derive(Args)]
pub struct Options {
    /// A file with manifests. May be given several times; what they name in each other is found.
    #[arg(short, long = "file", required = true)]
    file: Vec<PathBuf>,
}

impl Options {
    #[allow(clippy::unnecessary_wraps)] // the subcommands have one shape
    pub fn run(&self) -> Result<ExitCode, Box<dyn Error>> {
        let mut manifests = Manifests::default();
        self.file.iter().for_each(|file| manifests.read(file));
        let findings = manifests.check();
        findings.iter().for_each(print);
        let errors = findings.iter().filter(|f| f.severity == Severity::Error).count();
        Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn print(finding: &Finding) {
    let severity = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let place = [finding.file.as_str(), finding.object.as_str()];
    let place = place.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ");
    println!("{place}: {severity}: {}", finding.message);
}
