//! msgo's clients as guests of a server.

use std::{io, pin::pin, time::Duration};

use async_trait::async_trait;
use futures_util::stream::{FuturesUnordered, StreamExt};
use ms_rpc::{AnyChannel, CallOptions, Code, Guest, Local, Protocol, Status};
use prost::Message;
use prost_types::{Struct, Value as Protobuf, value::Kind};
use serde_json::Value;
use tokio::{io::AsyncWriteExt, task::spawn_blocking, time::timeout};

use crate::{
    frame::{BadBody, FIRST, Frame, GOB, PROTOBUF, kind},
    frames::Frames,
    gob,
    message::{NO_METHOD, NO_SERVICE, Request, Response, code, from_json, may_be_rounded, to_json},
    names,
};

/// msgo's version-1 frames, for [`Server::protocol`](ms_rpc::Server::protocol).
///
/// A method is found by its name, by its name but for the case of the first letter, or by its name in snake case: `FindAll` calls
/// `find_all`. Calls have 5 s. A connection serves any number of requests, up to 64 at a time, and their answers come as they are
/// ready. Codes of answers: 200; 700 when a limit refuses; 500 with the error as text for everything else.
///
/// ```no_run
/// # #[ms_rpc::service(name = "goods")]
/// # pub trait Goods { async fn find(&self, id: i64) -> String; }
/// # struct Shop;
/// # impl Goods for Shop { async fn find(&self, id: i64) -> String { id.to_string() } }
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let server = ms_rpc::Server::bind("127.0.0.1:9112").await?
///     .protocol(ms_msgo::Version1)
///     .serve(GoodsServer::new(Shop))
///     .start().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Version1;

/// Requests of one connection that are executed at a time: further ones are read later.
const AT_A_TIME: usize = 64;
/// Time of a call.
const DEADLINE: Duration = Duration::from_secs(5);
/// Time for a client to take its answers.
const WRITING: Duration = Duration::from_secs(10);
/// Bodies above this size, in bytes, are expanded and compressed on a thread that may be busy.
const LARGE: usize = 64 << 10;

#[async_trait]
impl Protocol for Version1 {
    fn first_bytes(&self) -> [u8; 2] {
        FIRST
    }

    async fn serve(&self, guest: Guest) -> io::Result<()> {
        let (ending, services, most) = (guest.ending(), guest.services(), guest.limits().max_frame);
        let patience = guest.limits().hello_timeout;
        let (reader, mut writer) = guest.into_stream().into_split();
        let (mut frames, mut calls) = (Frames::new(reader, most, patience), FuturesUnordered::new());
        let (mut draining, mut reads) = (pin!(ending.draining()), true);
        loop {
            let answer = tokio::select! {
                Some(answer) = calls.next() => answer,
                frame = frames.next(), if reads && calls.len() < AT_A_TIME => match frame? {
                    None => {
                        reads = false;
                        continue;
                    }
                    Some(frame) if frame.kind == kind::REQUEST => {
                        calls.push(answer(&services, frame, most));
                        continue;
                    }
                    Some(frame) if frame.kind == kind::PING => Frame::sign(kind::PONG, frame.id),
                    Some(_) => continue,
                },
                () = &mut draining, if reads => {
                    reads = false;
                    continue;
                }
                else => return Ok(()),
            };
            let bytes = answer.to_bytes().map_err(io::Error::other)?;
            let slow = |_| io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answers");
            timeout(WRITING, writer.write_all(&bytes)).await.map_err(slow)??;
        }
    }
}

/// The frame that answers a request.
async fn answer(services: &Local, frame: Frame, most: usize) -> Frame {
    let id = frame.id;
    if frame.serializer == GOB {
        let body = gob::response(id, code::FAILED.into(), "gob is not supported: use protobuf");
        return Frame::with_body(kind::RESPONSE, GOB, id, &body).unwrap_or_else(|_| Frame::sign(kind::RESPONSE, id));
    }
    let response = match call(services, frame, most).await {
        Ok(response) => response,
        Err(failure) => failure.into(),
    };
    let serialize_type = PROTOBUF.into();
    let body = Response { request_id: id as i64, serialize_type, ..response }.encode_to_vec();
    let compressed = compute(body.len(), move || Frame::with_body(kind::RESPONSE, PROTOBUF, id, &body)).await;
    // Memory cannot fail to be written.
    compressed.and_then(Result::ok).unwrap_or_else(|| Frame::sign(kind::RESPONSE, id))
}

/// Code and text of an error.
struct Failure(i32, String);

impl Failure {
    fn new(text: impl Into<String>) -> Self {
        Self(code::FAILED, text.into())
    }
}

impl From<Failure> for Response {
    /// msgo's own client takes the data for the response, and gives the rest to nobody: code and text are in both.
    fn from(Failure(code, msg): Failure) -> Self {
        let text = |text: &str| Protobuf { kind: Some(Kind::StringValue(text.to_owned())) };
        let number = Protobuf { kind: Some(Kind::NumberValue(code.into())) };
        let fields = [("Code".to_owned(), number), ("Msg".to_owned(), text(&msg))].into();
        let data = Some(Protobuf { kind: Some(Kind::StructValue(Struct { fields })) });
        Self { code, msg, data, ..Self::default() }
    }
}

impl From<BadBody> for Failure {
    fn from(bad: BadBody) -> Self {
        Self::new(bad.to_string())
    }
}

async fn call(services: &Local, frame: Frame, most: usize) -> Result<Response, Failure> {
    if frame.serializer != PROTOBUF {
        return Err(Failure::new(format!("serializer {} is not known: 1 (protobuf) is", frame.serializer)));
    }
    let expanded = compute(frame.body.len(), move || frame.expand(most)).await;
    let body = expanded.ok_or_else(|| Failure::new("the server is shutting down"))??;
    let request =
        Request::decode(&*body).map_err(|error| Failure::new(format!("the request does not parse: {error}")))?;
    let known = services.methods(&request.service_name).ok_or_else(|| Failure::new(NO_SERVICE))?;
    let method = names::find(&request.method_name, &known).ok_or_else(|| Failure::new(NO_METHOD))?;
    let arguments = request.args.into_iter().map(to_json).collect::<Result<Vec<_>, _>>();
    let arguments = Value::Array(arguments.map_err(|bad| Failure::new(bad.to_string()))?);
    let channel = AnyChannel::from(services.with(CallOptions::new().deadline(DEADLINE)));
    let value = match channel.call(&request.service_name, method, &arguments).await {
        Ok(value) => value,
        Err(status) => return Err(failure(&status, &arguments)),
    };
    let data = from_json(value).map_err(|bad| Failure::new(format!("the answer cannot be carried: {bad}")))?;
    Ok(Response { code: code::OK, data: Some(data), ..Response::default() })
}

fn failure(status: &Status, arguments: &Value) -> Failure {
    match status.code() {
        // By the server, or by the method itself.
        Code::ResourceExhausted => Failure(code::LIMITED, status.message().to_owned()),
        Code::InvalidArgument if may_be_rounded(arguments) => Failure::new(format!(
            "{}; version 1 carries doubles: integers of 2^53 and beyond may have been rounded, and are refused",
            status.message()
        )),
        _ => Failure::new(status.message()),
    }
}

/// Runs `work` over `bytes` bytes here or, if these are many, on a thread that may be busy; `None` when the runtime ends.
async fn compute<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if bytes < LARGE { Some(work()) } else { spawn_blocking(work).await.ok() }
}
