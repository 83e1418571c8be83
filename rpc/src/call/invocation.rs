//! One call as layers and channels see it.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::{Code, Context, Status};
use crate::{Codec, Compression, body::Body};

/// One call on its way, as [layers](crate::Layer) and [channels](crate::Channel) see it: names, context, and the encoded
/// arguments. Cheap to clone.
#[derive(Clone)]
pub struct Invocation {
    pub(crate) service: Arc<str>,
    pub(crate) method: Arc<str>,
    pub(crate) context: Context,
    pub(crate) idempotent: bool,
    pub(crate) codec: Codec,
    pub(crate) compression: Compression,
    /// Number of arguments.
    pub(crate) argc: u8,
    /// Hashes of the caller's definition of the method, and of the structure of its types; 0 if they are not known.
    pub(crate) said: [u32; 2],
    /// The arguments, compressed if `compression` says so.
    pub(crate) arguments: Bytes,
    /// Bound for the decompressed arguments.
    pub(crate) max_frame: usize,
}

impl Invocation {
    /// Name of the service that is called.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// Name of the method that is called.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Deadline, metadata, peer and extensions. On the client's side the peer is not known yet.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The same, to be changed for the layers within and for the method: metadata on the client's side travels to the server;
    /// a deadline can only be brought forward.
    pub fn context_mut(&mut self) -> &mut Context {
        &mut self.context
    }

    /// Returns true if executing the call twice does no harm.
    pub fn is_idempotent(&self) -> bool {
        self.idempotent
    }

    /// Codec of the arguments, and of the answer.
    pub fn codec(&self) -> &Codec {
        &self.codec
    }

    /// Decodes the arguments, as a tuple with an element for each. The method decodes them once more: for tests and fakes.
    ///
    /// # Errors
    /// `InvalidArgument`: they are of other types, or the compressed body is corrupt or too large.
    pub fn arguments<A: DeserializeOwned>(&self) -> Result<A, Status> {
        let invalid =
            |error: String| Status::new(Code::InvalidArgument, format!("the arguments of {}: {error}", self.name()));
        let body = match &self.compression {
            Compression::None => Body::from(self.arguments.clone()),
            compression => {
                let expanded = compression.expand(&self.arguments, self.max_frame);
                expanded.map_err(|error| invalid(error.to_string()))?.into()
            }
        };
        body.decode(&self.codec).map_err(|error| invalid(error.to_string()))
    }

    /// `service.method`, for messages.
    pub(crate) fn name(&self) -> String {
        format!("{}.{}", self.service, self.method)
    }
}

/// Leaves the arguments out.
impl fmt::Debug for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, method, context, .. } = self;
        let invocation = &mut f.debug_struct("Invocation");
        invocation.field("service", service).field("method", method).field("context", context).finish_non_exhaustive()
    }
}
