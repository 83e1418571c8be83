//! An authority of a test, and what it signs.

use std::{fs, path::Path};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let (mut params, key) = (CertificateParams::new(Vec::new()).unwrap(), KeyPair::generate().unwrap());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Writes `ca.pem`, `cert.pem` and `key.pem` for servers and clients of these names into the directory.
    pub(crate) fn issue(&self, directory: &Path, names: &[&str]) {
        self.issue_with(directory, names, |_| ());
    }

    /// The same with a certificate that `change` has changed.
    pub(crate) fn issue_with(&self, directory: &Path, names: &[&str], change: impl FnOnce(&mut CertificateParams)) {
        let names = names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (mut params, key) = (CertificateParams::new(names).unwrap(), KeyPair::generate().unwrap());
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::create_dir_all(directory).unwrap();
        for (name, text) in [("ca.pem", &self.pem), ("cert.pem", &certificate.pem()), ("key.pem", &key.serialize_pem())]
        {
            // As a whole, as those do who renew certificates.
            let new = directory.join("new");
            fs::write(&new, text).unwrap();
            fs::rename(&new, directory.join(name)).unwrap();
        }
    }
}
