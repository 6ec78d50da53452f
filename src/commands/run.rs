//! `run`: the operator.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::{ArgAction, Args, ValueEnum};
use coupon_operator::clock::Clock;
use coupon_operator::controllers::context::Settings;
use coupon_operator::controllers::leadership::{Leadership, Timings};
use coupon_operator::controllers::run::Operator;
use coupon_operator::delivery::client::{ClientOptions, ConnectTo, GuardedClient};
use tracing_subscriber::EnvFilter;

use super::api::client;

#[derive(Args)]
pub struct Options {
    /// Rehearse: set the clock to this instant (RFC 3339) and let it go on from there. The operator then works only in namespaces labelled coupon-operator.dev/rehearsal=true, and dials only what --connect-to names.
    #[arg(long, env = "COUPON_OPERATOR_CLOCK_START")]
    clock_start: Option<DateTime<Utc>>,

    #[command(flatten)]
    hosts: Hosts,

    /// Watch and work in this namespace only.
    #[arg(long, env = "COUPON_OPERATOR_NAMESPACE")]
    namespace: Option<String>,

    /// How often a Secret that is missing, or whose credentials were refused, is looked at again.
    #[arg(long, env = "COUPON_OPERATOR_SECRET_POLL_SECONDS", default_value = "30", value_parser = clap::value_parser!(u64).range(1..=3600))]
    secret_poll_seconds: u64,

    /// How often the audience of an open window is looked at again.
    #[arg(long, env = "COUPON_OPERATOR_AUDIENCE_POLL_SECONDS", default_value = "300", value_parser = clap::value_parser!(u64).range(1..=86400))]
    audience_poll_seconds: u64,

    #[command(flatten)]
    replicas: Replicas,

    /// How logs are written.
    #[arg(long, env = "COUPON_OPERATOR_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,

    /// Which logs are written, such as info or `coupon_operator=debug`.
    #[arg(long, env = "COUPON_OPERATOR_LOG", default_value = "info")]
    log: String,
}

/// How the hosts of webhooks are reached.
#[derive(Args)]
pub(super) struct Hosts {
    /// Where connections to a host really go, HOST:PORT=ADDRESS:PORT. May be given several times.
    #[arg(long, env = "COUPON_OPERATOR_CONNECT_TO", value_delimiter = ',')]
    connect_to: Vec<ConnectTo>,

    /// PEM certificates that webhooks' hosts are checked with, instead of the system's.
    #[arg(long, env = "COUPON_OPERATOR_CA_BUNDLE")]
    ca_bundle: Option<PathBuf>,
}

impl Hosts {
    pub(super) fn client_options(&self, only_connect_to: bool) -> Result<ClientOptions, Box<dyn Error>> {
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|e| format!("--ca-bundle: {} cannot be read: {e}", path.display()))
        };
        Ok(ClientOptions {
            connect_to: self.connect_to.clone(),
            only_connect_to,
            ca_bundle: self.ca_bundle.as_ref().map(read).transpose()?,
        })
    }
}

/// How one of several replicas is chosen to work, by a Lease (coordination.k8s.io/v1).
#[derive(Args)]
#[command(next_help_heading = "Leader election")]
struct Replicas {
    /// Work only while holding a Lease, so that one of several replicas works. Switch it off where exactly one operator runs, such as on a developer's machine.
    #[arg(long, env = "COUPON_OPERATOR_LEADER_ELECTION", default_value_t = true, action = ArgAction::Set)]
    leader_election: bool,

    /// The namespace of the Lease. By default the pod's, or that of the kubeconfig's context.
    #[arg(long, env = "COUPON_OPERATOR_LEASE_NAMESPACE")]
    lease_namespace: Option<String>,

    /// Another replica works when the Lease was not renewed for so long.
    #[arg(long, env = "COUPON_OPERATOR_LEASE_DURATION_SECONDS", default_value = "15", value_parser = clap::value_parser!(u64).range(1..=3600))]
    lease_duration_seconds: u64,

    /// A replica that could not renew its Lease for so long stops. Less than the Lease's duration.
    #[arg(long, env = "COUPON_OPERATOR_LEASE_RENEW_DEADLINE_SECONDS", default_value = "10", value_parser = clap::value_parser!(u64).range(1..=3600))]
    lease_renew_deadline_seconds: u64,

    /// How often the Lease is renewed, and looked at by the other replicas. Less than the renew deadline.
    #[arg(long, env = "COUPON_OPERATOR_LEASE_RETRY_PERIOD_SECONDS", default_value = "2", value_parser = clap::value_parser!(u64).range(1..=3600))]
    lease_retry_period_seconds: u64,
}

impl Replicas {
    fn leadership(&self) -> Result<Option<Leadership>, Box<dyn Error>> {
        if !self.leader_election {
            return Ok(None);
        }
        let timings = Timings::new(
            Duration::from_secs(self.lease_duration_seconds),
            Duration::from_secs(self.lease_renew_deadline_seconds),
            Duration::from_secs(self.lease_retry_period_seconds),
        )?;
        Ok(Some(Leadership { namespace: self.lease_namespace.clone(), timings }))
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

impl Options {
    pub async fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        self.log_to_standard_error()?;
        let clock = self.clock_start.map_or_else(Clock::real, Clock::set_to);
        let operator = Operator {
            client: client().await?,
            http: GuardedClient::new(&self.hosts.client_options(clock.is_set())?, clock.clone())?,
            clock,
            namespace: self.namespace.clone(),
            leadership: self.replicas.leadership()?,
            settings: Settings {
                secret_poll: Duration::from_secs(self.secret_poll_seconds),
                audience_poll: Duration::from_secs(self.audience_poll_seconds),
                ..Settings::default()
            },
        };
        operator.run(signal()).await?;
        Ok(ExitCode::SUCCESS)
    }

    fn log_to_standard_error(&self) -> Result<(), Box<dyn Error>> {
        let filter = EnvFilter::try_new(&self.log).map_err(|e| format!("--log: {e}"))?;
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        match self.log_format {
            LogFormat::Text => builder.with_ansi(false).init(),
            LogFormat::Json => builder.json().flatten_event(true).init(),
        }
        Ok(())
    }
}

/// Resolves when the process is asked to stop.
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
