//! Certificates for development and tests: an authority that is made on the spot. Never for production: its key is nobody's secret.

use std::{
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr},
    time::{Duration, SystemTime},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, SanType};

use super::{Pem, Tls, TlsBuilder};

/// Time for which the certificates hold.
const VALID: Duration = Duration::from_secs(365 * 24 * 3600);

/// Authority of a trust domain, with a key of its own.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use ms_security::tls::dev::DevAuthority;
///
/// let authority = DevAuthority::new("dev")?;
/// let goods = authority.tls("goods")?.build()?;
/// let order = authority.tls("order")?.build()?;
/// # Ok(())
/// # }
/// ```
pub struct DevAuthority {
    domain: String,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// Certificate and key of a service, as PEM.
pub struct Issued {
    /// The certificate, with the URI `spiffe://<trust domain>/<service>`, and the names of loopback for HTTPS.
    pub certificate: String,
    /// The private key, PKCS #8.
    pub key: String,
}

impl DevAuthority {
    /// A new authority, whose certificates hold for a year.
    ///
    /// # Errors
    /// The domain cannot be part of a URI, or there is no randomness.
    pub fn new(trust_domain: &str) -> io::Result<Self> {
        let mut params = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, format!("development authority of {trust_domain}"));
        let (begins, ends) = period();
        (params.not_before, params.not_after) = (begins.into(), ends.into());
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(io::Error::other)?;
        Ok(Self { domain: trust_domain.to_owned(), issuer })
    }

    /// Certificate of the authority, as PEM.
    pub fn ca(&self) -> String {
        self.issuer.pem()
    }

    /// Certificate and key of a service.
    ///
    /// # Errors
    /// The name cannot be part of a URI.
    pub fn issue(&self, service: &str) -> io::Result<Issued> {
        let uri = format!("spiffe://{}/{service}", self.domain);
        let mut params = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
        // Besides the service, the machine that it is developed on: for HTTPS, whose clients know hosts.
        params.subject_alt_names = vec![
            SanType::URI(uri.as_str().try_into().map_err(io::Error::other)?),
            SanType::DnsName("localhost".try_into().map_err(io::Error::other)?),
            SanType::IpAddress(Ipv4Addr::LOCALHOST.into()),
            SanType::IpAddress(Ipv6Addr::LOCALHOST.into()),
        ];
        params.distinguished_name.push(DnType::CommonName, service);
        let (begins, ends) = period();
        (params.not_before, params.not_after) = (begins.into(), ends.into());
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(io::Error::other)?;
        Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// Mutual TLS in the trust domain, as this service.
    ///
    /// # Errors
    /// The name cannot be part of a URI.
    pub fn tls(&self, service: &str) -> io::Result<TlsBuilder> {
        let Issued { certificate, key } = self.issue(service)?;
        let tls = Tls::mutual(Pem::bytes(self.ca()), Pem::bytes(certificate), Pem::bytes(key));
        Ok(tls.trust_domain(&self.domain))
    }
}

/// From an hour ago, for clocks that differ.
fn period() -> (SystemTime, SystemTime) {
    let begins = SystemTime::now() - Duration::from_secs(3600);
    (begins, begins + VALID)
}

/// The domain; no key.
impl fmt::Debug for DevAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevAuthority").field("domain", &self.domain).finish_non_exhaustive()
    }
}

/// The certificate; no key.
impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}
