use std::{fmt, sync::Arc, time::Duration};

use super::balance::Key;
use crate::{
    Codec, Compression, Status,
    proto::{DEFAULT_MAX_FRAME, LARGEST_MAX_FRAME, SMALLEST_MAX_FRAME},
};

/// What one call does differently from its client.
///
/// ```
/// # use std::time::Duration;
/// use ms_rpc::CallOptions;
/// let options = CallOptions::deadline(Duration::from_millis(200)).metadata("tenant", "blue");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallOptions {
    pub(crate) timeout: Option<Duration>,
    pub(crate) metadata: Vec<(String, String)>,
    pub(crate) idempotent: bool,
    pub(crate) instance: Option<String>,
    pub(crate) key: Option<Key>,
    pub(crate) fork: bool,
}

impl CallOptions {
    /// Nothing different.
    pub fn new() -> Self {
        Self::default()
    }

    /// The call, with all its attempts, ends after this time. A call made while serving another never outlives that one.
    pub fn deadline(timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..Self::default() }
    }

    /// Executing the call twice does no harm, so it may be retried when nobody knows whether it was executed. Typed clients
    /// know this from `#[idempotent]`; a call by names does not.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Calls this instance of the service and no other, by its id in the registry: what one of several instances knows, the
    /// others may not. Through a proxy only. While the instance is being connected to, the call waits, up to its deadline; if
    /// it could not be reached the last time, the call fails at once.
    #[must_use]
    pub fn instance(mut self, id: impl Into<String>) -> Self {
        self.instance = Some(id.into());
        self
    }

    /// What the call is about, such as a customer's number: balancers that hash send calls of one key to one instance. To
    /// [`Balancer::IpHash`](crate::Balancer::IpHash) it is an address, as text. It is not sent along.
    #[must_use]
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.key = Some(Key::new(key.as_ref()));
        self
    }

    /// Makes the call on all instances at once, those of weight 0 left out: the first success is the result, and the others
    /// are cancelled. If none succeeds, the result is the method's own error, if one instance returned that, or else
    /// another failure. Through a proxy only, and for methods that may be executed twice only; others are refused with
    /// `FailedPrecondition`.
    #[must_use]
    pub fn fork(mut self) -> Self {
        self.fork = true;
        self
    }

    /// Sends a pair along. Keys have at most 255 bytes, values 65,535, all together about 16 KiB.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.push((key.into(), value.into()));
        self
    }
}

/// The names and metadata of a call before it is encoded. What a client's interceptor sees.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outgoing<'a> {
    /// The service that is called.
    pub service: &'a str,
    /// The method that is called.
    pub method: &'a str,
    /// What is sent along; pairs may be added.
    pub metadata: &'a mut Vec<(String, String)>,
}

/// Sees each call before it is encoded; an error is the call's result. It must not block.
pub(crate) type Interceptor = Arc<dyn Fn(&mut Outgoing<'_>) -> Result<(), Status> + Send + Sync>;

/// What all calls of a client have in common.
#[derive(Clone)]
pub(crate) struct ClientConfig {
    pub(crate) codec: Codec,
    pub(crate) compression: Compression,
    pub(crate) compress_above: usize,
    pub(crate) timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) max_frame: usize,
    pub(crate) name: String,
    pub(crate) credentials: Vec<u8>,
    pub(crate) interceptors: Vec<Interceptor>,
    pub(crate) dialer: Option<Arc<dyn crate::Dial>>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            codec: Codec::default(),
            compression: Compression::default(),
            compress_above: Compression::DEFAULT_THRESHOLD,
            timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(3),
            max_frame: DEFAULT_MAX_FRAME,
            name: String::new(),
            credentials: Vec::new(),
            interceptors: Vec::new(),
            dialer: None,
        }
    }
}

impl ClientConfig {
    pub(crate) fn set_max_frame(&mut self, bytes: usize) {
        self.max_frame = bytes.clamp(SMALLEST_MAX_FRAME, LARGEST_MAX_FRAME);
    }
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig")
            .field("codec", &self.codec)
            .field("compression", &self.compression)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// The setters that [`ClientBuilder`](crate::ClientBuilder) and [`ProxyBuilder`](crate::ProxyBuilder) share.
macro_rules! config_setters {
    () => {
        /// How values become bytes. Default: bincode.
        pub fn codec(mut self, codec: crate::Codec) -> Self {
            self.config.codec = codec;
            self
        }

        /// How bodies are compressed, in both directions. Default: not at all.
        pub fn compression(mut self, compression: crate::Compression) -> Self {
            self.config.compression = compression;
            self
        }

        /// Requests with fewer bytes are not compressed. Default 1 KiB.
        pub fn compress_above(mut self, bytes: usize) -> Self {
            self.config.compress_above = bytes;
            self
        }

        /// The time that a call has, all attempts together, unless its options say otherwise. Default 1 s.
        pub fn deadline(mut self, timeout: std::time::Duration) -> Self {
            self.config.timeout = timeout;
            self
        }

        /// The time that one connection has to come up, HELLO included. Default 3 s.
        pub fn connect_timeout(mut self, timeout: std::time::Duration) -> Self {
            self.config.connect_timeout = timeout;
            self
        }

        /// The largest frame in bytes, also after decompression. Default 4 MiB, from 1 KiB to 64 MiB.
        pub fn max_frame(mut self, bytes: usize) -> Self {
            self.config.set_max_frame(bytes);
            self
        }

        /// What this client calls itself: servers see it in [`Peer::name`](crate::Peer::name).
        pub fn name(mut self, name: impl Into<String>) -> Self {
            self.config.name = name.into();
            self
        }

        /// What servers' interceptors see in [`Peer::credentials`](crate::Peer::credentials); at most 65,535 bytes.
        pub fn credentials(mut self, credentials: impl Into<Vec<u8>>) -> Self {
            self.config.credentials = credentials.into();
            self
        }

        /// Calls `interceptor` for each call before it is encoded; an error is the call's result. Several run in the
        /// order in which they were added. It runs on the caller's task: it must not block.
        pub fn intercept<F>(mut self, interceptor: F) -> Self
        where
            F: Fn(&mut crate::Outgoing<'_>) -> Result<(), crate::Status> + Send + Sync + 'static,
        {
            self.config.interceptors.push(std::sync::Arc::new(interceptor));
            self
        }

        /// How connections are made. Default: TCP, without Nagle's algorithm.
        pub fn dialer(mut self, dialer: impl crate::Dial) -> Self {
            self.config.dialer = Some(std::sync::Arc::new(dialer));
            self
        }
    };
}

pub(crate) use config_setters;
