//! Boots etcd and kube-apiserver.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::certificates::Certificates;
use crate::guarded::{GuardedChild, Spawn};
use crate::{Binaries, Error, find};

const READY_WITHIN: Duration = Duration::from_secs(60);
const BETWEEN_LOOKS: Duration = Duration::from_millis(25);
const TOKEN: &str = "control-plane-administrator";

/// A running API server with an etcd of its own. Dropping it stops both and removes their data.
pub struct ControlPlane {
    // Stopped in this order: the API server, its etcd, then the data goes.
    _api_server: GuardedChild,
    _etcd: GuardedChild,
    folder: TempDir,
    url: String,
    ca: String,
}

/// The control plane that the tests of one process share. It ends with the process.
///
/// # Panics
/// If it cannot be started: no test could say anything then.
pub async fn shared() -> &'static ControlPlane {
    static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async {
            ControlPlane::start().await.unwrap_or_else(|error| panic!("no control plane: {error}"))
        })
        .await
}

impl ControlPlane {
    /// Finds the programs, and starts them on free ports with data of their own.
    ///
    /// # Errors
    /// If the programs cannot be had, or do not become ready.
    pub async fn start() -> Result<Self, Error> {
        let binaries = tokio::task::spawn_blocking(find::ensure).await.map_err(std::io::Error::other)??;
        // Another process may take a port between its choice and its use.
        let mut tries = 3;
        loop {
            tries -= 1;
            match Self::boot(&binaries).await {
                Err(Error::NotReady { log, .. }) if tries > 0 && log.contains("address already in use") => {}
                result => return result,
            }
        }
    }

    async fn boot(binaries: &Binaries) -> Result<Self, Error> {
        let folder = tempfile::Builder::new().prefix("control-plane-").tempdir()?;
        let certificates = Certificates::new()?;
        let path = folder.path();
        write_files(path, &certificates)?;
        let [client_port, peer_port, port] = free_ports()?;
        let (etcd_log, server_log) = (path.join("etcd.log"), path.join("kube-apiserver.log"));
        let etcd = Spawn::new(&binaries.etcd).args(etcd_arguments(path, client_port, peer_port));
        let mut etcd = etcd.log_to(&etcd_log)?.remove_afterwards(path).start()?;
        let server = Spawn::new(&binaries.kube_apiserver).args(server_arguments(path, client_port, port));
        let mut api_server = server.log_to(&server_log)?.start()?;
        let url = format!("https://127.0.0.1:{port}");
        fs::write(path.join("kubeconfig"), kubeconfig(&url, path))?;
        wait_until_ready(&url, &certificates.ca, [(&mut etcd, &etcd_log), (&mut api_server, &server_log)]).await?;
        Ok(Self { _api_server: api_server, _etcd: etcd, folder, url, ca: certificates.ca })
    }

    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The certificate of its authority, in PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca
    }

    /// The bearer token of an administrator.
    #[must_use]
    pub fn token(&self) -> &'static str {
        TOKEN
    }

    #[must_use]
    pub fn kubeconfig_path(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// Its folder, which goes with it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

fn write_files(folder: &Path, certificates: &Certificates) -> Result<(), Error> {
    let tokens = format!("{TOKEN},administrator,administrator,system:masters\n");
    for (name, content) in [
        ("ca.pem", &certificates.ca),
        ("server.pem", &certificates.server),
        ("server.key", &certificates.server_key),
        ("service-account.key", &certificates.service_account_key),
        ("service-account.pub", &certificates.service_account_public_key),
        ("tokens.csv", &tokens),
    ] {
        fs::write(folder.join(name), content)?;
    }
    Ok(())
}

fn free_ports<const N: usize>() -> Result<[u16; N], Error> {
    let listeners: Vec<TcpListener> = (0..N).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

fn etcd_arguments(folder: &Path, client_port: u16, peer_port: u16) -> Vec<String> {
    let (client, peer) = (format!("http://127.0.0.1:{client_port}"), format!("http://127.0.0.1:{peer_port}"));
    vec![
        format!("--data-dir={}", folder.join("etcd").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        "--unsafe-no-fsync".to_owned(),
        "--log-level=error".to_owned(),
    ]
}

fn server_arguments(folder: &Path, etcd_port: u16, port: u16) -> Vec<String> {
    let file = |name: &str| folder.join(name).display().to_string();
    vec![
        format!("--etcd-servers=http://127.0.0.1:{etcd_port}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        format!("--tls-cert-file={}", file("server.pem")),
        format!("--tls-private-key-file={}", file("server.key")),
        format!("--token-auth-file={}", file("tokens.csv")),
        format!("--service-account-key-file={}", file("service-account.pub")),
        format!("--service-account-signing-key-file={}", file("service-account.key")),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        "--authorization-mode=RBAC".to_owned(),
        // No controller makes the service accounts that it would wait for.
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
        format!("--cert-dir={}", file("unused")),
    ]
}

fn kubeconfig(url: &str, folder: &Path) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: default\nclusters:\n- name: default\n  cluster:\n    server: {url}\n    certificate-authority: {}\ncontexts:\n- name: default\n  context: {{cluster: default, user: administrator, namespace: default}}\nusers:\n- name: administrator\n  user: {{token: {TOKEN}}}\n",
        folder.join("ca.pem").display()
    )
}

async fn wait_until_ready(url: &str, ca: &str, mut processes: [(&mut GuardedChild, &PathBuf); 2]) -> Result<(), Error> {
    let authority = reqwest::Certificate::from_pem(ca.as_bytes())?;
    let client =
        reqwest::Client::builder().tls_certs_only([authority]).no_proxy().timeout(Duration::from_secs(2)).build()?;
    let until = Instant::now() + READY_WITHIN;
    while Instant::now() < until {
        let answer = client.get(format!("{url}/readyz")).bearer_auth(TOKEN).send().await;
        // The namespace comes a moment after readiness, and tests would trip over its absence.
        if answer.is_ok_and(|a| a.status().is_success()) {
            let namespace = client.get(format!("{url}/api/v1/namespaces/default")).bearer_auth(TOKEN).send().await;
            if namespace.is_ok_and(|a| a.status().is_success()) {
                return Ok(());
            }
        }
        for (process, log) in &mut processes {
            if process.ended()?.is_some() {
                return Err(not_ready("a process ended; the API server", log));
            }
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    let [_, (_, log)] = processes;
    Err(not_ready("the API server", log))
}

fn not_ready(what: &'static str, log: &Path) -> Error {
    let log = tail(&fs::read_to_string(log).unwrap_or_default());
    Error::NotReady { what, seconds: READY_WITHIN.as_secs(), log }
}

/// The last lines of a log.
pub fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
