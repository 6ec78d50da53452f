//! The stand-in and the operator, as processes of their own: the same programs as in production.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use control_plane::{GuardedChild, Spawn};
use serde::Deserialize;
use tempfile::TempDir;

use crate::Result;

/// Both programs. Dropping them stops them.
pub struct Programs {
    operator: GuardedChild,
    _stand_in: GuardedChild,
    /// The address of the stand-in's outbox page.
    pub outbox: String,
    folder: TempDir,
}

#[derive(Deserialize)]
struct Ready {
    address: SocketAddr,
    outbox: String,
    ca: PathBuf,
}

impl Programs {
    pub fn start(kubeconfig: Option<PathBuf>, namespace: &str, rehearsed: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (stand_in, ready) = start_stand_in(folder.path(), rehearsed)?;
        let operator = Spawn::new(sibling("coupon-operator")?)
            .args([
                "run",
                "--leader-election",
                "false",
                "--namespace",
                namespace,
                "--clock-start",
                rehearsed,
                "--ca-bundle",
            ])
            .args([ready.ca.as_os_str()])
            .args(["--connect-to".to_owned(), format!("eu1.api.clevertap.com:443={}", ready.address)]);
        let operator = match kubeconfig {
            Some(path) => operator.env("KUBECONFIG", path),
            None => operator,
        };
        let operator = operator.log_to(&folder.path().join("operator.log"))?.start()?;
        Ok(Self { operator, _stand_in: stand_in, outbox: ready.outbox, folder })
    }

    pub fn operator_log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("operator.log")).unwrap_or_default()
    }

    /// Waits until the operator ends, which it does not by itself.
    pub async fn wait(&mut self) -> Result<()> {
        while self.operator.ended()?.is_none() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Err(format!("the operator ended. Its log:\n{}", self.operator_log()).into())
    }
}

fn start_stand_in(folder: &Path, rehearsed: &str) -> Result<(GuardedChild, Ready)> {
    let mut stand_in = Spawn::new(sibling("clevertap-stand-in")?)
        .args(["--clock-start", rehearsed, "--ca-dir"])
        .args([folder.as_os_str()])
        .args(["--profile", "customer-1=Ada=ada@example.com", "--profile", "customer-2=Grace=grace@example.com"])
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .start()?;
    let output = stand_in.take_stdout().ok_or("the stand-in has no output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    Ok((stand_in, serde_json::from_str(&line)?))
}

/// A program that was built beside this one.
fn sibling(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(format!("{} is not built: run `make demo`", path.display()).into())
}
