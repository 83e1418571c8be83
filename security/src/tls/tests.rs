use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use tokio_rustls::rustls::{
    client::danger::ServerCertVerifier,
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::{
    explain::{Side, explain},
    identity::{Identity, Names},
    verify::{self, ServiceVerifier},
    *,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn issue(authority: &Authority, names: &[&str], begins: SystemTime, ends: SystemTime) -> CertificateDer<'static> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.subject_alt_names = names
        .iter()
        .map(|name| match name.contains("://") {
            true => SanType::URI((*name).try_into().unwrap()),
            false => SanType::DnsName((*name).try_into().unwrap()),
        })
        .collect();
    (params.not_before, params.not_after) = (begins.into(), ends.into());
    params.signed_by(&KeyPair::generate().unwrap(), authority).unwrap().der().clone()
}

/// Judges a certificate at this time as that of service `shop`; the error in words.
fn judge(trusted: &Authority, certificate: &CertificateDer<'_>, at: SystemTime) -> Result<(), String> {
    let tls = Tls::one_way_client(Pem::bytes(trusted.pem())).trust_domain("test").dns_suffix("svc").build().unwrap();
    judge_as(&tls, verify::Names::Identities(tls.0.names.of("shop").unwrap()), certificate, at)
}

/// Judges a certificate at this time as one with these names; the error in words.
fn judge_as(
    tls: &Tls,
    expected: verify::Names,
    certificate: &CertificateDer<'_>,
    at: SystemTime,
) -> Result<(), String> {
    let trust = tls.current().client.clone().unwrap();
    let verifier = ServiceVerifier { trust, expected, provider: provider() };
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let at = UnixTime::since_unix_epoch(at.duration_since(SystemTime::UNIX_EPOCH).unwrap());
    let verified = verifier.verify_server_cert(certificate, &[], &name, &[], at);
    verified.map(|_| ()).map_err(|error| explain(std::io::Error::other(error), Side::Client, "x").to_string())
}

#[test]
fn a_certificate_holds_between_its_times_and_for_its_names() {
    let (own, other, now) = (authority(), authority(), SystemTime::now());
    let certificate = issue(&own, &["spiffe://test/shop"], now - DAY, now + DAY);
    judge(&own, &certificate, now).unwrap();
    assert!(judge(&own, &certificate, now - 2 * DAY).unwrap_err().contains("it does not hold yet"));
    assert!(judge(&own, &certificate, now + 2 * DAY).unwrap_err().contains("it has ended"));
    assert!(judge(&other, &certificate, now).unwrap_err().contains("an authority that is not trusted here"));
    let both = issue(&own, &["x.svc", "SHOP.svc", "spiffe://test/other"], now - DAY, now + DAY);
    judge(&own, &both, now).unwrap();
    for names in [&["spiffe://test/shop/x"][..], &["spiffe://other/shop"], &["xshop.svc", "shop.svc.x", "*.svc"], &[]] {
        let error = judge(&own, &issue(&own, names, now - DAY, now + DAY), now).unwrap_err();
        assert!(error.contains("spiffe://test/shop or shop.svc is expected"), "{names:?}: {error}");
    }
    assert!(judge(&own, &b"\x30\x03\x02\x01\x01"[..].into(), now).is_err());
}

#[test]
fn a_host_is_expected_as_in_https() {
    let (own, now) = (authority(), SystemTime::now());
    let tls = Tls::one_way_client(Pem::bytes(own.pem())).build().unwrap();
    let certificate = issue(&own, &["registry.svc", "*.nodes.svc", "spiffe://test/registry"], now - DAY, now + DAY);
    let judge = |host: &str| judge_as(&tls, verify::Names::Host(identity::host(host).unwrap()), &certificate, now);
    for host in ["registry.svc", "REGISTRY.svc", "a.nodes.svc"] {
        judge(host).unwrap();
    }
    for host in ["svc", "other.svc", "nodes.svc", "a.b.nodes.svc", "127.0.0.1", "[::1]", "::1"] {
        let error = judge(host).unwrap_err();
        assert!(error.contains("its certificate is that of spiffe://test/registry, registry.svc"), "{host}: {error}");
    }
    for text in ["", "a b", "host:80", "[127.0.0.1", "spiffe://test/registry"] {
        let error = tls.check_expected(Expected::Host(text)).unwrap_err().to_string();
        assert!(error.contains("without a port"), "{text}: {error}");
    }
}

proptest! {
    /// Different services have different identities, whatever their names: no name can be made up that passes for another.
    #[test]
    fn no_two_services_share_an_identity(a in "[a-zA-Z0-9._:/-]{1,12}", b in "[a-zA-Z0-9._:/-]{1,12}") {
        let names = Names { trust_domain: Some("t".into()), dns_suffix: Some("s".into()), ..Names::default() };
        if let (Ok(of_a), Ok(of_b)) = (names.of(&a), names.of(&b)) {
            let shared = of_a.iter().find(|identity| of_b.contains(identity));
            // DNS names know no case.
            let is_alias = |identity: &Identity| matches!(identity, Identity::Dns(_)) && a.eq_ignore_ascii_case(&b);
            prop_assert!(a == b || shared.is_none_or(is_alias), "{a} {b} {shared:?}");
        }
    }

    /// Any bytes that a peer presents as a certificate are refused, and break nothing.
    #[test]
    fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(material::period(&bytes.as_slice().into()).is_none());
    }
}
