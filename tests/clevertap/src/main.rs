//! The stand-in as a program.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Parser;
use clevertap_stand_in::{Config, Profile, StandIn};
use tokio::signal::unix::{SignalKind, signal};

/// A stand-in of CleverTap's API. Prints one line of JSON when it is ready.
#[derive(Parser)]
struct Options {
    /// Where the API listens, with TLS.
    #[arg(long, env = "STAND_IN_LISTEN", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where the outbox page listens.
    #[arg(long, env = "STAND_IN_OUTBOX", default_value = "127.0.0.1:0")]
    outbox: SocketAddr,
    #[arg(long, env = "STAND_IN_ACCOUNT_ID", default_value = "TEST-W8W-6WR-846Z")]
    account_id: String,
    #[arg(long, env = "STAND_IN_PASSCODE", default_value = "DEMO-PASS", hide_env_values = true)]
    passcode: String,
    /// A host of the account's region. May be given several times.
    #[arg(
        long,
        env = "STAND_IN_REGION_HOST",
        value_delimiter = ',',
        default_value = "eu1.api.clevertap.com,api.clevertap.com"
    )]
    region_host: Vec<String>,
    /// A customer, IDENTITY=NAME=EMAIL. May be given several times.
    #[arg(long, value_parser = profile)]
    profile: Vec<Profile>,
    /// A folder for ca.pem, the demo authority's certificate.
    #[arg(long, env = "STAND_IN_CA_DIR", default_value = ".")]
    ca_dir: PathBuf,
    /// What its clock shows at the start (RFC 3339).
    #[arg(long, env = "STAND_IN_CLOCK_START")]
    clock_start: Option<DateTime<Utc>>,
    /// How long every answer takes.
    #[arg(long, env = "STAND_IN_LATENCY_MS", default_value_t = 0)]
    latency_ms: u64,
}

fn profile(text: &str) -> Result<Profile, String> {
    let mut parts = text.splitn(3, '=').map(str::to_owned);
    let identity = parts.next().filter(|id| !id.is_empty()).ok_or("write IDENTITY=NAME=EMAIL")?;
    let (name, email) = (parts.next().unwrap_or_default(), parts.next().filter(|e| !e.is_empty()));
    Ok(Profile { identity, name, email, ..Profile::default() })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let options = Options::parse();
    let config = Config {
        account_id: options.account_id,
        passcode: options.passcode,
        region_hosts: options.region_host,
        profiles: options.profile,
        clock_start: options.clock_start,
        ..Config::default()
    };
    let stand_in = StandIn::start_on(config, options.listen, options.outbox).await?;
    stand_in.set_latency(Duration::from_millis(options.latency_ms));
    let ca = options.ca_dir.join("ca.pem");
    stand_in.write_ca(&ca)?;
    println!("{}", serde_json::json!({ "address": stand_in.address(), "outbox": stand_in.outbox_url(), "ca": ca }));
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(())
}
