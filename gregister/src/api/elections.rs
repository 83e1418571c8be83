//! The API for elections, under `/v1/elections`.

use axum::{
    Json,
    body::Bytes,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use ms_register::ServiceName;
use serde::Serialize;

use super::{Asked, Failure, done, invalid, store};
use crate::{
    Node,
    elections::Key,
    record::Record,
    state::{Refusal, Request, View},
};

/// The leader.
#[derive(Serialize)]
struct Lead<'a> {
    store: String,
    revision: u64,
    elects: bool,
    /// How many others there are.
    waiting: usize,
    master: Option<Master<'a>>,
}

#[derive(Serialize)]
struct Master<'a> {
    token: u64,
    candidate: &'a str,
    #[serde(flatten)]
    record: &'a Record,
}

/// Where a candidate is.
#[derive(Serialize)]
struct Place {
    store: String,
    revision: u64,
    elects: bool,
    /// Seconds.
    ttl: f64,
    token: Option<u64>,
}

pub(super) async fn master(State(node): State<Node>, asked: Asked) -> Result<Response, Failure> {
    let Asked { service, options, .. } = asked;
    let Some(view) = super::newer(&node, &options, |view| view.contests.modified(&service)).await? else {
        return Ok(StatusCode::NOT_MODIFIED.into_response());
    };
    let contest = view.contests.contest(&service);
    let master = contest.and_then(|contest| contest.master());
    let master = master.map(|(seat, token)| Master { token, candidate: &seat.candidate, record: &seat.record });
    let waiting = contest.map_or(0, |contest| contest.seats.len()) - usize::from(master.is_some());
    let elects = view.contests.open;
    Ok(Json(Lead { store: store(&view), revision: view.revision, elects, waiting, master }).into_response())
}

pub(super) async fn campaign(State(node): State<Node>, asked: Asked, body: Bytes) -> Result<Response, Failure> {
    // Candidates follow the rules of names.
    ServiceName::new(&asked.id).map_err(|_| invalid("candidate: give 1 to 128 of A-Z a-z 0-9 . _ : -"))?;
    let body = super::body(&body)?;
    let (ttl, id) = (body.ttl()?, body.id.clone());
    let (seat, record) = ((asked.service, asked.id), body.record(id));
    node.ask(Request::Stand { seat: seat.clone(), record, ttl }).await?;
    // Gone again already: it is not unknown what it asks for.
    let late = |_| Failure(StatusCode::SERVICE_UNAVAILABLE, "its lease has ended meanwhile".to_owned());
    place(&node.view(), &seat).map_err(late)
}

pub(super) async fn turn(State(node): State<Node>, asked: Asked) -> Result<Response, Failure> {
    let (seat, wait) = ((asked.service, asked.id), asked.options.wait());
    if !wait.is_zero() {
        node.turn(seat.clone(), asked.options.term, wait).await?;
    }
    place(&node.view(), &seat)
}

pub(super) async fn renew(State(node): State<Node>, asked: Asked) -> Result<Response, Failure> {
    let seat = (asked.service, asked.id);
    node.ask(Request::Stay { seat: seat.clone() }).await?;
    place(&node.view(), &seat)
}

pub(super) async fn resign(State(node): State<Node>, asked: Asked) -> Result<Response, Failure> {
    let removed = node.ask(Request::Withdraw { seat: (asked.service, asked.id) }).await?;
    Ok(done(&node.view(), "removed", removed))
}

fn place(view: &View, (service, candidate): &Key) -> Result<Response, Failure> {
    let seat = view.contests.seat(service, candidate).ok_or(Refusal::Gone("candidate"))?;
    let (elects, ttl, token) = (view.contests.open, seat.ttl.as_secs_f64(), seat.token);
    Ok(Json(Place { store: store(view), revision: view.revision, elects, ttl, token }).into_response())
}
