//! Builds kube-apiserver and etcd from their pinned Go modules, once.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Error, KUBERNETES_VERSION};

const BETWEEN_WORDS: Duration = Duration::from_secs(10);

struct Target {
    binary: &'static str,
    module: &'static str,
    package: &'static str,
    usually: &'static str,
}

const TARGETS: [Target; 2] = [
    Target { binary: "etcd", module: "etcd", package: "go.etcd.io/etcd/server/v3", usually: "20 to 60 seconds" },
    Target {
        binary: "kube-apiserver",
        module: "kubernetes",
        package: "k8s.io/kubernetes/cmd/kube-apiserver",
        usually: "2 to 5 minutes on 2 cores",
    },
];

/// Builds what is missing. A lock lets one process build while others wait for it.
pub fn build_into(folder: &Path) -> Result<(), Error> {
    let at = |path: &Path, error| Error::File(path.to_owned(), error);
    fs::create_dir_all(folder).map_err(|e| at(folder, e))?;
    let lock_path = folder.join("lock");
    let lock = File::create(&lock_path).map_err(|e| at(&lock_path, e))?;
    if lock.try_lock().is_err() {
        eprintln!("control plane: another process is building kube-apiserver and etcd; waiting for it");
        lock.lock().map_err(|e| at(&lock_path, e))?;
    }
    TARGETS.iter().filter(|target| !folder.join(target.binary).is_file()).try_for_each(|target| build(target, folder))
}

/// Builds under another name first: an interrupted build leaves no broken program behind.
fn build(target: &Target, folder: &Path) -> Result<(), Error> {
    eprintln!(
        "control plane: building {} {} from its Go module ({}, once)",
        target.binary,
        version(target),
        target.usually
    );
    let (unfinished, log_path) =
        (folder.join(format!("{}.unfinished", target.binary)), folder.join(format!("{}.log", target.binary)));
    let log = File::create(&log_path).map_err(|e| Error::File(log_path.clone(), e))?;
    let version_flag = format!("-s -w -X k8s.io/component-base/version.gitVersion=v{KUBERNETES_VERSION}");
    let mut command = Command::new("go");
    command
        .args(["build", "-trimpath", "-buildvcs=false", "-ldflags", &version_flag, "-o"])
        .arg(&unfinished)
        .arg(target.package);
    command.current_dir(modules().join(target.module)).env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=readonly");
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let mut go =
        command.spawn().map_err(|e| if e.kind() == std::io::ErrorKind::NotFound { Error::NoGo } else { e.into() })?;
    let begun = Instant::now();
    let mut said = begun;
    let status = loop {
        if let Some(status) = go.try_wait()? {
            break status;
        }
        if said.elapsed() >= BETWEEN_WORDS {
            said = Instant::now();
            eprintln!("control plane: still building {} ({} s)", target.binary, begun.elapsed().as_secs());
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    if !status.success() {
        let log = fs::read_to_string(&log_path).unwrap_or_default();
        return Err(Error::Build { binary: target.binary, status: status.to_string(), log: crate::boot::tail(&log) });
    }
    fs::rename(&unfinished, folder.join(target.binary))?;
    eprintln!("control plane: built {} in {} s", target.binary, begun.elapsed().as_secs());
    Ok(())
}

fn version(target: &Target) -> &'static str {
    if target.module == "kubernetes" { KUBERNETES_VERSION } else { "" }
}

fn modules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("modules")
}
