//! gregister: a small registry node, for sites without etcd. One process keeps the instances of all services, and the nodes
//! of queues that were written for gregister of old.
//!
//! - [`Node`] is the engine: whatever it confirms is on the disk. [`router`] is its HTTP.
//! - [`mirror`] shows any other registry in the old form, read-only.
//!
//! Under `/v1` it speaks JSON; what is wrong is a status of 4xx with `{"error": ".."}`, and a disk that cannot be written 503:
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/services` | `{"store","revision","services":{name: count}}` |
//! | `GET /v1/services/{service}?store=&revision=&wait=` | `{"store","revision","instances":[{"id","host","port","weight","metadata"}]}`; with the store and revision of an earlier answer: when something has changed, or 304 after `wait` seconds (at most 60) |
//! | `PUT /v1/services/{service}/{id}` with `{"host","port","weight":1,"metadata":{},"ttl":10,"lease":""}` | written; it stays for `ttl` seconds from now on |
//! | `POST /v1/services/{service}/{id}/renew?lease=&wait=` | renewed, with `"held":true`; answers at the latest after `wait` seconds, when it has been renewed again, and earlier if it is gone: 404. `"held":false`: it is under another lease |
//! | `DELETE /v1/services/{service}/{id}?lease=` | removed, unless it is under another lease; without `lease` in any case |
//! | `GET /v1/elections/{service}?store=&revision=&wait=` | `{"store","revision","elects","waiting","master":{"token","candidate","id","host","port","weight","metadata"}}`, with `"master":null` when nobody leads; with the store and revision of an earlier answer: when somebody else leads, or 304 after `wait` seconds |
//! | `PUT /v1/elections/{service}/{candidate}` with `{"id","host","port","weight":1,"metadata":{},"ttl":10}` | it campaigns, and stays in the queue for `ttl` seconds from now on: a place, as below. Again: it keeps the place that it has |
//! | `POST /v1/elections/{service}/{candidate}/renew` | it stays for its `ttl` from now on: its place; 404 if it is gone |
//! | `GET /v1/elections/{service}/{candidate}?term=&wait=` | its place; after `wait` seconds, or as soon as it leads, or has another token than `term`; 404 when it is gone. That renews nothing |
//! | `DELETE /v1/elections/{service}/{candidate}` | it resigns, or leaves the queue; sent by somebody else it is deposed, before it has heard of that |
//!
//! A place is `{"store","revision","elects","ttl","token"}`: with a number as `token` it leads, with `null` it waits. `ttl` is what it got,
//! which may be less than it asked for.
//!
//! A store is the content of one data directory, its id a random number; revisions count its changes, and both outlive restarts.
//! A lease is a word that its owner makes up. It runs while the node runs: after a restart it begins anew, and a pause of the
//! node does not count.
//!
//! # Elections
//! A candidate is a word as names are, which it makes up for one campaign: so a request whose answer was lost can be sent again.
//! Candidates lead in the order in which they came; the next one leads as soon as the previous leader has gone, and is told by the request
//! that it waits with. Nobody is woken by what happens to others. Tokens grow with every term; the last one is on the disk
//! before any caller hears of it. At its start a node goes on from the time of day, in milliseconds, if it has not come as far: so tokens grow
//! where data was lost, too, as far as clocks agree.
//!
//! A leader may rely on its term for less than its `ttl` after it *asked* for a renewal that was confirmed. A new store does not know the
//! leaders of a lost store: it elects nobody until it has run for as long as the longest lease (see [`Node::open`]), and says
//! `"elects":false` till then. Do not put an older copy of a directory back: it does not know that it has to wait.

mod api;
mod clock;
mod elections;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
mod legacy;
mod log;
mod mirror;
mod networks;
mod node;
mod nodes;
mod probe;
mod record;
mod state;
mod turns;

pub use log::OpenError;
pub use mirror::mirror;
pub use networks::Networks;
pub use node::{Failed, Node};

use axum::Router;

/// All of a node's paths: `/v1`, and the old ones at the root. The nodes that joined in the old way are probed, within these networks, for as
/// long as the router lives. Needs a tokio runtime.
pub fn router(node: Node, networks: Networks) -> Router {
    probe::start(&node, networks.clone());
    api::routes(node.clone()).merge(legacy::routes(node, networks)).fallback(legacy::not_found)
}
