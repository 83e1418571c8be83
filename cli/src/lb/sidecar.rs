//! `ms lb sidecar`.

use std::{error::Error, net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use ms_http::HttpServer;
use ms_lb::{Sidecar, original::SidecarFile};

use super::{original, say};
use crate::{door::DoorArgs, signals};

/// Arguments of the sidecar.
#[derive(Args, Debug)]
pub(crate) struct SidecarArgs {
    /// go-micro-service's file; a missing one is written with defaults.
    #[arg(short, long = "original", value_name = "FILE", default_value = "http-loadbalance-client.cfg")]
    c: PathBuf,
    /// Where it listens, instead of where the file says; an address that is not of loopback needs --cert or a token, or --insecure.
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    door: DoorArgs,
}

/// Time for ZooKeeper to confirm that the services have left.
const LEAVE: Duration = Duration::from_secs(3);

pub(super) async fn run(args: SidecarArgs) -> Result<(), Box<dyn Error>> {
    let about = |error: &dyn std::fmt::Display| format!("{}: {error}", args.c.display());
    let file = original::read(&args.c, SidecarFile::defaults)?;
    file.check().map_err(|error| about(&error))?;
    let listen = match args.listen {
        Some(listen) => listen,
        None => {
            let listen = original::listening(&file.net.host, file.net.port).await;
            listen.map_err(|error| about(&format_args!("net.{error}")))?
        }
    };
    let door = args.door.open()?;
    door.check("http", listen)?;
    let mut server = HttpServer::bind(listen).await.map_err(|error| format!("http: {listen}: {error}"))?;
    if let Some(tls) = &door.tls {
        server = server.tls(tls);
    }
    let (address, sidecar) = (server.address(), Sidecar::new());
    let routes = door.access().guard(sidecar.router(&file));
    // Listened for before the line that says ready: its reader may send one.
    let signal = signals::end();
    say(&format!("sidecar is ready: {} on {address}", if door.tls.is_some() { "HTTPS" } else { "HTTP" }));
    tokio::select! {
        second = signal => drop(second),
        () = server.serve(routes, std::future::pending()) => {}
    }
    sidecar.close(LEAVE).await;
    Ok(())
}
