//! Identities of services in certificates. Pure.

use std::{collections::BTreeMap, fmt};

use tokio_rustls::rustls::pki_types::ServerName;
use webpki::EndEntityCert;

use super::TlsError;

/// Names of services in certificates.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    pub(super) trust_domain: Option<String>,
    pub(super) dns_suffix: Option<String>,
    /// Services with an identity of their own.
    pub(super) explicit: BTreeMap<String, String>,
}

/// Name that a certificate must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    Uri(String),
    Dns(String),
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri(name) | Self::Dns(name) => f.write_str(name),
        }
    }
}

impl Identity {
    pub(super) fn parse(text: &str) -> Result<Self, TlsError> {
        if text.contains("://") {
            let valid = text.starts_with("spiffe://") && text.len() <= 2048 && !text.contains(char::is_whitespace);
            let reason = "write it like spiffe://prod/shop";
            return valid.then(|| Self::Uri(text.to_owned())).ok_or_else(|| invalid(text, "SPIFFE ID", reason));
        }
        match is_dns_name(text) {
            true => Ok(Self::Dns(text.to_ascii_lowercase())),
            false => Err(invalid(text, "identity", "write a SPIFFE ID or a DNS name")),
        }
    }

    fn is_of(&self, certificate: &EndEntityCert<'_>) -> bool {
        match self {
            Self::Uri(name) => certificate.valid_uri_names().any(|other| other == name),
            Self::Dns(name) => certificate.valid_dns_names().any(|other| other.eq_ignore_ascii_case(name)),
        }
    }
}

impl Names {
    pub(super) fn is_empty(&self) -> bool {
        self.trust_domain.is_none() && self.dns_suffix.is_none() && self.explicit.is_empty()
    }

    /// Checks everything that does not depend on a service.
    pub(super) fn check(&self) -> Result<(), TlsError> {
        if let Some(domain) = &self.trust_domain {
            let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
            if domain.is_empty() || domain.len() > 255 || !domain.bytes().all(legal) {
                let reason = "use lower-case letters, digits, dots, dashes and underscores";
                return Err(invalid(domain, "trust domain", reason));
            }
        }
        if let Some(suffix) = &self.dns_suffix
            && !is_dns_name(suffix)
        {
            return Err(invalid(suffix, "DNS suffix", "write it like svc.prod"));
        }
        self.explicit.values().try_for_each(|identity| Identity::parse(identity).map(|_| ()))
    }

    /// Identities of which a server of `service` must have one.
    pub(super) fn of(&self, service: &str) -> Result<Vec<Identity>, TlsError> {
        if let Some(identity) = self.explicit.get(service) {
            return Ok(vec![Identity::parse(identity)?]);
        }
        let mut identities = Vec::new();
        // SPIFFE-ID, section 2.2: characters of a path segment.
        let is_segment = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if let Some(domain) = &self.trust_domain
            && service.bytes().all(is_segment)
        {
            identities.push(Identity::Uri(format!("spiffe://{domain}/{service}")));
        }
        if let Some(suffix) = &self.dns_suffix {
            let name = format!("{service}.{suffix}").to_ascii_lowercase();
            if is_dns_name(&name) {
                identities.push(Identity::Dns(name));
            }
        }
        match identities.is_empty() {
            true => Err(invalid(service, "service with an identity by rule", "name its identity with `identity`")),
            false => Ok(identities),
        }
    }
}

/// Returns the certificate's own names unless one of `expected` is among them.
pub(super) fn verify(certificate: &EndEntityCert<'_>, expected: &[Identity]) -> Result<(), Vec<String>> {
    match expected.iter().any(|identity| identity.is_of(certificate)) {
        true => Ok(()),
        false => Err(names(certificate)),
    }
}

/// The verified name of a peer: its first URI, else its first DNS name.
pub(super) fn of_peer(certificate: &EndEntityCert<'_>) -> Option<String> {
    names(certificate).into_iter().next()
}

pub(super) fn names(certificate: &EndEntityCert<'_>) -> Vec<String> {
    certificate.valid_uri_names().chain(certificate.valid_dns_names()).map(str::to_owned).collect()
}

/// Host of a URL: a DNS name, or an IP address, with or without the brackets of IPv6.
pub(super) fn host(text: &str) -> Result<ServerName<'static>, TlsError> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let name = ServerName::try_from(bare.to_owned());
    name.map_err(|_| invalid(text, "host", "write a DNS name or an IP address, without a port"))
}

/// Letters, digits and dashes between dots (RFC 1123, section 2.1), and underscores, which service names have.
fn is_dns_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        (1..=63).contains(&label.len()) && label.bytes().all(legal) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

fn invalid(name: &str, wanted: &'static str, reason: &'static str) -> TlsError {
    TlsError::Name { name: name.to_owned(), wanted, reason }
}
