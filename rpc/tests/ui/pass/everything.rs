//! Every form that a service may have, called once without a socket.
#![deny(warnings, missing_docs)]

use std::collections::HashMap;

use ms_rpc::{Blob, CallError, CallOptions, Code, Context, Execution, Local, ServiceError};
use serde::{Deserialize, Serialize};

/// An argument whose name the generated code could use itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Arguments {
    /// Any.
    pub count: u32,
}

/// An error with a code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum GoodsError {
    /// No such id.
    Missing(i64),
}

impl std::fmt::Display for GoodsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("missing")
    }
}

impl std::error::Error for GoodsError {}

impl ServiceError for GoodsError {
    fn code(&self) -> Code {
        Code::NotFound
    }
}

/// Docs on the trait.
#[ms_rpc::service]
#[allow(clippy::too_many_arguments)]
pub trait GoodsCenter {
    /// Docs on a method.
    #[idempotent]
    async fn find(&self, id: i64) -> Result<String, GoodsError>;
    /// Nothing in, nothing out.
    async fn nothing(&self);
    /// The context only.
    #[compute]
    async fn remaining(&self, ctx: Context) -> bool;
    /// The context under its whole path, another name, and more.
    #[idempotent]
    #[compute]
    async fn both(&self, _context: ms_rpc::Context, a: u8, b: String) -> std::result::Result<u8, GoodsError>;
    /// Names that are keywords.
    #[blocking]
    async fn r#match(&self, r#type: String, r#fn: Option<Vec<u8>>) -> String;
    /// Names that the generated code could use itself.
    async fn names(&self, ctx: Context, request: u8, service: u8, context: u8, arguments: Arguments, reply: u8) -> u32;
    /// As many as there can be.
    async fn many(
        &self,
        a: u8, b: u16, c: u32, d: u64, e: i8, f: i16, g: i32, h: i64,
        i: f32, j: f64, k: bool, l: char, m: String, n: (u8, u8), o: HashMap<String, u8>, p: Blob,
    ) -> (u8, Blob);
}

/// The crate under another path.
pub mod elsewhere {
    pub use ms_rpc;

    /// A service whose code finds the crate there.
    #[ms_rpc::service(name = "second", crate = crate::elsewhere::ms_rpc)]
    pub trait Second {
        /// The next number.
        async fn next(&self, number: u8) -> u8;
    }
}

struct Shop;

impl elsewhere::Second for Shop {
    async fn next(&self, number: u8) -> u8 {
        number + 1
    }
}

impl GoodsCenter for Shop {
    async fn find(&self, id: i64) -> Result<String, GoodsError> {
        if id > 1000 { Err(GoodsError::Missing(id)) } else { Ok(id.to_string()) }
    }

    async fn nothing(&self) {}

    async fn remaining(&self, ctx: Context) -> bool {
        !ctx.remaining().is_zero()
    }

    async fn both(&self, _context: Context, a: u8, b: String) -> Result<u8, GoodsError> {
        Ok(a + b.len() as u8)
    }

    async fn r#match(&self, r#type: String, r#fn: Option<Vec<u8>>) -> String {
        format!("{type} {}", r#fn.unwrap_or_default().len())
    }

    async fn names(&self, _: Context, request: u8, service: u8, context: u8, arguments: Arguments, reply: u8) -> u32 {
        u32::from(request + service + context + reply) + arguments.count
    }

    #[rustfmt::skip]
    async fn many(
        &self,
        a: u8, _: u16, _: u32, _: u64, _: i8, _: i16, _: i32, _: i64,
        _: f32, _: f64, _: bool, _: char, _: String, _: (u8, u8), _: HashMap<String, u8>, p: Blob,
    ) -> (u8, Blob) {
        (a, p)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    assert_eq!(GoodsCenterClient::DESCRIPTOR.name, "goods_center");
    let matching = GoodsCenterClient::DESCRIPTOR.methods[4];
    assert_eq!((matching.name, matching.arguments), ("match", &["type", "fn"][..]));
    let idempotent: Vec<_> = GoodsCenterClient::DESCRIPTOR.methods.iter().map(|method| method.idempotent).collect();
    assert_eq!(idempotent, [true, false, false, true, false, false, false]);
    let execution: Vec<_> = GoodsCenterClient::DESCRIPTOR.methods.iter().map(|method| method.execution).collect();
    let (inline, compute, blocking) = (Execution::Inline, Execution::Compute, Execution::Blocking);
    assert_eq!(execution, [inline, inline, compute, compute, blocking, inline, inline]);

    let goods = GoodsCenterClient::new(Local::new(GoodsCenterServer::new(Shop)));
    assert_eq!(goods.find(5).await.unwrap(), "5");
    assert!(matches!(goods.find(5000).await, Err(CallError::Service(GoodsError::Missing(5000)))));
    goods.nothing().await.unwrap();
    assert!(goods.with(CallOptions::new()).remaining().await.unwrap());
    assert_eq!(goods.both(1, "abc".to_owned()).await.unwrap(), 4);
    assert_eq!(goods.r#match("a".to_owned(), Some(vec![1])).await.unwrap(), "a 1");
    assert_eq!(goods.names(1, 2, 3, Arguments { count: 4 }, 5).await.unwrap(), 15);
    let second = elsewhere::SecondClient::new(Local::new(elsewhere::SecondServer::new(Shop)));
    assert_eq!(second.next(1).await.unwrap(), 2);
    let blob = Blob::from(vec![7; 10]);
    let many = goods.many(
        1, 2, 3, 4, 5, 6, 7, 8, 9.0, 10.0, true, 'l', "m".to_owned(), (1, 2), HashMap::new(), blob.clone(),
    );
    assert_eq!(many.await.unwrap(), (1, blob));
}
