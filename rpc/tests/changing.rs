//! A service whose definition changes: callers of each definition with servers of the other, in every codec. No pair of
//! definitions may misread the other in silence: a call works, or its error names what differs.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

use std::time::Duration;

use ms_rpc::{CallError, Client, Code, Codec, Outcome, RunningServer, Server, Service, ServiceError, Status};
use serde::{Deserialize, Serialize};

macro_rules! error {
    ($name:ident { $($variant:ident),* }) => {
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
        pub enum $name {
            $(#[error("the goods say {self:?}")] $variant,)*
        }

        impl ServiceError for $name {
            fn code(&self) -> Code {
                Code::OutOfRange
            }
        }
    };
}

/// The definition as it was, and what it became: every method has the name of its change.
mod old {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub struct Grown {
        pub id: i64,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub struct Item {
        pub id: u64,
        pub nested: Vec<Option<Self>>,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub enum Kind {
        Plain,
        Priced(u32),
    }

    error!(GoodsError { Missing });

    #[ms_rpc::service(name = "goods")]
    pub trait Goods {
        async fn same(&self, item: Kind) -> Result<u64, GoodsError>;
        async fn argument_type(&self, number: u64) -> String;
        async fn swapped(&self, a: u32, b: u32) -> String;
        async fn field_added(&self, item: Grown) -> Grown;
        async fn field_type(&self, item: Item) -> String;
        async fn option_added(&self, id: u32) -> String;
        async fn only_options(&self) -> String;
        async fn argument_added(&self, id: u32) -> String;
        async fn result_variant(&self, known: bool) -> Kind;
        async fn error_variant(&self, known: bool) -> Result<u32, GoodsError>;
        async fn result_type(&self) -> u64;
        async fn removed(&self) -> u32;
        async fn before(&self) -> u32;
    }

    #[derive(Clone)]
    pub struct Shop;

    impl Goods for Shop {
        async fn same(&self, item: Kind) -> Result<u64, GoodsError> {
            if item == Kind::Plain { Ok(7) } else { Err(GoodsError::Missing) }
        }
        async fn argument_type(&self, number: u64) -> String {
            number.to_string()
        }
        async fn swapped(&self, a: u32, b: u32) -> String {
            format!("a {a} b {b}")
        }
        async fn field_added(&self, item: Grown) -> Grown {
            item
        }
        async fn field_type(&self, item: Item) -> String {
            item.id.to_string()
        }
        async fn option_added(&self, id: u32) -> String {
            id.to_string()
        }
        async fn only_options(&self) -> String {
            "none".to_owned()
        }
        async fn argument_added(&self, id: u32) -> String {
            id.to_string()
        }
        async fn result_variant(&self, _: bool) -> Kind {
            Kind::Priced(3)
        }
        async fn error_variant(&self, _: bool) -> Result<u32, GoodsError> {
            Err(GoodsError::Missing)
        }
        async fn result_type(&self) -> u64 {
            5
        }
        async fn removed(&self) -> u32 {
            1
        }
        async fn before(&self) -> u32 {
            1
        }
    }
}

mod new {
    use super::*;
    pub use crate::old::Kind as OldKind;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub struct Grown {
        pub id: i64,
        #[serde(default)]
        pub name: String,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub struct Item {
        pub id: i64,
        pub nested: Vec<Option<Self>>,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub enum Kind {
        Rare,
        Plain,
        Priced(u32),
    }

    error!(GoodsError { Missing, SoldOut });

    mod same {
        pub(super) use crate::old::{GoodsError, Kind};
    }

    #[ms_rpc::service(name = "goods")]
    pub trait Goods {
        async fn argument_type(&self, number: i64) -> String;
        async fn swapped(&self, b: u32, a: u32) -> String;
        async fn field_added(&self, item: Grown) -> Grown;
        async fn field_type(&self, item: Item) -> String;
        async fn option_added(&self, id: u32, filter: Option<String>, most: Option<Vec<u8>>) -> String;
        async fn only_options(&self, filter: Option<u8>) -> String;
        async fn argument_added(&self, id: u32, count: u32) -> String;
        async fn result_variant(&self, known: bool) -> Kind;
        async fn error_variant(&self, known: bool) -> Result<u32, GoodsError>;
        async fn result_type(&self) -> i64;
        async fn added(&self) -> u32;
        async fn after(&self) -> u32;
    }

    #[derive(Clone)]
    pub struct Shop;

    impl Goods for Shop {
        async fn argument_type(&self, number: i64) -> String {
            number.to_string()
        }
        async fn swapped(&self, b: u32, a: u32) -> String {
            format!("a {a} b {b}")
        }
        async fn field_added(&self, item: Grown) -> Grown {
            item
        }
        async fn field_type(&self, item: Item) -> String {
            item.id.to_string()
        }
        async fn option_added(&self, id: u32, filter: Option<String>, most: Option<Vec<u8>>) -> String {
            format!("{id} {filter:?} {most:?}")
        }
        async fn only_options(&self, filter: Option<u8>) -> String {
            format!("{filter:?}")
        }
        async fn argument_added(&self, id: u32, count: u32) -> String {
            format!("{id} {count}")
        }
        async fn result_variant(&self, known: bool) -> Kind {
            if known { Kind::Priced(3) } else { Kind::Rare }
        }
        async fn error_variant(&self, known: bool) -> Result<u32, GoodsError> {
            Err(if known { GoodsError::Missing } else { GoodsError::SoldOut })
        }
        async fn result_type(&self) -> i64 {
            -5
        }
        async fn added(&self) -> u32 {
            1
        }
        async fn after(&self) -> u32 {
            1
        }
    }

    /// The method that did not change, in a trait that grew.
    #[ms_rpc::service(name = "goods")]
    pub trait Unchanged {
        async fn more(&self) -> u32;
        async fn same(&self, item: same::Kind) -> Result<u64, same::GoodsError>;
    }
}

async fn serve(service: impl Service) -> RunningServer {
    Server::bind("127.0.0.1:0").await.unwrap().serve(service).start().await.unwrap()
}

/// Clients in every codec, each on a connection of its own.
async fn clients(server: &RunningServer) -> Vec<(Codec, Client)> {
    let mut clients = Vec::new();
    for codec in Codec::ALL {
        let builder = Client::builder().codec(codec.clone()).deadline(Duration::from_secs(10));
        clients.push((codec, builder.connect(&server.address().to_string()).await.unwrap()));
    }
    clients
}

/// The call was refused before the method ran, with these definitions in the error.
#[track_caller]
fn differ(codec: &Codec, status: &Status, texts: &[&str]) {
    assert_eq!((status.code(), status.outcome()), (Code::FailedPrecondition, Outcome::Refused), "{codec}: {status}");
    for text in texts.iter().chain(&["serve_as"]) {
        assert!(status.message().contains(text), "{codec}: {status}\nhas no {text}");
    }
}

#[track_caller]
fn status<T: std::fmt::Debug, E: std::fmt::Debug>(result: Result<T, CallError<E>>) -> Status {
    match result {
        Err(CallError::Status(status)) => status,
        other => panic!("{other:?}"),
    }
}

const OLD_NUMBER: &str = "argument_type(number: u64) -> String";
const NEW_NUMBER: &str = "argument_type(number: i64) -> String";

#[tokio::test]
async fn old_callers_of_a_new_server() {
    let server = serve(new::GoodsServer::new(new::Shop)).await;
    for (codec, client) in clients(&server).await {
        let goods = old::GoodsClient::new(client);
        for _ in 0..2 {
            differ(&codec, &goods.argument_type(5).await.unwrap_err(), &[OLD_NUMBER, NEW_NUMBER]);
        }
        differ(&codec, &goods.swapped(1, 2).await.unwrap_err(), &["swapped(a: u32, b: u32)", "swapped(b: u32, a: u32)"]);
        let added = goods.argument_added(1).await.unwrap_err();
        differ(&codec, &added, &["argument_added(id: u32)", "argument_added(id: u32, count: u32)"]);
        differ(&codec, &goods.result_type().await.unwrap_err(), &["result_type() -> u64", "result_type() -> i64"]);
        assert_eq!(goods.option_added(1).await.unwrap(), "1 None None");
        assert_eq!(goods.only_options().await.unwrap(), "None");
        for missing in [goods.removed().await.unwrap_err(), goods.before().await.unwrap_err()] {
            assert_eq!((missing.code(), missing.outcome()), (Code::Unimplemented, Outcome::Refused));
            assert!(missing.message().contains("added, after"), "{missing}");
        }
        let grown = goods.field_added(old::Grown { id: 3 }).await;
        let item = goods.field_type(old::Item { id: 5, nested: Vec::new() }).await;
        if codec == Codec::Bincode {
            let field = "the server: `item: struct Grown (id, name)`, the caller: `item: struct Grown (id)`";
            differ(&codec, &grown.unwrap_err(), &["field_added(item: Grown) -> Grown", field]);
            let field = "the server: `item.id: i64`, the caller: `item.id: u64`";
            differ(&codec, &item.unwrap_err(), &["field_type(item: Item) -> String", field]);
            let variant = "enum Kind (Rare, Plain, Priced)";
            differ(&codec, &goods.result_variant(true).await.unwrap_err(), &[variant]);
            let variant = "the server: `the error: enum GoodsError (Missing, SoldOut)`";
            differ(&codec, &status(goods.error_variant(true).await), &[variant]);
        } else {
            assert_eq!(grown.unwrap().id, 3);
            assert_eq!(item.unwrap(), "5");
            assert_eq!(goods.result_variant(true).await.unwrap(), old::Kind::Priced(3));
            let unknown = goods.result_variant(false).await.unwrap_err();
            for text in
                ["result_variant(known: bool) -> Kind", "Rare", "definitions of the two sides differ", "serve_as"]
            {
                assert!(unknown.message().contains(text), "{unknown}");
            }
            assert!(matches!(goods.error_variant(true).await, Err(CallError::Service(old::GoodsError::Missing))));
            let unknown = status(goods.error_variant(false).await);
            assert_eq!((unknown.code(), unknown.outcome()), (Code::OutOfRange, Outcome::Answered));
            for text in ["the goods say SoldOut", "unknown variant", "Result<u32, GoodsError>", "serve_as"] {
                assert!(unknown.message().contains(text), "{unknown}");
            }
            assert_eq!(unknown.service_error::<new::GoodsError>().unwrap().unwrap(), new::GoodsError::SoldOut);
        }
    }
}

#[tokio::test]
async fn new_callers_of_an_old_server() {
    let server = serve(old::GoodsServer::new(old::Shop)).await;
    for (codec, client) in clients(&server).await {
        let goods = new::GoodsClient::new(client);
        differ(&codec, &goods.argument_type(-5).await.unwrap_err(), &[OLD_NUMBER, NEW_NUMBER]);
        differ(&codec, &goods.swapped(1, 2).await.unwrap_err(), &["swapped(a: u32, b: u32)", "swapped(b: u32, a: u32)"]);
        let added = goods.option_added(1, Some("x".to_owned()), None).await.unwrap_err();
        differ(&codec, &added, &["`option_added(id: u32) -> String`", "most: Option<Vec<u8>>) -> String"]);
        differ(&codec, &goods.only_options(None).await.unwrap_err(), &["only_options()", "(filter: Option<u8>)"]);
        let added = goods.argument_added(1, 2).await.unwrap_err();
        differ(&codec, &added, &["argument_added(id: u32)", "argument_added(id: u32, count: u32)"]);
        differ(&codec, &goods.result_type().await.unwrap_err(), &["result_type() -> u64", "result_type() -> i64"]);
        for missing in [goods.added().await.unwrap_err(), goods.after().await.unwrap_err()] {
            assert_eq!((missing.code(), missing.outcome()), (Code::Unimplemented, Outcome::Refused));
            assert!(missing.message().contains("removed, before"), "{missing}");
        }
        let grown = goods.field_added(new::Grown { id: 3, name: "n".to_owned() }).await;
        let item = goods.field_type(new::Item { id: -5, nested: Vec::new() }).await.unwrap_err();
        if codec == Codec::Bincode {
            differ(&codec, &grown.unwrap_err(), &["field_added(item: Grown) -> Grown"]);
            differ(&codec, &item, &["field_type(item: Item) -> String", "`item.id: u64`"]);
            differ(&codec, &goods.result_variant(true).await.unwrap_err(), &["enum Kind (Plain, Priced)"]);
            differ(&codec, &status(goods.error_variant(true).await), &["enum GoodsError (Missing)"]);
        } else {
            assert_eq!(grown.unwrap(), new::Grown { id: 3, name: String::new() });
            assert_eq!(item.code(), Code::InvalidArgument);
            for text in ["field_type(item: Item) -> String", "`-5`", "u64"] {
                assert!(item.message().contains(text), "{item}");
            }
            assert_eq!(goods.result_variant(true).await.unwrap(), new::Kind::Priced(3));
            assert!(matches!(goods.error_variant(true).await, Err(CallError::Service(new::GoodsError::Missing))));
        }
    }
}

/// The written types have another path in the other trait: that is another definition.
#[tokio::test]
async fn types_are_compared_as_they_are_written() {
    let server = serve(old::GoodsServer::new(old::Shop)).await;
    for (codec, client) in clients(&server).await {
        let same = old::GoodsClient::new(client.clone());
        assert_eq!(same.same(old::Kind::Plain).await.unwrap(), 7);
        let refused = status(new::UnchangedClient::new(client.clone()).same(new::OldKind::Plain).await);
        differ(&codec, &refused, &["same(item: Kind) -> Result<u64, GoodsError>", "same::Kind"]);
        // The next call on the same connection is judged by itself.
        assert!(matches!(same.same(old::Kind::Priced(1)).await, Err(CallError::Service(old::GoodsError::Missing))));
    }
}

#[tokio::test]
async fn callers_by_names_may_leave_out_the_options_at_the_end() {
    use serde_json::json;
    let server = serve(new::GoodsServer::new(new::Shop)).await;
    for (_, client) in clients(&server).await {
        for arguments in [json!([1]), json!([1, null]), json!([1, null, null]), json!({"id": 1})] {
            assert_eq!(client.call("goods", "option_added", &arguments).await.unwrap(), json!("1 None None"));
        }
        let channel = ms_rpc::AnyChannel::from(client.clone());
        let text: String = channel.call_as("goods", "option_added", &(1u32, Some("x"))).await.unwrap();
        assert_eq!(text, "1 Some(\"x\") None");
        let text: String = channel.call_as("goods", "only_options", &()).await.unwrap();
        assert_eq!(text, "None");
        for (arguments, text) in
            [(json!([]), "0 were sent"), (json!([1, null, null, 4]), "4 were sent"), (json!({}), "`id`")]
        {
            let refused = client.call("goods", "option_added", &arguments).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument);
            assert!(refused.message().contains(text), "{refused}");
        }
    }
}

/// The way to change what cannot be changed: both definitions side by side, each under a name of its own.
#[tokio::test]
async fn two_versions_side_by_side() {
    let server = Server::bind("127.0.0.1:0").await.unwrap();
    let server = server.serve(old::GoodsServer::new(old::Shop)).serve_as("goods.v2", new::GoodsServer::new(new::Shop));
    let server = server.start().await.unwrap();
    for (_, client) in clients(&server).await {
        assert_eq!(old::GoodsClient::new(client.clone()).argument_type(5).await.unwrap(), "5");
        assert_eq!(new::GoodsClient::named("goods.v2", client).argument_type(-5).await.unwrap(), "-5");
    }
}
