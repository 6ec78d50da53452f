//! What the control plane promises: it is real, it is quick, and nothing of it stays behind.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use control_plane::{ControlPlane, Error, Spawn, ensure};

async fn version(control_plane: &ControlPlane) -> String {
    let authority = reqwest::Certificate::from_pem(control_plane.ca_pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([authority]).no_proxy().build().unwrap();
    let url = format!("{}/version", control_plane.url());
    client.get(url).bearer_auth(control_plane.token()).send().await.unwrap().text().await.unwrap()
}

/// Processes whose command line names a folder.
fn processes_of(folder: &Path) -> Vec<String> {
    let folder = folder.display().to_string();
    let ids = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    ids.filter(|id| id.chars().all(|c| c.is_ascii_digit()))
        .filter_map(|id| std::fs::read(format!("/proc/{id}/cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&folder))
        .collect()
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < until, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test]
async fn two_at_once_are_real_and_leave_nothing_behind() {
    let begun = Instant::now();
    let (first, second) = tokio::join!(ControlPlane::start(), ControlPlane::start());
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_ne!(first.url(), second.url());
    assert!(version(&first).await.contains("\"gitVersion\": \"v1."));
    assert!(version(&second).await.contains("\"gitVersion\": \"v1."));
    println!("two booted in {:?}", begun.elapsed());
    let folders: [PathBuf; 2] = [first.folder().to_owned(), second.folder().to_owned()];
    assert_eq!(processes_of(&folders[0]).is_empty(), cfg!(not(target_os = "linux")));
    drop((first, second));
    for folder in &folders {
        eventually("processes gone", || processes_of(folder).is_empty());
        assert!(!folder.exists());
    }
}

#[test]
fn nothing_stays_behind_when_the_process_that_booted_it_is_killed() {
    let mut owner = Spawn::new(env!("CARGO_BIN_EXE_control-plane"))
        .args(["run"])
        .stdout(std::process::Stdio::piped())
        .start()
        .unwrap();
    let mut line = String::new();
    BufReader::new(owner.take_stdout().unwrap()).read_line(&mut line).unwrap();
    let folder = Path::new(line.trim()).parent().unwrap().to_owned();
    assert!(!processes_of(&folder).is_empty());
    owner.kill().unwrap();
    eventually("processes gone", || processes_of(&folder).is_empty());
    eventually("data gone", || !folder.exists());
}

#[test]
fn a_program_that_ends_first_leaves_no_watchdog_behind() {
    let marker = format!("marker-{}", std::process::id());
    let mut child = Spawn::new("sh").args(["-c", "exit 7", &marker]).start().unwrap();
    let status = child.wait_for(Duration::from_secs(10)).unwrap().unwrap();
    assert_eq!(status.code(), Some(7));
    drop(child);
    eventually("watchdog gone", || processes_of(Path::new(&marker)).is_empty());
}

#[test]
fn the_programs_are_found_where_the_environment_says() {
    // The variables belong to this process, so they are set for another one.
    let run = |name: &str, value: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_control-plane"));
        command.arg("ensure").env(name, value).output().unwrap()
    };
    let wrong = run("KUBEBUILDER_ASSETS", "/nowhere");
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("KUBEBUILDER_ASSETS is /nowhere"));
    let found = ensure().unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (name, file) in [("kube-apiserver", &found.kube_apiserver), ("etcd", &found.etcd)] {
        std::os::unix::fs::symlink(file, folder.path().join(name)).unwrap();
    }
    let right = run("KUBEBUILDER_ASSETS", folder.path().to_str().unwrap());
    assert!(String::from_utf8_lossy(&right.stdout).starts_with(folder.path().to_str().unwrap()));
}

#[test]
fn without_go_the_error_says_what_to_install_and_a_broken_build_leaves_no_program() {
    let (cache, path) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let run = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_control-plane"));
        command
            .arg("ensure")
            .env("PATH", path.path())
            .env("XDG_CACHE_HOME", cache.path())
            .env_remove("KUBEBUILDER_ASSETS");
        command.output().unwrap()
    };
    let said = run();
    assert!(!said.status.success());
    assert!(String::from_utf8_lossy(&said.stderr).contains("install Go"), "{}", Error::NoGo);
    let go = path.path().join("go");
    std::fs::write(
        &go,
        "#!/bin/sh\nwhile [ \"$1\" != -o ]; do shift; done\necho half > \"$2\"\necho broken >&2\nexit 1\n",
    )
    .unwrap();
    std::fs::set_permissions(&go, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let said = run();
    assert!(String::from_utf8_lossy(&said.stderr).contains("broken"), "{}", String::from_utf8_lossy(&said.stderr));
    let folder = cache.path().join(format!("coupon-operator/control-plane/v{}", control_plane::KUBERNETES_VERSION));
    assert!(!folder.join("etcd").exists());
}
