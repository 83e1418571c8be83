//! The registry that a command asks, and the certificates and tokens with which it calls what it finds there.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use ms_register::MsRegister;
use ms_rpc::{ClientBuilder, ProxyBuilder, tls::Tls};
use serde::Deserialize;

use crate::{exit::Failure, file, registry};

/// The registry to look into.
#[derive(Args, Clone, Debug)]
pub(crate) struct RegistryArgs {
    #[arg(
        long,
        global = true,
        env = "MS_REGISTRY",
        hide_env_values = true,
        help = registry::help("Where services are listed; queue nodes by default at static://127.0.0.1:9503")
    )]
    registry: Option<String>,
    /// A TOML file with what is not given: registry, ca, cert, key, trust-domain, dns-suffix, token-file, insecure, and a table of
    /// identities by service. Its relative paths begin at its folder.
    #[arg(long, global = true, env = "MS_PROFILE", value_name = "FILE")]
    profile: Option<PathBuf>,
}

/// Certificates and tokens for instances.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct SecureArgs {
    /// Authorities that sign the servers' certificates, in PEM: calls go by TLS alone.
    #[arg(long, global = true, env = "MS_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Our own certificate, in PEM, for servers that ask for one.
    #[arg(long, global = true, env = "MS_CERT", value_name = "FILE")]
    cert: Option<PathBuf>,
    /// The private key of --cert, in PEM.
    #[arg(long, global = true, env = "MS_KEY", value_name = "FILE")]
    key: Option<PathBuf>,
    /// Trust domain of the servers' identities: spiffe://TRUST-DOMAIN/SERVICE.
    #[arg(long, global = true, env = "MS_TRUST_DOMAIN")]
    trust_domain: Option<String>,
    /// Suffix of the servers' DNS names: SERVICE.SUFFIX.
    #[arg(long, global = true, env = "MS_DNS_SUFFIX")]
    dns_suffix: Option<String>,
    /// The identity of a service, a SPIFFE ID or a DNS name, whatever the rules say of it.
    #[arg(long, global = true, value_name = "SERVICE=IDENTITY")]
    identity: Vec<String>,
    /// File with the token that servers ask for.
    #[arg(long, global = true, env = "MS_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Sends the token in plaintext beyond loopback, where the network is trusted.
    #[arg(long, global = true)]
    insecure: bool,
}

/// Both.
#[derive(Args, Clone, Debug)]
pub(crate) struct CallerArgs {
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    secure: SecureArgs,
}

/// The file of `--profile`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct Profile {
    registry: Option<String>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    trust_domain: Option<String>,
    dns_suffix: Option<String>,
    identity: BTreeMap<String, String>,
    token_file: Option<PathBuf>,
    insecure: bool,
}

impl Profile {
    fn read(path: Option<&PathBuf>) -> Result<Self, Failure> {
        path.map_or_else(|| Ok(Self::default()), |path| Self::named("profile", path))
    }

    /// The file that this option names.
    fn named(option: &str, path: &Path) -> Result<Self, Failure> {
        let profile: Self = file::read(option, path).map_err(|error| Failure::Usage(error.to_string()))?;
        let folder = path.parent().map(PathBuf::from).unwrap_or_default();
        let at = |path: Option<PathBuf>| path.map(|path| folder.join(path));
        Ok(Self {
            ca: at(profile.ca),
            cert: at(profile.cert),
            key: at(profile.key),
            token_file: at(profile.token_file),
            ..profile
        })
    }
}

impl RegistryArgs {
    /// The registry of the command line or the environment, else that of the profile, else `default`.
    pub(crate) async fn connect(&self, default: Option<&str>) -> Result<Arc<dyn MsRegister>, Failure> {
        let profile = Profile::read(self.profile.as_ref())?;
        let url = self.registry.clone().or(profile.registry).or_else(|| default.map(str::to_owned));
        let url = url.ok_or_else(|| {
            Failure::Usage(
                "which registry? Give --registry, MS_REGISTRY, or --profile with a line `registry = ..`".to_owned(),
            )
        })?;
        registry::connect(&url).await
    }
}

/// Certificates and token of calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller {
    tls: Option<Tls>,
    token: Vec<u8>,
    is_insecure: bool,
}

impl CallerArgs {
    /// The registry, and the certificates and the token of the calls.
    pub(crate) async fn open(self, default: Option<&str>) -> Result<(Arc<dyn MsRegister>, Caller), Failure> {
        let profile = Profile::read(self.registry.profile.as_ref())?;
        let caller = Caller::new(self.secure, profile)?;
        Ok((self.registry.connect(default).await?, caller))
    }
}

impl Caller {
    /// Certificates and token as the file of a server's `--peers` says them.
    pub(crate) fn of_server(peers: &Path) -> Result<Self, Failure> {
        let profile = Profile::named("peers", peers)?;
        if profile.registry.is_some() {
            let text = "peers: the registry is that of --registry: take the line away".to_owned();
            return Err(Failure::Usage(text));
        }
        Self::new(SecureArgs::default(), profile)
    }

    fn new(args: SecureArgs, profile: Profile) -> Result<Self, Failure> {
        let token = match args.token_file.or(profile.token_file) {
            None => Vec::new(),
            Some(path) => {
                let text = std::fs::read(&path);
                let text = text.map_err(|error| Failure::Usage(format!("token-file: {}: {error}", path.display())))?;
                text.trim_ascii().to_vec()
            }
        };
        let is_insecure = args.insecure || profile.insecure;
        // A pair belongs together: one half of another place would not fit.
        let own =
            if args.cert.is_some() || args.key.is_some() { (args.cert, args.key) } else { (profile.cert, profile.key) };
        let Some(ca) = args.ca.or(profile.ca) else {
            return match own {
                (None, None) => Ok(Self { tls: None, token, is_insecure }),
                _ => Err(Failure::Usage(
                    "cert: TLS needs --ca, the authorities that sign the servers' certificates".to_owned(),
                )),
            };
        };
        let mut builder = match own {
            (Some(cert), Some(key)) => Tls::mutual(ca, cert, key),
            (None, None) => Tls::one_way_client(ca),
            _ => return Err(Failure::Usage("cert: give --cert and --key, or none of them".to_owned())),
        };
        if let Some(domain) = args.trust_domain.or(profile.trust_domain) {
            builder = builder.trust_domain(domain);
        }
        if let Some(suffix) = args.dns_suffix.or(profile.dns_suffix) {
            builder = builder.dns_suffix(suffix);
        }
        for (service, identity) in profile.identity {
            builder = builder.identity(service, identity);
        }
        for pair in args.identity {
            let (service, identity) = pair
                .split_once('=')
                .ok_or_else(|| Failure::Usage(format!("identity: `{pair}` has no `=`: write SERVICE=IDENTITY")))?;
            builder = builder.identity(service, identity);
        }
        let tls = builder.build().and_then(|tls| tls.check_client().map(|()| tls));
        let tls = tls.map_err(|error| Failure::Usage(format!("TLS: {error}")))?;
        Ok(Self { tls: Some(tls), token, is_insecure })
    }

    /// The proxy's settings with these certificates and this token.
    pub(crate) fn proxy(&self, builder: ProxyBuilder) -> ProxyBuilder {
        let builder = builder.name("ms").credentials(self.token.clone()).plaintext_credentials(self.is_insecure);
        match &self.tls {
            Some(tls) => builder.tls(tls),
            None => builder,
        }
    }

    /// The same for one connection.
    pub(crate) fn client(&self, builder: ClientBuilder) -> ClientBuilder {
        let builder = builder.name("ms").credentials(self.token.clone()).plaintext_credentials(self.is_insecure);
        match &self.tls {
            Some(tls) => builder.tls(tls),
            None => builder,
        }
    }
}
