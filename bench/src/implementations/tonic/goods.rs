//! The service `goods` in protobuf: messages, and the server's dispatch by path.

use std::{
    convert::Infallible,
    future::{Future, Ready},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use tonic::{
    Request, Response, Status,
    body::Body as HttpBody,
    codegen::{BoxFuture, Service},
    server::{Grpc, NamedService, UnaryService},
};
use tonic_prost::ProstCodec;

use crate::peer::{self, item};

/// The path of `find`.
pub(super) const FIND: &str = "/goods.Goods/Find";

/// The path of `echo`.
pub(super) const ECHO: &str = "/goods.Goods/Echo";

/// The path of `compute`.
pub(super) const COMPUTE: &str = "/goods.Goods/Compute";

/// The argument of `find`; the argument and the result of `compute`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Find {
    #[prost(int64, tag = "1")]
    pub(super) id: i64,
}

/// The result of `find`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Item {
    #[prost(int64, tag = "1")]
    pub(super) id: i64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(double, tag = "3")]
    price: f64,
    #[prost(string, repeated, tag = "4")]
    tags: Vec<String>,
}

/// What `echo` takes and gives; decoded without a copy.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Body {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) bytes: Bytes,
}

/// The service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Goods;

impl NamedService for Goods {
    const NAME: &'static str = "goods.Goods";
}

impl Service<http::Request<HttpBody>> for Goods {
    type Response = http::Response<HttpBody>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<HttpBody>) -> Self::Future {
        match request.uri().path() {
            FIND => Box::pin(async { Ok(Grpc::new(ProstCodec::default()).unary(Finding, request).await) }),
            ECHO => Box::pin(async { Ok(Grpc::new(ProstCodec::default()).unary(Echoing, request).await) }),
            COMPUTE => Box::pin(async { Ok(Grpc::new(ProstCodec::default()).unary(Computing, request).await) }),
            _ => Box::pin(async { Ok(Status::unimplemented("no such method").into_http()) }),
        }
    }
}

struct Finding;

impl UnaryService<Find> for Finding {
    type Response = Item;
    type Future = Ready<Result<Response<Item>, Status>>;

    fn call(&mut self, request: Request<Find>) -> Self::Future {
        let (id, tags) = (request.into_inner().id, item::TAGS.map(str::to_owned).into());
        std::future::ready(Ok(Response::new(Item { id, name: item::NAME.to_owned(), price: item::PRICE, tags })))
    }
}

struct Echoing;

impl UnaryService<Body> for Echoing {
    type Response = Body;
    type Future = Ready<Result<Response<Body>, Status>>;

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        std::future::ready(Ok(Response::new(request.into_inner())))
    }
}

struct Computing;

impl UnaryService<Find> for Computing {
    type Response = Find;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Find>, Status>> + Send>>;

    /// In place: tonic has no other place for it.
    fn call(&mut self, request: Request<Find>) -> Self::Future {
        Box::pin(async move { Ok(Response::new(Find { id: peer::compute(request.into_inner().id) })) })
    }
}
