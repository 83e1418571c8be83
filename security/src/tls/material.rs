//! Certificates, keys and authorities: from PEM to configurations.

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio_rustls::rustls::{
    self, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
    sign::{CertifiedKey, SingleCertAndKey},
};
use webpki::OwnedCertRevocationList;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::{Pem, Source, TlsError, provider};

/// Origin of everything.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    pub(super) ca: Option<Pem>,
    /// Certificate and key.
    pub(super) own: Option<(Pem, Pem)>,
    pub(super) crl: Option<Pem>,
}

/// The texts of all sources, in order: authorities, certificate, key, revocations.
pub(super) type Texts = [Option<Vec<u8>>; 4];

impl Sources {
    pub(super) fn read(&self) -> Result<Texts, TlsError> {
        let (certificate, key) =
            self.own.as_ref().map_or((None, None), |(certificate, key)| (Some(certificate), Some(key)));
        let mut texts = Texts::default();
        for (text, source) in texts.iter_mut().zip([self.ca.as_ref(), certificate, key, self.crl.as_ref()]) {
            *text = source.map(read).transpose()?;
        }
        Ok(texts)
    }
}

fn read(pem: &Pem) -> Result<Vec<u8>, TlsError> {
    match &pem.0 {
        Source::Bytes(text) => Ok(text.to_vec()),
        Source::File(path) => {
            fs::read(path).map_err(|error| TlsError::Read { file: path.display().to_string(), error })
        }
    }
}

/// Configurations made of one state of the sources.
pub(super) struct Loaded {
    pub(super) texts: Texts,
    /// `None` without a certificate.
    server: Option<ServerConfig>,
    /// The same for each application protocol, made when the first connection needs it: connections share it.
    by_protocol: Mutex<BTreeMap<&'static str, Arc<ServerConfig>>>,
    /// `None` without authorities.
    pub(super) client: Option<Arc<Trust>>,
    /// End of this side's own certificate.
    pub(super) ends: Option<SystemTime>,
}

/// Parts of a client's configuration; the identity that it expects is added at each dial.
#[derive(Debug)]
pub(super) struct Trust {
    pub(super) roots: RootCertStore,
    pub(super) crls: Vec<webpki::CertRevocationList<'static>>,
    pub(super) own: Option<Arc<SingleCertAndKey>>,
}

impl Loaded {
    pub(super) fn new(sources: &Sources, texts: Texts) -> Result<Self, TlsError> {
        let [ca, certificate, key, crl] = &texts;
        let roots = match (&sources.ca, ca) {
            (Some(pem), Some(text)) => Some(roots(pem, text)?),
            _ => None,
        };
        let crl_ders = match (&sources.crl, crl) {
            (Some(pem), Some(text)) => crls(pem, text)?,
            _ => Vec::new(),
        };
        let own = match (&sources.own, certificate, key) {
            (Some(pems), Some(certificate), Some(key)) => Some(own(pems, certificate, key)?),
            _ => None,
        };
        let (own, ends) = own.map_or((None, None), |(own, ends)| (Some(own), Some(ends)));
        let server = own.as_ref().map(|own| server(own.clone(), roots.clone(), crl_ders.clone())).transpose()?;
        let client = match roots {
            None => None,
            Some(roots) => {
                let parse = |der: &CertificateRevocationListDer<'_>| OwnedCertRevocationList::from_der(der);
                let crls = crl_ders.iter().map(|der| parse(der).map(Into::into)).collect::<Result<_, _>>();
                Some(Arc::new(Trust {
                    roots,
                    crls: crls.map_err(|error| unusable("the revocation list", error))?,
                    own,
                }))
            }
        };
        Ok(Self { server, by_protocol: Mutex::default(), client, ends, texts })
    }

    pub(super) fn has_certificate(&self) -> bool {
        self.server.is_some()
    }

    /// Configuration of a server that speaks this application protocol.
    pub(super) fn server(&self, protocol: &'static str) -> Result<Arc<ServerConfig>, TlsError> {
        let server = self.server.as_ref().ok_or(TlsError::NoCertificate)?;
        let mut known = self.by_protocol.lock().unwrap_or_else(PoisonError::into_inner);
        let config = known.entry(protocol).or_insert_with(|| {
            let mut config = server.clone();
            config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
            Arc::new(config)
        });
        Ok(config.clone())
    }
}

fn server(
    own: Arc<SingleCertAndKey>,
    roots: Option<RootCertStore>,
    crls: Vec<CertificateRevocationListDer<'static>>,
) -> Result<ServerConfig, TlsError> {
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable("TLS 1.3", error))?;
    let config = match roots {
        None => config.with_no_client_auth(),
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).with_crls(crls);
            config.with_client_cert_verifier(verifier.build().map_err(|error| unusable("the authorities", error))?)
        }
    };
    let mut config = config.with_cert_resolver(own);
    // Connections are long, and a ticket would outlive a certificate that is withdrawn.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(config)
}

/// Certificate and key, checked against each other and the clock; and the end of the certificate.
fn own(
    (certificate_pem, key_pem): &(Pem, Pem),
    certificate: &[u8],
    key: &[u8],
) -> Result<(Arc<SingleCertAndKey>, SystemTime), TlsError> {
    let chain = certificates(certificate_pem, certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| pem(key_pem, "private key", error))?;
    let ends = match chain.first() {
        Some(first) => validity(certificate_pem, first)?,
        None => return Err(pem(certificate_pem, "certificate", "there is none")),
    };
    let certified = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::KeyMismatch { key: format!("{key_pem:?}"), certificate: format!("{certificate_pem:?}") }
        }
        error => unusable(&format!("the key {key_pem:?}"), error),
    })?;
    Ok((Arc::new(SingleCertAndKey::from(certified)), ends))
}

/// The end of a certificate that holds now.
fn validity(source: &Pem, certificate: &CertificateDer<'_>) -> Result<SystemTime, TlsError> {
    let (begins, ends) = period(certificate).ok_or_else(|| pem(source, "certificate", "it is malformed"))?;
    let now = SystemTime::now();
    let invalid = |reason: String| TlsError::Validity { certificate: format!("{source:?}"), reason };
    let ago = |since: SystemTime, until: SystemTime| until.duration_since(since).unwrap_or_default().as_secs();
    if now < begins {
        return Err(invalid(format!("does not hold for another {} s", ago(now, begins))));
    }
    if now >= ends {
        return Err(invalid(format!("ended {} s ago", ago(ends, now))));
    }
    Ok(ends)
}

/// The time in which a certificate holds; `None` if it cannot be read.
pub(super) fn period(certificate: &CertificateDer<'_>) -> Option<(SystemTime, SystemTime)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let time = |seconds: i64| UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    let validity = parsed.validity();
    Some((time(validity.not_before.timestamp()), time(validity.not_after.timestamp())))
}

fn roots(source: &Pem, text: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(source, text)? {
        roots.add(certificate).map_err(|error| unusable(&format!("an authority of {source:?}"), error))?;
    }
    Ok(roots)
}

fn certificates(source: &Pem, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| pem(source, "certificate", error))?;
    if chain.is_empty() { Err(pem(source, "certificate", "there is none")) } else { Ok(chain) }
}

fn crls(source: &Pem, text: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let crls = CertificateRevocationListDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>();
    let crls = crls.map_err(|error| pem(source, "revocation list", error))?;
    if crls.is_empty() { Err(pem(source, "revocation list", "there is none")) } else { Ok(crls) }
}

fn pem(source: &Pem, wanted: &'static str, reason: impl ToString) -> TlsError {
    let file = match &source.0 {
        Source::File(path) => path.display().to_string(),
        Source::Bytes(text) => format!("a text of {} bytes", text.len()),
    };
    TlsError::Pem { file, wanted, reason: reason.to_string() }
}

fn unusable(what: &str, reason: impl ToString) -> TlsError {
    TlsError::Unusable { what: what.to_owned(), reason: reason.to_string() }
}
