//! `crds`: prints the CRDs, or writes them as files.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use coupon_operator::api::crds;

#[derive(Args)]
pub struct Options {
    /// Write one file for each kind into this folder instead of printing them.
    #[arg(long)]
    out: Option<PathBuf>,
}

impl Options {
    pub fn run(&self) -> Result<ExitCode, Box<dyn Error>> {
        for crd in crds::all() {
            let yaml = crds::to_yaml(&crd)?;
            match &self.out {
                Some(folder) => std::fs::write(folder.join(crds::file_name(&crd)), yaml)?,
                None => print!("---\n{yaml}"),
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
