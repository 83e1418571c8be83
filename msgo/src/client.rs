//! Calls to msgo's servers.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use ms_register::MsRegister;
use ms_rpc::{Answer, AnyChannel, Balancer, CallOptions, Channel, Code, Codec, Invocation, Outcome, Picker, Status};
use prost::Message;
use serde_json::Value;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::{
    frame::{Frame, GOB, PROTOBUF, kind},
    frames::Frames,
    gob,
    message::{NO_METHOD, NO_SERVICE, Request, Response, code, from_json, to_json},
    names::exported,
};

/// Calls services of msgo, in protocol buffers: at one address, or found through a registry such as
/// `etcd://127.0.0.1:2379?layout=msgo`.
///
/// Methods are called by their Go names: `find_all` as `FindAll`. A call that a rate limit refused was not executed; a lost answer
/// is `Unavailable` with an unknown outcome. Each call has a connection of its own, since msgo's servers close it after the answer.
///
/// ```no_run
/// # #[ms_rpc::service(name = "goods")]
/// # pub trait Goods { async fn find(&self, id: i64) -> String; }
/// # async fn example() -> Result<(), ms_rpc::Status> {
/// let goods = GoodsClient::new(ms_msgo::MsgoClient::to("127.0.0.1:9111").channel());
/// println!("{}", goods.find(5).await?);
/// # Ok(())
/// # }
/// ```
pub struct MsgoClient {
    targets: Targets,
    last_id: AtomicU64,
}

enum Targets {
    Address(String),
    Found { registry: Arc<dyn MsRegister>, pickers: Mutex<HashMap<String, Picker>> },
}

/// Bound for the answers of servers, in bytes, compressed and not.
const MOST: usize = 16 << 20;
/// What an answer that never came is said to be.
const CLOSED: &str = "it closed the connection, as servers of msgo do for an unknown method or unfit arguments";
/// Instances that a call tries to reach.
const TRIES: usize = 3;
/// Time for a registry's first list, and for a connection.
const FINDING: Duration = Duration::from_secs(3);

impl MsgoClient {
    /// A client of the server at this `host:port`.
    pub fn to(address: impl Into<String>) -> Self {
        Self::new(Targets::Address(address.into()))
    }

    /// A client of all instances that `registry` lists, by turns.
    pub fn through(registry: Arc<dyn MsRegister>) -> Self {
        Self::new(Targets::Found { registry, pickers: Mutex::default() })
    }

    fn new(targets: Targets) -> Self {
        Self { targets, last_id: AtomicU64::new(0) }
    }

    /// The client as a channel of typed clients and calls by names.
    pub fn channel(self) -> AnyChannel {
        AnyChannel::from(Arc::new(self)).with(CallOptions::new().codec(Codec::Json))
    }

    fn picker(
        registry: &Arc<dyn MsRegister>,
        pickers: &Mutex<HashMap<String, Picker>>,
        service: &str,
    ) -> Result<Picker, Status> {
        let mut pickers = pickers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(picker) = pickers.get(service) {
            return Ok(picker.clone());
        }
        let picker = Picker::new(registry.clone(), service, Balancer::RoundRobin)?;
        pickers.insert(service.to_owned(), picker.clone());
        Ok(picker)
    }

    /// Calls an instance; others are asked if it cannot be reached.
    async fn call_one_of(picker: &Picker, request: Request) -> Result<Response, Status> {
        let mut tried = Vec::<String>::new();
        loop {
            let avoid: Vec<_> = tried.iter().map(String::as_str).collect();
            let (pick, began) = (picker.pick(None, &avoid)?, Instant::now());
            let id = pick.id().to_owned();
            let response = Self::call(&pick.address(), request.clone()).await;
            let outcome = response.as_ref().map_or_else(Status::outcome, |_| Outcome::Answered);
            pick.finish(outcome, began.elapsed());
            if outcome != Outcome::NotSent || tried.len() + 1 == TRIES || tried.contains(&id) {
                return response;
            }
            tried.push(id);
        }
    }

    async fn call(address: &str, request: Request) -> Result<Response, Status> {
        let mut stream = connect(address).await?;
        let broken = |reason: &dyn fmt::Display| {
            Status::new(Code::Internal, format!("the answer of {address} is none: {reason}"))
                .with_outcome(Outcome::Unknown)
        };
        let lost = |reason: &dyn fmt::Display| {
            Status::new(Code::Unavailable, format!("{address} did not answer: {reason}")).with_outcome(Outcome::Unknown)
        };
        let frame = Frame::with_body(kind::REQUEST, PROTOBUF, request.request_id as u64, &request.encode_to_vec());
        let bytes = frame.map_err(|error| broken(&error))?.to_bytes().map_err(|error| broken(&error))?;
        stream.write_all(&bytes).await.map_err(|error| lost(&error))?;
        let mut frames = Frames::new(&mut stream, MOST, FINDING);
        let answer = loop {
            match frames.next().await.map_err(|error| lost(&error))? {
                None => return Err(lost(&CLOSED)),
                Some(frame) if frame.kind == kind::RESPONSE => break frame,
                Some(_) => {}
            }
        };
        let body = answer.expand(MOST).map_err(|error| broken(&error))?;
        match answer.serializer {
            PROTOBUF => Response::decode(&*body).map_err(|error| broken(&error)),
            // An unknown service, a limit, a request that does not parse: servers answer so before they know the serializer.
            GOB => {
                let (code, msg) = gob::read_response(&body).ok_or_else(|| broken(&"gob that is no error"))?;
                Ok(Response { code: code.try_into().unwrap_or(code::FAILED), msg, ..Response::default() })
            }
            other => Err(broken(&format_args!("serializer {other}"))),
        }
    }
}

async fn connect(address: &str) -> Result<TcpStream, Status> {
    let failed = |reason: &dyn fmt::Display| {
        Status::new(Code::Unavailable, format!("cannot connect to {address}: {reason}")).with_outcome(Outcome::NotSent)
    };
    match timeout(FINDING, TcpStream::connect(address)).await {
        Ok(connected) => connected.map_err(|error| failed(&error)),
        Err(_) => Err(failed(&format_args!("no answer within {FINDING:?}"))),
    }
}

#[async_trait]
impl Channel for MsgoClient {
    async fn invoke(&self, call: &mut Invocation) -> Result<Answer, Status> {
        let invalid = |reason: String| {
            let name = format!("{}.{}", call.service(), call.method());
            Status::new(Code::InvalidArgument, format!("the arguments of {name}: {reason}"))
                .with_outcome(Outcome::NotSent)
        };
        if !matches!(call.codec(), Codec::Json) {
            return Err(invalid("servers of msgo are called in JSON: take `MsgoClient::channel`".to_owned()));
        }
        let Value::Array(arguments) = call.arguments()? else {
            return Err(invalid("msgo has no arguments by name: give a list".to_owned()));
        };
        let args = arguments.into_iter().map(from_json).collect::<Result<_, _>>();
        let request = Request {
            request_id: (self.last_id.fetch_add(1, Ordering::Relaxed) & i64::MAX as u64) as i64 + 1,
            service_name: call.service().to_owned(),
            method_name: exported(call.method()),
            args: args.map_err(|bad| invalid(bad.to_string()))?,
        };
        let response = match &self.targets {
            Targets::Address(address) => Self::call(address, request).await,
            Targets::Found { registry, pickers } => {
                let picker = Self::picker(registry, pickers, call.service())?;
                picker.wait_ready(call.context().remaining().min(FINDING)).await?;
                Self::call_one_of(&picker, request).await
            }
        };
        answer(call.codec(), response?)
    }
}

fn answer(codec: &Codec, response: Response) -> Result<Answer, Status> {
    let text = response.msg;
    match response.code {
        code::OK => {
            let value = response.data.map_or(Ok(Value::Null), to_json);
            let value = value
                .map_err(|bad| Status::new(Code::Internal, format!("the answer holds what JSON does not: {bad}")))?;
            Answer::value(codec, &value)
        }
        code::LIMITED => Err(Status::new(Code::ResourceExhausted, text).not_executed()),
        code::FAILED if text == NO_SERVICE || text == NO_METHOD => {
            Err(Status::new(Code::Unimplemented, text).not_executed())
        }
        code::FAILED => Err(Status::new(Code::Unknown, text)),
        other => Err(Status::new(Code::Unknown, format!("code {other}: {text}"))),
    }
}

impl fmt::Debug for MsgoClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = match &self.targets {
            Targets::Address(address) => address,
            Targets::Found { registry, .. } => registry.url(),
        };
        f.debug_tuple("MsgoClient").field(&target).finish()
    }
}
