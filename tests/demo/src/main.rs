//! The demo: the scenario end to end, on a real API server, with the real operator and a stand-in of
//! CleverTap.

mod cluster;
mod programs;
mod show;

use std::error::Error;
use std::future::Future;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use cluster::{Cluster, Namespace};
use programs::Programs;

pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The instant that is rehearsed: nine in the morning of 1 January 2023 in Berlin.
const REHEARSED: &str = "2023-01-01T09:00:00+01:00";
const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/clevertap-new-year.yaml");
const CAMPAIGN: &str = "new-year";
const LONGEST: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> ExitCode {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match demo().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whatever ends it, what it started is stopped, and what it made is removed.
async fn demo() -> Result<()> {
    let begun = Instant::now();
    let say = |what: &str| println!("\n== {what} ({:.1} s)", begun.elapsed().as_secs_f32());
    let mut stop = std::pin::pin!(asked_to_stop());
    say("Starting a Kubernetes API server");
    let cluster = tokio::select! {
        cluster = prepare() => cluster?,
        () = &mut stop => return Err("stopped".into()),
    };
    let namespace = Namespace::create(&cluster).await?;
    let result = tokio::select! {
        programs = scenario(&cluster, &namespace, &say) => programs,
        () = &mut stop => Err("stopped".into()),
    };
    let result = match result {
        Ok(programs) if keep() => stay_up(programs, &cluster, &namespace, &say, stop).await,
        other => other.map(drop),
    };
    namespace.remove().await?;
    result?;
    say("Done: each customer got one code, CleverTap took it, and the record says so");
    Ok(())
}

fn keep() -> bool {
    std::env::var_os("KEEP").is_some_and(|keep| keep != "0" && !keep.is_empty())
}

/// Resolves on Ctrl-C, or when the process is asked to end.
async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

async fn prepare() -> Result<Cluster> {
    let cluster = Cluster::start().await?;
    cluster.install_crds().await?;
    Ok(cluster)
}

async fn scenario(cluster: &Cluster, namespace: &Namespace, say: &impl Fn(&str)) -> Result<Programs> {
    say("Starting a stand-in of CleverTap, and the operator, whose clock shows 1 January 2023");
    let programs = Programs::start(cluster.kubeconfig(), namespace.name(), REHEARSED)?;
    say("Applying examples/clevertap-new-year.yaml");
    cluster.apply(MANIFESTS, namespace.name()).await?;
    say("Waiting until the Campaign is Delivered");
    if let Err(error) = cluster.wait_until_delivered(namespace.name(), CAMPAIGN, LONGEST).await {
        return Err(format!("{error}\nThe operator's log:\n{}", programs.operator_log()).into());
    }
    say("What Kubernetes shows");
    show::objects(cluster, namespace.name()).await?;
    say("What CleverTap got");
    show::requests(&programs.outbox).await?;
    say("The emails that CleverTap's live-behaviour campaign would send");
    let sent = show::emails(&programs.outbox).await?;
    if sent != 2 {
        return Err(format!("two emails were expected, and {sent} would be sent").into());
    }
    Ok(programs)
}

async fn stay_up(
    mut programs: Programs,
    cluster: &Cluster,
    namespace: &Namespace,
    say: &impl Fn(&str),
    stop: impl Future<Output = ()>,
) -> Result<()> {
    say("Staying up until Ctrl-C");
    println!("  kubectl: export KUBECONFIG={}", cluster.kubeconfig_hint());
    println!("  objects: kubectl get webhooks,campaigns,coupons --namespace {}", namespace.name());
    println!("  outbox:  {}", programs.outbox);
    tokio::select! {
        ended = programs.wait() => ended,
        () = stop => Ok(()),
    }
}
