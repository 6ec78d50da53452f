//! Finds kube-apiserver and etcd, or gets them.

use std::env;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{Error, KUBERNETES_VERSION, compile};

/// The two programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    pub kube_apiserver: PathBuf,
    pub etcd: PathBuf,
}

impl Binaries {
    fn in_folder(folder: &Path) -> Option<Self> {
        let found = Self { kube_apiserver: folder.join("kube-apiserver"), etcd: folder.join("etcd") };
        (found.kube_apiserver.is_file() && found.etcd.is_file()).then_some(found)
    }
}

/// Finds both programs: in `KUBEBUILDER_ASSETS`, on PATH, in the cache; else downloads or builds them
/// into the cache, and says on standard error what it is doing.
///
/// # Errors
/// If there is no way to get them; the message says what to install.
pub fn ensure() -> Result<Binaries, Error> {
    if let Some(folder) = env::var_os("KUBEBUILDER_ASSETS").filter(|folder| !folder.is_empty()) {
        let folder = PathBuf::from(folder);
        return Binaries::in_folder(&folder).ok_or(Error::Assets(folder));
    }
    if let Some(found) = on_path() {
        return Ok(found);
    }
    let cache = cache();
    if let Some(found) = Binaries::in_folder(&cache).or_else(download) {
        return Ok(found);
    }
    compile::build_into(&cache)?;
    Binaries::in_folder(&cache).ok_or(Error::NoGo)
}

fn on_path() -> Option<Binaries> {
    let path = env::var_os("PATH")?;
    let find = |name: &str| env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    Some(Binaries { kube_apiserver: find("kube-apiserver")?, etcd: find("etcd")? })
}

fn cache() -> PathBuf {
    let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || env::var_os("HOME").map_or_else(env::temp_dir, PathBuf::from).join(".cache");
    base.unwrap_or_else(home).join("coupon-operator/control-plane").join(format!("v{KUBERNETES_VERSION}"))
}

/// Downloads with `setup-envtest`, where that is installed and its host can be reached.
fn download() -> Option<Binaries> {
    const HOST: &str = "github.com:443";
    Command::new("setup-envtest").arg("help").output().ok()?;
    let address = HOST.to_socket_addrs().ok()?.next()?;
    TcpStream::connect_timeout(&address, Duration::from_secs(3)).ok()?;
    eprintln!("control plane: downloading kube-apiserver and etcd with setup-envtest (about a minute, once)");
    let output = Command::new("setup-envtest").args(["use", "1.36.x!", "-p", "path"]).output().ok()?;
    let folder = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| Binaries::in_folder(Path::new(folder.trim())))?
}
