//! `ms tls`: certificates for development.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use ms_rpc::tls::dev::{DevAuthority, Issued};

use crate::exit::Failure;

#[derive(Args, Debug)]
pub(crate) struct TlsArgs {
    #[command(subcommand)]
    command: TlsCommand,
}

#[derive(Debug, Subcommand)]
enum TlsCommand {
    /// Writes a new authority and a certificate for each service: ca.pem, SERVICE.pem, SERVICE.key. For development alone.
    #[command(after_help = "Example:\n  ms tls dev certificates goods order")]
    Dev {
        /// Folder to write to; it is made. Files that are there are kept, and are an error.
        folder: PathBuf,
        /// Services, each of which gets `spiffe://TRUST-DOMAIN/SERVICE`.
        #[arg(required = true)]
        services: Vec<String>,
        /// Trust domain of the identities.
        #[arg(long, default_value = "dev")]
        trust_domain: String,
    },
}

pub(crate) fn run(args: TlsArgs) -> Result<(), Failure> {
    let TlsCommand::Dev { folder, services, trust_domain } = args.command;
    let failed = |error: io::Error| Failure::Other(error.to_string());
    let authority = DevAuthority::new(&trust_domain).map_err(failed)?;
    fs::create_dir_all(&folder).map_err(|error| Failure::Other(format!("{}: {error}", folder.display())))?;
    write(&folder, "ca.pem", &authority.ca())?;
    for service in services {
        if service.contains(['/', '\\']) || service.starts_with('.') {
            return Err(Failure::Usage(format!("`{service}` is no service: write a name without slashes")));
        }
        let Issued { certificate, key } = authority.issue(&service).map_err(failed)?;
        write(&folder, &format!("{service}.pem"), &certificate)?;
        write(&folder, &format!("{service}.key"), &key)?;
    }
    Ok(())
}

/// Writes a new file that its owner alone can read.
fn write(folder: &Path, name: &str, text: &str) -> Result<(), Failure> {
    let path = folder.join(name);
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| Failure::Other(format!("{}: {error}", path.display())))
}
