//! What can go wrong, with what to do about it.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "no kube-apiserver and etcd were found, and they cannot be built because `go` is not on PATH: install Go 1.24 or later, or put both binaries into a folder and name it in KUBEBUILDER_ASSETS"
    )]
    NoGo,
    #[error("KUBEBUILDER_ASSETS is {0}, but there is no kube-apiserver and etcd in it: correct or unset it")]
    Assets(PathBuf),
    #[error("building {binary} failed ({status}):\n{log}")]
    Build { binary: &'static str, status: String, log: String },
    #[error("{what} did not become ready within {seconds} s. The end of its log:\n{log}")]
    NotReady { what: &'static str, seconds: u64, log: String },
    #[error("certificates cannot be made: {0}")]
    Certificates(#[from] rcgen::Error),
    #[error("no HTTP client can be made: {0}")]
    Http(#[from] reqwest::Error),
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}
