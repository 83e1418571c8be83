//! Members: connected clients as back ends see them. Pure.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// Identity of one connection. Never used again: numbers of a gate rise, and begin with the time of its start.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MemberId {
    /// Id of the gate's instance in the registry.
    pub gate: Arc<str>,
    /// Number at that gate. Below 2^53, so that a script's numbers hold it.
    pub number: u64,
}

/// `gate/number`.
impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.gate, self.number)
    }
}

/// No member id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no member id: it is written as gate/number")]
pub struct MemberIdError(String);

impl FromStr for MemberId {
    type Err = MemberIdError;

    fn from_str(text: &str) -> Result<Self, MemberIdError> {
        let parsed = text.rsplit_once('/').and_then(|(gate, number)| Some((gate, number.parse().ok()?)));
        match parsed {
            Some((gate, number)) if !gate.is_empty() => Ok(Self { gate: gate.into(), number }),
            _ => Err(MemberIdError(text.to_owned())),
        }
    }
}

/// A connected client. The gate fills it in: nothing of it comes from the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Connection.
    pub id: MemberId,
    /// User that a back end bound to it, by [`GateClient::bind`](crate::GateClient::bind).
    pub user: Option<Arc<str>>,
    /// Address of the client, `ip:port`.
    pub address: Arc<str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written() {
        let id = MemberId { gate: "10.0.0.1:9600".into(), number: 7 };
        assert_eq!(id.to_string(), "10.0.0.1:9600/7");
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "7", "/7", "gate/", "gate/x", "gate/-1"] {
            assert!(bad.parse::<MemberId>().is_err(), "{bad:?}");
        }
    }
}
