//! What peers, users and other writers may send, fed to whatever reads it: one function for each reader.
//!
//! Each takes any bytes. It panics when the reader does, takes too much memory, does not end, contradicts a second reader
//! of the same format, or does not read what it wrote as what it meant. README.md says how to run them.

mod client;
mod codecs;
mod expand;
mod frames;
mod gate;
mod gmq;
mod heads;
mod hello;
mod memory;
mod msgo;
mod pipe;
mod reference;
mod registries;
mod script;
mod server;
mod service;
mod source;
mod tls;

pub use client::client;
pub use codecs::{bincode, json, message_pack};
pub use expand::expand;
pub use frames::frames;
pub use gate::{gate_frames, gate_routes};
pub use gmq::gmq;
pub use heads::{request_head, response_head};
pub use hello::{goaway, hello};
pub use msgo::msgo;
pub use registries::{etcd_value, gregister_answer, gregister_log, nacos_value, registry_url, zookeeper_value};
pub use server::server;
pub use tls::{first_byte, identity};

/// One reader under test.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Of the fuzzer, and of its folder in `corpus/`.
    pub name: &'static str,
    /// Feeds it.
    pub run: fn(&[u8]),
    /// Inputs to begin with: they show what good ones look like.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

macro_rules! targets {
    ($($name:ident in $module:ident,)*) => {
        /// Every target.
        pub const TARGETS: &[Target] =
            &[$(Target { name: stringify!($name), run: $name, seeds: $module::seeds::$name }),*];
    };
}

targets! {
    frames in frames,
    request_head in heads,
    response_head in heads,
    hello in hello,
    goaway in hello,
    msgo in msgo,
    bincode in codecs,
    json in codecs,
    message_pack in codecs,
    expand in expand,
    registry_url in registries,
    etcd_value in registries,
    gregister_answer in registries,
    gregister_log in registries,
    nacos_value in registries,
    zookeeper_value in registries,
    server in server,
    client in client,
    gmq in gmq,
    first_byte in tls,
    identity in tls,
    gate_frames in gate,
    gate_routes in gate,
}
