//! The check of identities by itself, for the fuzzers.

use webpki::EndEntityCert;

use super::identity::{self, Names};

/// Judges a certificate as that of `service`, without its chain; `None` if it is no certificate, or if the rules name no identity.
pub fn is_of(certificate: &[u8], trust_domain: &str, dns_suffix: &str, service: &str) -> Option<bool> {
    let (trust_domain, dns_suffix) = (Some(trust_domain.to_owned()), Some(dns_suffix.to_owned()));
    let names = Names { trust_domain, dns_suffix, ..Names::default() };
    let (expected, der) = (names.of(service).ok()?, certificate.into());
    let certificate = EndEntityCert::try_from(&der).ok()?;
    Some(identity::verify(&certificate, &expected).is_ok())
}

/// The name by which a server knows a client with this certificate; `None` if it has none, or is no certificate.
pub fn of_peer(certificate: &[u8]) -> Option<String> {
    let der = certificate.into();
    identity::of_peer(&EndEntityCert::try_from(&der).ok()?)
}
