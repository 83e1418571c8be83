use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use super::{
    balance::CallKey,
    config::{
        ConfigError, DiscoveryConfig, HoldConfig, KeepaliveConfig, RedialConfig, RetryConfig, check_keepalive, within,
    },
    credentials::{Credentials, LONGEST_VALUE},
    ejection::EjectionConfig,
    info::CallInfo,
};
use crate::{
    Codec, Compression, Layer, Status,
    measure::Stats,
    proto::{DEFAULT_MAX_FRAME, LARGEST_MAX_FRAME, SMALLEST_MAX_FRAME},
};

/// No time that a user gives counts for more: beyond what a clock can add there is no deadline.
pub(crate) const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Options of a call: each option that is set overrides the client's default.
///
/// Options are set on a builder for one method (`method_defaults`), on a proxy or client (`with`), and on a typed client
/// (`with`). They merge in this order, as [`merge`](Self::merge) says, so the ones nearest to the call win.
///
/// ```
/// # use std::time::Duration;
/// use ms_rpc::CallOptions;
/// let options = CallOptions::new().deadline(Duration::from_millis(200)).idempotent().metadata("tenant", "blue");
/// ```
#[derive(Clone, Default)]
pub struct CallOptions {
    pub(crate) timeout: Option<Duration>,
    pub(crate) metadata: Vec<(String, String)>,
    pub(crate) idempotent: bool,
    pub(crate) instance: Option<String>,
    pub(crate) key: Option<CallKey>,
    pub(crate) fork: bool,
    pub(crate) info: Option<CallInfo>,
    pub(crate) layers: Vec<Arc<dyn Layer>>,
    pub(crate) codec: Option<Codec>,
    pub(crate) compression: Option<Compression>,
}

/// Prints the keys of metadata alone: values may be secrets.
impl fmt::Debug for CallOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.metadata.iter().map(|(key, _)| key).collect();
        f.debug_struct("CallOptions")
            .field("timeout", &self.timeout)
            .field("metadata", &keys)
            .field("idempotent", &self.idempotent)
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}

impl CallOptions {
    /// Options that override nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Limits the time of the call, all attempts together. Default: the client's, 1 s. A call made while serving another
    /// call never outlives that one.
    #[must_use]
    pub fn deadline(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Declares that executing the call twice does no harm: it is then retried even if the server may have executed it.
    /// Typed clients know this from `#[idempotent]`; a call by names does not.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Sends the call to the instance with this id in the registry and to no other. Through a proxy only. The call waits
    /// for a connection to the instance, up to its deadline; if the last dial failed, the call fails at once.
    #[must_use]
    pub fn instance(mut self, id: impl Into<String>) -> Self {
        self.instance = Some(id.into());
        self
    }

    /// Key for balancers that hash, such as a customer's number: calls of one key go to one instance. For
    /// [`Balancer::IpHash`](crate::Balancer::IpHash) it is an address, as text. It is not sent.
    #[must_use]
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.key = Some(CallKey::new(key.as_ref()));
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

    /// Adds a pair to the metadata of the request. Keys have at most 255 bytes, values 65,535, all pairs together about
    /// 16 KiB.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.push((key.into(), value.into()));
        self
    }

    /// Records the instance that answered, the metadata of the answer and the number of attempts in `info`.
    #[must_use]
    pub fn info(mut self, info: &CallInfo) -> Self {
        self.info = Some(info.clone());
        self
    }

    /// Codec of the arguments and of the answer. Default: the client's. Calls by names with JSON arguments stay in JSON.
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = Some(codec);
        self
    }

    /// Compression of the request, and of the answer if the request was large enough to be compressed; else answers are
    /// compressed as the client's own setting says. Default: the client's.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// Runs the call within `layer`: the layer that was added first is the outermost, so layers of a proxy are around those of a
    /// typed client.
    #[must_use]
    pub fn layer(mut self, layer: impl Layer) -> Self {
        self.layers.push(Arc::new(layer));
        self
    }

    /// Adds `later` to these options. A field that is set in both has the later value. Layers and metadata are appended; the later
    /// values of a key replace all earlier ones. `idempotent` and `fork` stay set once they are.
    #[must_use]
    pub fn merge(mut self, later: Self) -> Self {
        let Self { timeout, metadata, idempotent, instance, key, fork, info, layers, codec, compression } = later;
        self.timeout = timeout.or(self.timeout);
        self.metadata.retain(|(known, _)| metadata.iter().all(|(key, _)| key != known));
        self.metadata.extend(metadata);
        self.idempotent |= idempotent;
        self.instance = instance.or(self.instance);
        self.key = key.or(self.key);
        self.fork |= fork;
        self.info = info.or(self.info);
        self.layers.extend(layers);
        self.codec = codec.or(self.codec);
        self.compression = compression.or(self.compression);
        self
    }

    /// The options of one call of a broadcast: to this instance, with the time that is left after `waited`.
    pub(super) fn of_broadcast(&self, instance: &str, waited: Duration, default: Duration) -> Self {
        let timeout = self.timeout.unwrap_or(default).min(LONGEST).saturating_sub(waited);
        Self { timeout: Some(timeout), instance: Some(instance.to_owned()), fork: false, ..self.clone() }
    }
}

/// Default options of methods: service, method, options.
#[derive(Clone, Debug, Default)]
pub(crate) struct MethodDefaults(Vec<(String, String, CallOptions)>);

impl MethodDefaults {
    pub(super) fn add(&mut self, service: String, method: String, options: CallOptions) {
        match self.0.iter_mut().find(|(of, name, _)| *of == service && *name == method) {
            Some((.., known)) => *known = std::mem::take(known).merge(options),
            None => self.0.push((service, method, options)),
        }
    }

    /// The options of a call by names: the method's defaults under `options`.
    pub(super) fn under<'a>(&self, service: &str, method: &str, options: &'a CallOptions) -> Cow<'a, CallOptions> {
        match self.0.iter().find(|(of, name, _)| of == service && name == method) {
            Some((.., defaults)) => Cow::Owned(defaults.clone().merge(options.clone())),
            None => Cow::Borrowed(options),
        }
    }

    /// The methods of `service` that have defaults, with the options of their calls.
    pub(super) fn of(&self, service: &str, options: &CallOptions) -> Box<[(Box<str>, CallOptions)]> {
        let defaults = self.0.iter().filter(|(of, ..)| of == service);
        defaults
            .map(|(_, method, defaults)| (method.as_str().into(), defaults.clone().merge(options.clone())))
            .collect()
    }
}

/// Names and metadata of a call before it is encoded, for the interceptors of a client.
#[non_exhaustive]
pub struct Outgoing<'a> {
    /// The service that is called.
    pub service: &'a str,
    /// The method that is called.
    pub method: &'a str,
    /// Metadata of the request; pairs may be added.
    pub metadata: &'a mut Vec<(String, String)>,
}

/// Prints names alone: metadata may be secret.
impl fmt::Debug for Outgoing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("service", &self.service).field("method", &self.method).finish_non_exhaustive()
    }
}

/// Interceptor of calls before they are encoded; its error is the call's result. It must not block.
pub(crate) type Interceptor = Arc<dyn Fn(&mut Outgoing<'_>) -> Result<(), Status> + Send + Sync>;

/// Settings that all calls of a client share.
#[derive(Clone)]
pub(crate) struct ClientConfig {
    pub(crate) codec: Codec,
    pub(crate) compression: Compression,
    pub(crate) compress_above: usize,
    pub(crate) compression_level: Option<i32>,
    pub(crate) timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) max_frame: usize,
    pub(crate) name: String,
    pub(crate) credentials: Credentials,
    pub(crate) interceptors: Vec<Interceptor>,
    pub(crate) method_defaults: MethodDefaults,
    pub(crate) dialer: Option<Arc<dyn crate::Dial>>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<crate::tls::Tls>,
    pub(crate) stats: Option<Arc<Stats>>,
    pub(crate) keepalive: KeepaliveConfig,
    pub(crate) retry: RetryConfig,
    pub(crate) hold: HoldConfig,
    pub(crate) ejection: EjectionConfig,
    pub(crate) redial: RedialConfig,
    pub(crate) discovery: DiscoveryConfig,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            codec: Codec::default(),
            compression: Compression::default(),
            compress_above: Compression::DEFAULT_THRESHOLD,
            compression_level: None,
            timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(3),
            max_frame: DEFAULT_MAX_FRAME,
            name: String::new(),
            credentials: Credentials::default(),
            interceptors: Vec::new(),
            method_defaults: MethodDefaults::default(),
            dialer: None,
            #[cfg(feature = "tls")]
            tls: None,
            stats: None,
            keepalive: KeepaliveConfig::default(),
            retry: RetryConfig::default(),
            hold: HoldConfig::default(),
            ejection: EjectionConfig::default(),
            redial: RedialConfig::default(),
            discovery: DiscoveryConfig::default(),
        }
    }
}

impl ClientConfig {
    /// Checks every setting that has a range.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        within("max_frame", self.max_frame, SMALLEST_MAX_FRAME..=LARGEST_MAX_FRAME)?;
        for (field, length) in [("name", self.name.len()), ("credentials", self.credentials.len())] {
            if length > LONGEST_VALUE {
                let reason = format!("{length} bytes long: use at most {LONGEST_VALUE}");
                return Err(ConfigError { field, reason });
            }
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            tls.check_client().map_err(|error| ConfigError { field: "tls", reason: format!("unusable: {error}") })?;
        }
        check_keepalive(&self.keepalive)?;
        self.retry.check()?;
        self.hold.check()?;
        self.ejection.check()?;
        self.redial.check()?;
        self.discovery.check()
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
        /// Codec of arguments and answers. Default: bincode.
        pub fn codec(mut self, codec: crate::Codec) -> Self {
            self.config.codec = codec;
            self
        }

        /// Compression of bodies, in both directions. Default: none.
        pub fn compression(mut self, compression: crate::Compression) -> Self {
            self.config.compression = compression;
            self
        }

        /// Requests with fewer bytes are not compressed. Default 1 KiB.
        pub fn compress_above(mut self, bytes: usize) -> Self {
            self.config.compress_above = bytes;
            self
        }

        /// Level of compressed requests, brought into the compression's range: higher ones cost more time for fewer bytes.
        /// Default: the compression's own. Levels of answers are the server's.
        pub fn compression_level(mut self, level: i32) -> Self {
            self.config.compression_level = Some(level);
            self
        }

        /// Time limit of a call, all attempts together, unless its options set one. Default 1 s.
        pub fn deadline(mut self, timeout: std::time::Duration) -> Self {
            self.config.timeout = timeout;
            self
        }

        /// Sets default options for the calls of one method, by names and by typed clients. Options set with `with` win over
        /// them; several defaults of one method merge. A name that no service has cannot be noticed here: such defaults
        /// never apply.
        pub fn method_defaults(
            mut self,
            service: impl Into<String>,
            method: impl Into<String>,
            options: crate::CallOptions,
        ) -> Self {
            self.config.method_defaults.add(service.into(), method.into(), options);
            self
        }

        /// Time limit for one connection to come up, HELLO included. Default 3 s.
        pub fn connect_timeout(mut self, timeout: std::time::Duration) -> Self {
            self.config.connect_timeout = timeout;
            self
        }

        /// The largest frame in bytes, also after decompression. Default 4 MiB, from 1 KiB to 64 MiB.
        pub fn max_frame(mut self, bytes: usize) -> Self {
            self.config.max_frame = bytes;
            self
        }

        /// Name of this client: servers see it in [`Peer::name`](crate::Peer::name). At most 65,535 bytes.
        pub fn name(mut self, name: impl Into<String>) -> Self {
            self.config.name = name.into();
            self
        }

        /// Credentials for servers to judge, in [`Peer::credentials`](crate::Peer::credentials); at most 65,535 bytes. Beyond loopback
        /// they need TLS: see [`plaintext_credentials`](Self::plaintext_credentials).
        pub fn credentials(mut self, credentials: impl Into<Vec<u8>>) -> Self {
            self.config.credentials.origin = crate::client::Origin::Fixed(credentials.into());
            self
        }

        /// Source of the credentials, asked at each dial, such as for a token that expires. Its time is part of the connect
        /// timeout; its error, or more than 65,535 bytes, fails the dial, and the next dial asks again.
        pub fn credentials_with<F, C>(mut self, source: F) -> Self
        where
            F: Fn() -> C + Send + Sync + 'static,
            C: Future<Output = Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
        {
            self.config.credentials.origin =
                crate::client::Origin::Source(std::sync::Arc::new(move || Box::pin(source())));
            self
        }

        /// Sends credentials in plaintext beyond loopback, too, where the network can be trusted. Default false: a dial that would do
        /// so fails.
        pub fn plaintext_credentials(mut self, allowed: bool) -> Self {
            self.config.credentials.in_plaintext = allowed;
            self
        }

        /// Runs `interceptor` for each call before it is encoded, on the caller's task; its error is the call's result.
        /// Several run in the order in which they were added. An interceptor must not block.
        pub fn intercept<F>(mut self, interceptor: F) -> Self
        where
            F: Fn(&mut crate::Outgoing<'_>) -> Result<(), crate::Status> + Send + Sync + 'static,
        {
            self.config.interceptors.push(std::sync::Arc::new(interceptor));
            self
        }

        /// Counts and times every call of typed clients, by service, method and code: `ms_rpc_calls_total` and
        /// `ms_rpc_call_seconds` with the label `side="client"`. A time is that of the whole call; of a call that was
        /// answered at the first attempt, from when its request left to when its answer was read.
        pub fn measured(mut self) -> Self {
            self.config.stats = Some(crate::measure::Stats::new("client"));
            self
        }

        /// Changes when a silent server is given up.
        pub fn keepalive(mut self, change: impl FnOnce(&mut crate::KeepaliveConfig)) -> Self {
            change(&mut self.config.keepalive);
            self
        }

        /// TLS to all instances, whatever the registry says of them: see [`Tls`](crate::tls::Tls). There is no way back to
        /// plaintext. Replaces [`dialer`](Self::dialer).
        #[cfg(feature = "tls")]
        pub fn tls(self, tls: &crate::tls::Tls) -> Self {
            self.secure(tls, false)
        }

        /// TLS to instances that are registered with the metadata `ms.tls`, and plaintext to the others: for the time in which
        /// servers move to TLS. A writer of the registry can bring such a client down to plaintext.
        #[cfg(feature = "tls")]
        pub fn tls_preferred(self, tls: &crate::tls::Tls) -> Self {
            tracing::warn!("TLS is preferred, not required: an entry in the registry without `ms.tls` gets plaintext");
            self.secure(tls, true)
        }

        #[cfg(feature = "tls")]
        fn secure(mut self, tls: &crate::tls::Tls, is_preferred_only: bool) -> Self {
            self.config.tls = Some(tls.clone());
            self.dialer(crate::tls::TlsDial { tls: tls.clone(), is_preferred_only })
        }

        /// Dialer that makes the connections. Default: TCP, without Nagle's algorithm.
        pub fn dialer(mut self, dialer: impl crate::Dial) -> Self {
            self.config.dialer = Some(std::sync::Arc::new(dialer));
            self
        }
    };
}

pub(crate) use config_setters;
