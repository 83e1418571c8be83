//! A compression of the user's own: run lengths. The first 60 lines are all that it takes.

#![allow(clippy::unwrap_used)]

mod shop;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use ms_rpc::{CallOptions, Client, ClientProxy, Code, Compression, CustomCompression, CustomError, Outcome, Status};
use shop::ShopClient;

/// Runs of equal bytes, as pairs of a length from 1 to 255 and the byte; counts the bodies that it expanded.
#[derive(Default)]
struct Runs(Arc<AtomicUsize>);

impl CustomCompression for Runs {
    fn number(&self) -> u8 {
        140
    }

    fn name(&self) -> &str {
        "runs"
    }

    fn compress(&self, body: &[u8]) -> Option<Vec<u8>> {
        let runs = body.chunk_by(|a, b| a == b).flat_map(|run| run.chunks(255));
        let compressed: Vec<u8> = runs.flat_map(|run| [run.len() as u8, run[0]]).collect();
        (compressed.len() < body.len()).then_some(compressed)
    }

    fn expand(&self, compressed: &[u8], limit: usize) -> Result<Vec<u8>, CustomError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let mut body = Vec::new();
        for run in compressed.chunks(2) {
            let [length @ 1..=255, byte] = *run else { return Err("a run is cut short, or empty".into()) };
            if body.len() + usize::from(length) > limit {
                return Err(format!("it has more than {limit} bytes").into());
            }
            body.resize(body.len() + usize::from(length), byte);
        }
        Ok(body)
    }
}

fn own() -> Compression {
    Compression::custom(Runs::default()).unwrap()
}

fn text() -> String {
    "a".repeat(5000) + &"b".repeat(5000)
}

#[tokio::test]
async fn a_server_and_a_proxy_speak_it() {
    let (server, registry) = shop::server().await;
    let [requests, answers] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
    let counting = |count: &Arc<AtomicUsize>| Compression::custom(Runs(count.clone())).unwrap();
    let server = server.compression(counting(&requests)).start().await.unwrap();
    let proxy = ClientProxy::builder(registry).compression(counting(&answers)).build().unwrap();
    let shop = ShopClient::new(&proxy);
    assert_eq!(shop.echo(text()).await.unwrap(), text());
    assert_eq!(shop.find(5).await.unwrap().id, 5);
    // A client's wish holds for answers to requests that are not compressed.
    let plain = ShopClient::new(proxy.with(CallOptions::new().compression(Compression::None)));
    assert_eq!(plain.echo(text()).await.unwrap(), text());
    assert_eq!((requests.load(Ordering::Relaxed), answers.load(Ordering::Relaxed)), (1, 2));
    // Chosen for one call, on a client without compression.
    let client = Client::connect(&server.address().to_string()).await.unwrap();
    for compression in Compression::ALL.into_iter().chain([own()]) {
        let shop = ShopClient::new(client.with(CallOptions::new().compression(compression)));
        assert_eq!(shop.echo(text()).await.unwrap(), text());
    }
    server.shutdown().await;
}

#[tokio::test]
async fn a_server_without_it_is_not_sent_to() {
    let (server, registry) = shop::server().await;
    let server = server.start().await.unwrap();
    let proxy = ClientProxy::new(registry);
    let shop = ShopClient::new(&proxy);
    let not_sent = |error: Status| {
        assert_eq!((error.code(), error.outcome()), (Code::InvalidArgument, Outcome::NotSent), "{error}");
        assert!(error.message().contains("compression `runs` (140); it knows none, gzip, zlib"), "{error}");
    };
    for id in 0..20 {
        // Small bodies too, which would not be compressed: it does not depend on the size.
        let with = shop.with(CallOptions::new().compression(own()));
        not_sent(with.echo("small".to_owned()).await.unwrap_err());
        assert_eq!(shop.find(id).await.unwrap().id, id);
    }
    server.shutdown().await;
}

/// A compression that does what the body asks for.
struct Faulty;

impl CustomCompression for Faulty {
    fn number(&self) -> u8 {
        141
    }

    fn name(&self) -> &str {
        "faulty"
    }

    fn compress(&self, body: &[u8]) -> Option<Vec<u8>> {
        let body = String::from_utf8_lossy(body);
        if body.contains("panic in compress") {
            panic!("as asked");
        }
        ["lie", "fail", "panic"].into_iter().find(|what| body.contains(what)).map(|what| what.as_bytes().to_vec())
    }

    fn expand(&self, compressed: &[u8], limit: usize) -> Result<Vec<u8>, CustomError> {
        match compressed {
            b"lie" => Ok(vec![b' '; limit + 1]),
            b"fail" => Err("as asked".into()),
            _ => panic!("as asked"),
        }
    }
}

#[tokio::test]
async fn a_faulty_compression_fails_its_own_calls_alone() {
    let (server, registry) = shop::server().await;
    let faulty = Compression::custom(Faulty).unwrap();
    let server = server.compression(faulty.clone()).start().await.unwrap();
    let proxy = ClientProxy::builder(registry).compression(faulty).build().unwrap();
    let shop = ShopClient::new(&proxy);
    let healthy = ShopClient::new(proxy.with(CallOptions::new().compression(Compression::None)));
    let long = |what: &str| what.repeat(1000);
    for (text, code, outcome) in [
        ("panic in compress", Code::InvalidArgument, Outcome::NotSent),
        ("lie", Code::ResourceExhausted, Outcome::Refused),
        ("fail", Code::InvalidArgument, Outcome::Refused),
        ("panic", Code::InvalidArgument, Outcome::Refused),
    ] {
        let (failed, other) = tokio::join!(shop.echo(long(text)), healthy.find(5));
        let error = failed.unwrap_err();
        assert_eq!((error.code(), error.outcome()), (code, outcome), "{text}: {error}");
        assert!(error.message().contains("faulty"), "{text}: {error}");
        assert_eq!(other.unwrap().id, 5, "after {text}");
    }
    // The answer alone is compressed: the request is too, but for its setting.
    let error = healthy.echo(long("panic in compress")).await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Code::Internal, Outcome::Answered), "{error}");
    assert!(error.message().contains("`faulty`"), "{error}");
    for text in ["lie", "fail", "panic"] {
        let error = healthy.echo(long(text)).await.unwrap_err();
        assert_eq!((error.code(), error.outcome()), (Code::Internal, Outcome::Unknown), "{text}: {error}");
        assert!(error.message().contains("faulty"), "{text}: {error}");
        assert_eq!(healthy.find(5).await.unwrap().id, 5, "after {text}");
    }
    server.shutdown().await;
}

#[tokio::test]
async fn numbers_are_checked() {
    struct Numbered(u8);

    impl CustomCompression for Numbered {
        fn number(&self) -> u8 {
            self.0
        }

        fn name(&self) -> &str {
            "numbered"
        }

        fn compress(&self, _: &[u8]) -> Option<Vec<u8>> {
            None
        }

        fn expand(&self, _: &[u8], _: usize) -> Result<Vec<u8>, CustomError> {
            Err("never".into())
        }
    }

    for number in [3, 127, 255] {
        let error = Compression::custom(Numbered(number)).unwrap_err().to_string();
        assert!(error.contains(&format!("`numbered` has the number {number}: use one from 128 to 254")), "{error}");
    }
    let (server, _) = shop::server().await;
    let twice = server.compression(own()).compression(Compression::custom(Numbered(140)).unwrap());
    let error = twice.start().await.unwrap_err().to_string();
    assert!(error.contains("`runs` and `numbered` have the same number 140"), "{error}");
}
