//! gregister: a small registry node, for those who run no etcd. One process keeps the instances of all services, and the nodes
//! of queues that were written for gregister of old.
//!
//! - [`Node`] is the engine: whatever it confirms is on the disk. [`router`] speaks for it, [`serve`] to whoever connects.
//! - [`mirror`] shows any other registry in the old form, read-only.
//!
//! Under `/v1` it speaks JSON; what is wrong is a status of 4xx with `{"error": ".."}`, and a disk that cannot be written 503:
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/services` | `{"store","revision","services":{name: count}}` |
//! | `GET /v1/services/{service}?store=&revision=&wait=` | `{"store","revision","instances":[{"id","host","port","weight","metadata"}]}`; with the store and revision of an earlier answer: when something has changed, or 304 after `wait` seconds (at most 60) |
//! | `PUT /v1/services/{service}/{id}` with `{"host","port","weight":1,"metadata":{},"ttl":10,"lease":""}` | written; it stays for `ttl` seconds from now on |
//! | `POST /v1/services/{service}/{id}/renew?lease=&wait=` | renewed, with `"held":true`; answers at the latest after `wait` seconds, when it has been renewed again, and before if it is gone: 404. `"held":false`: it is under another lease |
//! | `DELETE /v1/services/{service}/{id}?lease=` | removed, unless it is under another lease; without `lease` in any case |
//!
//! A store is what one data directory holds, its id a random number; revisions count its changes, and both outlive restarts.
//! A lease is a word that its owner makes up. It runs while the node runs: after a restart it begins anew, and a pause of the
//! node does not count.

mod access;
mod api;
mod clock;
mod guard;
mod legacy;
mod log;
mod mirror;
mod node;
mod nodes;
mod probe;
mod record;
mod serve;
mod state;

pub use access::{Access, Networks};
pub use log::OpenError;
pub use mirror::mirror;
pub use node::{Failed, Node};
pub use serve::serve;

use axum::Router;

/// All of a node's paths: `/v1`, and the old ones at the root. The nodes that joined in the old way are probed for as long as
/// the router lives. Needs a tokio runtime.
pub fn router(node: Node, access: Access) -> Router {
    let networks = access.networks.clone();
    probe::start(&node, networks.clone());
    let routes = api::routes(node.clone()).merge(legacy::routes(node, networks)).fallback(legacy::not_found);
    access.guard(routes)
}
