//! `control-plane ensure` gets the programs; `control-plane run` boots them until Ctrl-C.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    let done = match std::env::args().nth(1).as_deref() {
        Some("ensure") => ensure(),
        Some("run") => run().await,
        _ => {
            eprintln!("usage: control-plane ensure | run");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn ensure() -> Result<(), control_plane::Error> {
    let found = control_plane::ensure()?;
    println!("{}\n{}", found.kube_apiserver.display(), found.etcd.display());
    Ok(())
}

async fn run() -> Result<(), control_plane::Error> {
    let control_plane = control_plane::ControlPlane::start().await?;
    println!("{}", control_plane.kubeconfig_path().display());
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(())
}
