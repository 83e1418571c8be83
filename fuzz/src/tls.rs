//! The first bytes of a connection at a server that takes TLS, and the names in certificates.

use std::sync::LazyLock;

use ms_rpc::{RunningServer, Server, tls::dev::DevAuthority};
use ms_security::tls::internals::{is_of, of_peer};
use rcgen::{CertificateParams, KeyPair, SanType};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

use crate::{
    memory::bounded,
    pipe::ends,
    reference::{GOAWAY, HELLO, PONG, RESPONSE, kind, split},
    service::{FuzzServer, Methods},
    source::Source,
};

thread_local! {
    /// One that takes TLS alone, and one that takes plaintext too.
    static SERVERS: [RunningServer; 2] = ends(async { [start(false).await, start(true).await] });
}

async fn start(is_permissive: bool) -> RunningServer {
    let authority = DevAuthority::new("fuzz").expect("there is randomness");
    let tls = authority.tls("fuzz").expect("it is a name").build().expect("they fit");
    let server = Server::bind("127.0.0.1:0").await.expect("a port is free").serve(FuzzServer::new(Methods));
    let server = if is_permissive { server.tls_permissive(&tls) } else { server.tls(&tls) };
    server.start().await.expect("nothing is missing")
}

/// A client that begins with anything: plaintext is spoken with clients that begin in plaintext and may, and no call of any other is
/// answered.
pub fn first_byte(input: &[u8]) {
    let mut source = Source::new(input);
    let is_permissive = source.byte() & 1 == 1;
    let sent = source.rest();
    let address = SERVERS.with(|servers| servers[usize::from(is_permissive)].address());
    let heard = bounded(sent, || {
        ends(async {
            let mut stream = TcpStream::connect(address).await.expect("it listens");
            // The pipe may be closed by then.
            let _ = stream.write_all(sent).await;
            let _ = stream.shutdown().await;
            let mut heard = Vec::new();
            // A reset is an end, too.
            let _ = stream.read_to_end(&mut heard).await;
            heard
        })
    });
    match (sent.first(), is_permissive) {
        (Some(0x1d), true) => {
            let kinds: Vec<_> = split(&heard, 4 << 20).0.into_iter().map(kind).collect();
            assert!(kinds.iter().all(|kind| matches!(*kind, HELLO | RESPONSE | PONG | GOAWAY)), "{kinds:?}");
        }
        (Some(0x1d), false) => {
            let frames = split(&heard, 4 << 20).0;
            assert!(frames.iter().all(|frame| kind(frame) == GOAWAY), "plaintext is spoken where TLS is required");
        }
        // Records of TLS: an alert, or the begin of a handshake.
        _ => assert!(matches!(heard.first(), None | Some(0x14..=0x16)), "{heard:02x?}"),
    }
}

/// Key of all certificates: names are what matters.
static KEY: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate().expect("there is randomness"));

const DOMAIN: &str = "t";
const SUFFIX: &str = "s";

/// A certificate with any names, or any bytes in its place: it is that of a service exactly if it has one of the service's names.
pub fn identity(input: &[u8]) {
    let mut source = Source::new(input);
    let is_whole = source.byte() & 1 == 0;
    let service = String::from_utf8_lossy(source.short()).into_owned();
    if service.is_empty() {
        return;
    }
    if is_whole {
        built(&service, source);
    } else {
        let der = source.rest();
        let judged = bounded(der, || (is_of(der, DOMAIN, SUFFIX, &service), of_peer(der)));
        if judged.0 == Some(true) {
            let (uris, hosts) = names(der).expect("what is accepted is a certificate");
            assert!(is_named(&service, &uris, &hosts), "{service:?} is none of {uris:?} {hosts:?}");
        }
    }
}

fn built(service: &str, mut source: Source<'_>) {
    let (mut uris, mut hosts) = (Vec::new(), Vec::new());
    let mut params = CertificateParams::new(Vec::new()).expect("it has no names");
    while !source.is_empty() && uris.len() + hosts.len() < 16 {
        let is_uri = source.byte() & 1 == 0;
        let name: String = source.short().iter().map(|byte| char::from(byte & 0x7f)).collect();
        let Ok(text) = name.as_str().try_into() else { continue };
        params.subject_alt_names.push(if is_uri { SanType::URI(text) } else { SanType::DnsName(text) });
        if is_uri { &mut uris } else { &mut hosts }.push(name);
    }
    let certificate = params.self_signed(&*KEY).expect("any names can be signed");
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let wanted = service.bytes().all(is_legal).then(|| is_named(service, &uris, &hosts));
    let judged = is_of(certificate.der(), DOMAIN, SUFFIX, service);
    assert_eq!(judged, wanted, "{service:?} {uris:?} {hosts:?}");
}

/// The rules of `docs/security.md`, in the plainest words.
fn is_named(service: &str, uris: &[String], hosts: &[String]) -> bool {
    let (uri, host) = (format!("spiffe://{DOMAIN}/{service}"), format!("{service}.{SUFFIX}"));
    let is_label = |label: &str| {
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        (1..64).contains(&label.len())
            && label.bytes().all(is_inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_host = host.len() <= 253 && host.split('.').all(is_label);
    uris.contains(&uri) || is_host && hosts.iter().any(|name| name.eq_ignore_ascii_case(&host))
}

/// URIs and DNS names of a certificate, by another reader.
fn names(der: &[u8]) -> Option<(Vec<String>, Vec<String>)> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let (mut uris, mut hosts) = (Vec::new(), Vec::new());
    for name in &names.value.general_names {
        match name {
            GeneralName::URI(name) => uris.push((*name).to_owned()),
            GeneralName::DNSName(name) => hosts.push((*name).to_owned()),
            _ => {}
        }
    }
    Some((uris, hosts))
}

pub(crate) mod seeds {
    use rcgen::{CertificateParams, SanType};

    use super::KEY;
    use crate::script::{self, Side};

    pub(crate) fn first_byte() -> Vec<Vec<u8>> {
        let handshake = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03".to_vec();
        let begins =
            [script::hello(Side::Client), handshake, b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0x15, 3, 3, 0, 2]];
        begins.iter().flat_map(|begin| [0, 1].map(|form| [&[form], &begin[..]].concat())).collect()
    }

    pub(crate) fn identity() -> Vec<Vec<u8>> {
        let short = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
        let names = |names: &[(u8, &str)]| {
            let names = names.iter().flat_map(|(kind, name)| [&[*kind], &short(name)[..]].concat());
            [vec![0], short("shop"), names.collect()].concat()
        };
        let mut params = CertificateParams::new(Vec::new()).expect("it has no names");
        params.subject_alt_names = vec![SanType::URI("spiffe://t/shop".try_into().expect("it is ASCII"))];
        let certificate = params.self_signed(&*KEY).expect("it can be signed");
        vec![
            names(&[(0, "spiffe://t/shop")]),
            names(&[(1, "SHOP.s"), (0, "spiffe://t/shop/x")]),
            names(&[(0, "spiffe://other/shop"), (1, "shop.s.x"), (1, "*.s")]),
            names(&[]),
            [vec![1], short("shop"), certificate.der().to_vec()].concat(),
        ]
    }
}
