//! Calls that a node makes when they are due.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{MqError, Push};

/// Topic of the calls that nodes make: a message of its queue `default` is a [`Call`] as JSON.
pub const CALLS: &str = "ms.calls";

/// Call of a service's method, which a node makes later, through its proxy. Pushed as a message ([`Push::from`]), it has all
/// that messages have: a due time, a dedup key, a group, a priority.
///
/// ```
/// # use std::time::Duration;
/// use ms_mq::{Call, Push};
/// let call = Call::new("goods", "restock", serde_json::json!([17, 100])).idempotent().deadline(Duration::from_secs(2));
/// let push = Push { delay_ms: 60_000, dedup: Some("restock 17".to_owned()), ..Push::from(&call) };
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Call {
    /// Name of the service in the registry.
    pub service: String,
    /// Method.
    pub method: String,
    /// A list by position, or an object by name.
    #[serde(default)]
    pub arguments: Value,
    /// Time of each try, with the proxy's own repeats, in milliseconds: 1 to 600,000. Default 5,000.
    #[serde(default = "default_deadline")]
    pub deadline_ms: u64,
    /// Making the call twice does no harm: it is repeated after every failure, as often as the topic's retries allow.
    #[serde(default)]
    pub idempotent: bool,
}

const fn default_deadline() -> u64 {
    5_000
}

/// Longest time of a try.
const LONGEST: u64 = 600_000;

impl Call {
    /// A call by names, with arguments in JSON.
    pub fn new(service: impl Into<String>, method: impl Into<String>, arguments: Value) -> Self {
        let (service, method) = (service.into(), method.into());
        Self { service, method, arguments, deadline_ms: default_deadline(), idempotent: false }
    }

    /// Says that making the call twice does no harm.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Time of each try.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// The call of a message's body.
    ///
    /// # Errors
    /// [`MqError::Invalid`]: the body is no call, or a field is out of its range.
    pub fn parse(body: &[u8]) -> Result<Self, MqError> {
        let invalid = |problem: String| MqError::Invalid(format!("this is no call: {problem}"));
        let call: Self = serde_json::from_slice(body).map_err(|error| invalid(error.to_string()))?;
        if call.service.is_empty() || call.method.is_empty() {
            return Err(invalid("service and method need names".to_owned()));
        }
        if !(1..=LONGEST).contains(&call.deadline_ms) {
            return Err(invalid(format!("deadline_ms is {}: 1 to {LONGEST} are taken", call.deadline_ms)));
        }
        if !matches!(call.arguments, Value::Null | Value::Array(_) | Value::Object(_)) {
            return Err(invalid("arguments are neither a list nor an object".to_owned()));
        }
        Ok(call)
    }
}

impl From<&Call> for Push {
    fn from(call: &Call) -> Self {
        let Call { service, method, arguments, deadline_ms, idempotent } = call;
        let body = serde_json::json!({
            "service": service,
            "method": method,
            "arguments": arguments,
            "deadline_ms": deadline_ms,
            "idempotent": idempotent,
        });
        Self::new(CALLS, body.to_string().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_call_comes_back_from_its_message() {
        let call = Call::new("goods", "get", json!({"id": 7})).idempotent().deadline(Duration::from_millis(70));
        let push = Push::from(&call);
        assert_eq!((push.topic.as_str(), Call::parse(&push.body)), (CALLS, Ok(call)));
        let short = Call::parse(br#"{"service":"s","method":"m"}"#).unwrap();
        assert_eq!(short, Call::new("s", "m", Value::Null));
    }

    #[test]
    fn what_is_no_call_is_named() {
        for (body, word) in [
            ("job", "no call"),
            (r#"{"service":"s"}"#, "method"),
            (r#"{"service":"","method":"m"}"#, "names"),
            (r#"{"service":"s","method":"m","arguments":5}"#, "list nor an object"),
            (r#"{"service":"s","method":"m","deadline_ms":0}"#, "600000"),
            (r#"{"service":"s","method":"m","deadline":9}"#, "unknown field `deadline`"),
        ] {
            let error = Call::parse(body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
