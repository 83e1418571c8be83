//! A codec of the user's own: postcard. The first 45 lines are all that it takes.

#![allow(clippy::unwrap_used)]

mod shop;

use ms_rpc::{
    CallOptions, Client, ClientProxy, Code, Codec, CustomCodec, CustomError, Outcome, ReadValue, Status, erased_serde,
};
use shop::{Item, Missing, ShopClient};

/// postcard (<https://postcard.jamesmunns.com>).
struct Postcard;

impl CustomCodec for Postcard {
    fn number(&self) -> u8 {
        130
    }

    fn name(&self) -> &str {
        "postcard"
    }

    fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>, CustomError> {
        Ok(postcard::to_allocvec(value)?)
    }

    fn decode(&self, bytes: &[u8], value: ReadValue<'_>) -> Result<(), CustomError> {
        let mut deserializer = postcard::Deserializer::from_bytes(bytes);
        value.read(&mut deserializer)?;
        match deserializer.finalize()? {
            [] => Ok(()),
            rest => Err(format!("{} trailing bytes", rest.len()).into()),
        }
    }
}

fn own() -> Codec {
    Codec::custom(Postcard).unwrap()
}

#[tokio::test]
async fn a_server_and_a_proxy_speak_it() {
    let (server, registry) = shop::server().await;
    let server = server.codec(own()).start().await.unwrap();
    let proxy = ClientProxy::builder(registry).codec(own()).build().unwrap();
    let shop = ShopClient::new(&proxy);
    assert_eq!(shop.find(5).await.unwrap(), Item { id: 5, tags: vec!["a".to_owned(); 3] });
    assert_eq!(shop.find(-5).await.unwrap_err().service(), Some(&Missing(-5)));
    let long = "text ".repeat(20_000);
    assert_eq!(shop.echo(long.clone()).await.unwrap(), long);
    assert_eq!(proxy.call_as::<_, Item>("shop", "find", &(7i64,)).await.unwrap().id, 7);
    // Chosen for one call, on a client of another codec.
    let client = Client::connect(&server.address().to_string()).await.unwrap();
    for codec in [own(), Codec::Json, Codec::MessagePack] {
        let shop = ShopClient::new(client.with(CallOptions::new().codec(codec)));
        assert_eq!(shop.find(6).await.unwrap().id, 6);
        assert_eq!(shop.find(-6).await.unwrap_err().service(), Some(&Missing(-6)));
    }
    assert_eq!(ShopClient::new(ms_rpc::Local::new(shop::ShopServer::new(shop::TestShop))).find(1).await.unwrap().id, 1);
    server.shutdown().await;
}

#[tokio::test]
async fn a_server_without_it_is_not_sent_to() {
    let (server, registry) = shop::server().await;
    let server = server.start().await.unwrap();
    let proxy = ClientProxy::new(registry);
    let not_sent = |error: Status| {
        assert_eq!((error.code(), error.outcome()), (Code::InvalidArgument, Outcome::NotSent), "{error}");
        assert!(error.message().contains("`postcard` (130); it knows bincode, json, messagepack"), "{error}");
    };
    let shop = ShopClient::new(&proxy);
    // More failures than an ejection takes: the instance is called on, and the connection is the same.
    for id in 0..20 {
        not_sent(shop.with(CallOptions::new().codec(own())).echo("no".to_owned()).await.unwrap_err());
        assert_eq!(shop.find(id).await.unwrap().id, id);
    }
    let client = Client::builder().codec(own()).connect(&server.address().to_string()).await.unwrap();
    not_sent(ShopClient::new(client.clone()).echo("no".to_owned()).await.unwrap_err());
    let shop = ShopClient::new(client.with(CallOptions::new().codec(Codec::Bincode)));
    assert_eq!(shop.find(5).await.unwrap().id, 5);

    // Within the process the server itself refuses it.
    let local = server.local().with(CallOptions::new().codec(own()));
    let error = ShopClient::new(local).echo("no".to_owned()).await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Code::InvalidArgument, Outcome::Refused));
    assert!(error.message().contains("codec 130 is unknown here: use bincode, json, messagepack"), "{error}");
    server.shutdown().await;
}

/// A codec that goes wrong for texts that ask for it, and is JSON for others.
struct Faulty;

impl CustomCodec for Faulty {
    fn number(&self) -> u8 {
        131
    }

    fn name(&self) -> &str {
        "faulty"
    }

    fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>, CustomError> {
        let text = serde_json::to_string(value)?;
        match &text {
            text if text.contains("panic in encode") => panic!("as asked"),
            text if text.contains("forget in encode") => Ok(b"[]".to_vec()),
            // The answer is a text, the arguments are a list of one.
            text if text.starts_with('"') && text.contains("panic in the answer") => panic!("as asked"),
            _ => Ok(text.into_bytes()),
        }
    }

    fn decode(&self, bytes: &[u8], value: ReadValue<'_>) -> Result<(), CustomError> {
        let text = String::from_utf8(bytes.to_vec())?;
        match &text {
            text if text.contains("panic in decode") => panic!("as asked"),
            text if text.contains("forget in decode") => Ok(()),
            text if text.contains("hide in decode") => {
                let _ = value.read(&mut serde_json::Deserializer::from_str("{}"));
                Ok(())
            }
            text => value.read(&mut serde_json::Deserializer::from_str(text)),
        }
    }
}

#[tokio::test]
async fn a_faulty_codec_fails_its_own_calls_alone() {
    let (server, registry) = shop::server().await;
    let faulty = Codec::custom(Faulty).unwrap();
    let server = server.codec(faulty.clone()).start().await.unwrap();
    let proxy = ClientProxy::builder(registry).codec(faulty).build().unwrap();
    let (shop, healthy) = (ShopClient::new(&proxy), ShopClient::new(proxy.with(CallOptions::new().codec(Codec::Json))));
    assert_eq!(shop.echo("fine".to_owned()).await.unwrap(), "fine");
    for (text, outcome) in [
        ("panic in encode", Outcome::NotSent),
        ("panic in decode", Outcome::Answered),
        ("forget in decode", Outcome::Answered),
        ("hide in decode", Outcome::Answered),
        ("panic in the answer", Outcome::Answered),
    ] {
        let (failed, other) = tokio::join!(shop.echo(text.to_owned()), healthy.find(5));
        let error = failed.unwrap_err();
        assert_eq!(error.outcome(), outcome, "{text}: {error}");
        assert!(error.message().contains("codec `faulty` (131)"), "{text}: {error}");
        assert_eq!(other.unwrap().id, 5, "after {text}");
    }
    // A value that was left out is an error at the other side.
    let error = shop.echo("forget in encode".to_owned()).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    server.shutdown().await;
}

#[tokio::test]
async fn numbers_are_checked() {
    struct Numbered(u8);

    impl CustomCodec for Numbered {
        fn number(&self) -> u8 {
            self.0
        }

        fn name(&self) -> &str {
            "numbered"
        }

        fn encode(&self, _: &dyn erased_serde::Serialize) -> Result<Vec<u8>, CustomError> {
            Ok(Vec::new())
        }

        fn decode(&self, _: &[u8], _: ReadValue<'_>) -> Result<(), CustomError> {
            Ok(())
        }
    }

    for number in [0, 2, 3, 127, 255] {
        let error = Codec::custom(Numbered(number)).unwrap_err().to_string();
        assert!(error.contains(&format!("`numbered` has the number {number}: use one from 128 to 254")), "{error}");
    }
    for number in [128, 254] {
        Codec::custom(Numbered(number)).unwrap();
    }
    let (server, _) = shop::server().await;
    let error = server.codec(own()).codec(Codec::custom(Numbered(130)).unwrap()).start().await.unwrap_err().to_string();
    assert!(error.contains("`postcard` and `numbered` have the same number 130"), "{error}");
}
