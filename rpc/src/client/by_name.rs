//! Calls by names, without the types of the service.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    Client, ClientProxy,
    channel::AnyChannel,
    request::{CallRequest, not_sent, outgoing_pairs},
};
use crate::{Code, Codec, Status, proto::RequestHead};

/// Arguments of a call by names: a tuple, in the method's order.
pub trait Arguments: Serialize {
    /// Number of arguments.
    fn count(&self) -> u8;
}

impl AnyChannel {
    /// Calls a method by names, with a JSON array or object of arguments, in JSON.
    ///
    /// # Errors
    /// Any [`Status`]; the method's own error is in [`Status::service_error`].
    pub async fn call(&self, service: &str, method: &str, arguments: &Value) -> Result<Value, Status> {
        let options = &*self.config().method_defaults.under(service, method, self.options());
        let argc = match arguments {
            Value::Null => 0,
            Value::Array(list) => u8::try_from(list.len()).unwrap_or(RequestHead::NAMED),
            Value::Object(_) => RequestHead::NAMED,
            _ => {
                let message = format!("the arguments of {service}.{method} must be a JSON array or object");
                return Err(not_sent(Code::InvalidArgument, message));
            }
        };
        let pairs = outgoing_pairs(service, method, self.config(), options)?;
        let request = CallRequest::new(service, method, argc, self.config(), options, pairs).with_codec(&Codec::Json);
        let arguments = if argc == 0 { &Value::Array(Vec::new()) } else { arguments };
        self.exchange(&request, options, arguments, options.idempotent).await?.into_value()
    }

    /// Calls a method by names, with a tuple of arguments, in the channel's codec.
    ///
    /// # Errors
    /// Any [`Status`]; the method's own error is in [`Status::service_error`].
    pub async fn call_as<A, T>(&self, service: &str, method: &str, arguments: &A) -> Result<T, Status>
    where
        A: Arguments,
        T: DeserializeOwned,
    {
        let options = &*self.config().method_defaults.under(service, method, self.options());
        let pairs = outgoing_pairs(service, method, self.config(), options)?;
        let request = CallRequest::new(service, method, arguments.count(), self.config(), options, pairs);
        if request.argc == 0 {
            // One form for no arguments: an empty list, in every codec.
            return self.exchange(&request, options, &[(); 0], options.idempotent).await?.into_value();
        }
        self.exchange(&request, options, arguments, options.idempotent).await?.into_value()
    }
}

impl ClientProxy {
    /// Calls a method by names, with a JSON array or object of arguments, in JSON.
    ///
    /// # Errors
    /// Any [`Status`]; the method's own error is in [`Status::service_error`].
    pub async fn call(&self, service: &str, method: &str, arguments: &Value) -> Result<Value, Status> {
        AnyChannel::from(self).call(service, method, arguments).await
    }

    /// Calls a method by names, with a tuple of arguments, in the proxy's codec.
    ///
    /// # Errors
    /// Any [`Status`]; the method's own error is in [`Status::service_error`].
    pub async fn call_as<A, T>(&self, service: &str, method: &str, arguments: &A) -> Result<T, Status>
    where
        A: Arguments,
        T: DeserializeOwned,
    {
        AnyChannel::from(self).call_as(service, method, arguments).await
    }
}

impl Client {
    /// Calls a method by names, with a JSON array or object of arguments, in JSON.
    ///
    /// # Errors
    /// Any [`Status`]; the method's own error is in [`Status::service_error`].
    pub async fn call(&self, service: &str, method: &str, arguments: &Value) -> Result<Value, Status> {
        AnyChannel::from(self.clone()).call(service, method, arguments).await
    }

    /// Calls a method by names, with a tuple of arguments, in the client's codec.
    ///
    /// # Errors
    /// Any [`Status`]; the method's own error is in [`Status::service_error`].
    pub async fn call_as<A, T>(&self, service: &str, method: &str, arguments: &A) -> Result<T, Status>
    where
        A: Arguments,
        T: DeserializeOwned,
    {
        AnyChannel::from(self.clone()).call_as(service, method, arguments).await
    }
}

macro_rules! tuples {
    ($($count:literal: $($name:ident)*;)*) => {$(
        impl<$($name: Serialize),*> Arguments for ($($name,)*) {
            fn count(&self) -> u8 {
                $count
            }
        }
    )*};
}

tuples! {
    0: ;
    1: A;
    2: A B;
    3: A B C;
    4: A B C D;
    5: A B C D E;
    6: A B C D E F;
    7: A B C D E F G;
    8: A B C D E F G H;
}
