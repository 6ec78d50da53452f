//! The client of the API server.

use std::error::Error;
use std::time::Duration;

use kube::client::ClientBuilder;
use tower::timeout::TimeoutLayer;

/// How long a connection to the API server may take to come about.
const CONNECT: Duration = Duration::from_secs(5);

/// How long the API server may take to begin an answer, also of a watch, whose events may take longer.
const ANSWER: Duration = Duration::from_secs(20);

/// A client of the cluster that the kubeconfig or the service account names.
pub async fn client() -> Result<kube::Client, Box<dyn Error>> {
    // kube and reqwest each would choose one; a second choice is not taken, and is the same.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut config = kube::Config::infer().await?;
    // Retries that nobody sees could repeat a create for minutes; each reconcile is retried instead.
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT);
    Ok(ClientBuilder::try_from(config)?.with_layer(&TimeoutLayer::new(ANSWER)).build())
}
