//! Authorities and certificates for tests.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use std::{
    hash::{BuildHasher, Hasher},
    time::{Duration, SystemTime},
};

use ms_rpc::tls::{Pem, Tls, TlsBuilder};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams, SanType, SerialNumber,
};

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// Certificate and key, as PEM.
#[derive(Clone)]
pub struct Issued {
    pub certificate: String,
    pub key: String,
    serial: u64,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> Pem {
        Pem::bytes(self.0.pem())
    }

    pub fn text(&self) -> String {
        self.0.pem()
    }

    /// A certificate with this name, a URI or a DNS name, that holds for an hour.
    pub fn issue(&self, name: &str) -> Issued {
        let now = SystemTime::now();
        self.issue_for(name, now - Duration::from_secs(60), now + Duration::from_secs(3600))
    }

    pub fn issue_for(&self, name: &str, begins: SystemTime, ends: SystemTime) -> Issued {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        let is_uri = name.contains("://");
        let name = name.try_into().unwrap();
        params.subject_alt_names = vec![if is_uri { SanType::URI(name) } else { SanType::DnsName(name) }];
        (params.not_before, params.not_after) = (begins.into(), ends.into());
        let serial = random();
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap().pem();
        Issued { certificate, key: key.serialize_pem(), serial }
    }

    /// A revocation list with this certificate in it.
    pub fn revoke(&self, issued: &Issued) -> Pem {
        let now = SystemTime::now();
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(issued.serial),
            revocation_time: (now - Duration::from_secs(30)).into(),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: (now - Duration::from_secs(30)).into(),
            next_update: (now + Duration::from_secs(3600)).into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Pem::bytes(list.signed_by(&self.0).unwrap().pem().unwrap())
    }

    /// Mutual TLS in the trust domain `test`, as this service.
    pub fn tls(&self, service: &str) -> Tls {
        self.builder(&self.issue(&format!("spiffe://test/{service}"))).build().unwrap()
    }

    pub fn builder(&self, own: &Issued) -> TlsBuilder {
        let Issued { certificate, key, .. } = own.clone();
        Tls::mutual(self.pem(), Pem::bytes(certificate), Pem::bytes(key)).trust_domain("test")
    }
}

fn random() -> u64 {
    std::collections::hash_map::RandomState::new().build_hasher().finish() >> 1
}
