//! Access to a node: tokens, host names, and the networks that it may dial.

use std::{net::IpAddr, str::FromStr, sync::Arc};

use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header::AUTHORIZATION},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use ipnet::IpNet;

use crate::guard::{self, Names};

/// Access to a node that is served.
#[derive(Clone, Debug, Default)]
pub struct Access {
    token: Option<Arc<str>>,
    names: Names,
    pub(crate) networks: Networks,
}

impl Access {
    /// Open to any caller that reaches it by an address or as `localhost`, but to no web page; it dials loopback addresses only.
    pub fn open() -> Self {
        Self::default()
    }

    /// Open to callers that give this token, in the header `Authorization: Bearer ..` or in the parameter `token`.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Open without a token to requests for this host name, too. A web page that makes the name stand for this
    /// machine is not told from others.
    #[must_use]
    pub fn with_name(mut self, name: &str) -> Self {
        self.names = self.names.with(name);
        self
    }

    /// Networks that it dials to see whether a node is there.
    #[must_use]
    pub fn with_networks(mut self, networks: Networks) -> Self {
        self.networks = networks;
        self
    }

    /// Lets permitted requests through, and refuses all others: 401 without the token, 403 where none is asked for and a web page
    /// may be asking.
    pub fn guard(self, routes: Router) -> Router {
        match self.token {
            None => routes.layer(middleware::from_fn_with_state(self.names, guard::check)),
            Some(token) => routes.layer(middleware::from_fn_with_state(token, check)),
        }
    }
}

async fn check(State(token): State<Arc<str>>, request: Request, next: Next) -> Response {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let given = header.map(str::to_owned).or_else(|| {
        let query = request.uri().query()?;
        form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "token").map(|(_, value)| value.into_owned())
    });
    if given.is_some_and(|given| is_same(given.as_bytes(), token.as_bytes())) {
        return next.run(request).await;
    }
    let text = "{\"error\":\"the token is missing or wrong\"}";
    (StatusCode::UNAUTHORIZED, [("content-type", "application/json")], text).into_response()
}

/// Takes the same time wherever they differ.
fn is_same(given: &[u8], token: &[u8]) -> bool {
    let different = given.iter().zip(token).fold(0, |different, (a, b)| different | (a ^ b));
    given.len() == token.len() && different == 0
}

/// Networks, such as `10.0.0.0/8,192.168.1.7`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Networks(Arc<[IpNet]>);

impl Networks {
    pub(crate) fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// The loopback networks.
impl Default for Networks {
    fn default() -> Self {
        let networks = [
            IpNet::new_assert(IpAddr::from([127, 0, 0, 0]), 8),
            IpNet::new_assert(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1_u16]), 128),
        ];
        Self(networks.into())
    }
}

impl FromStr for Networks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = |part: &str| {
            let part = part.trim();
            let network = part.parse().or_else(|_| part.parse::<IpAddr>().map(IpNet::from));
            network.map_err(|_| format!("{part:?} is no network such as 10.0.0.0/8, and no address"))
        };
        text.split(',').map(parse).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_what_they_say() {
        let networks: Networks = "10.0.0.0/8, 192.168.1.7,fd00::/8".parse().unwrap();
        for (address, inside) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("192.168.1.7", true),
            ("192.168.1.8", false),
            ("127.0.0.1", false),
            ("fd12::1", true),
            ("::ffff:10.0.0.1", true),
            ("::ffff:11.0.0.1", false),
        ] {
            assert_eq!(networks.contain(address.parse().unwrap()), inside, "{address}");
        }
        assert!(Networks::default().contain("127.9.9.9".parse().unwrap()));
        assert!(Networks::default().contain("::1".parse().unwrap()));
        assert!(!Networks::default().contain("10.0.0.1".parse().unwrap()));
        for bad in ["", "10.0.0.0/33", "ten", "10.0.0.0/8,"] {
            assert!(bad.parse::<Networks>().is_err(), "{bad}");
        }
    }

    #[test]
    fn words_are_the_same_or_not() {
        for (given, same) in [("abc", true), ("abd", false), ("ab", false), ("abcd", false), ("", false)] {
            assert_eq!(is_same(given.as_bytes(), b"abc"), same, "{given}");
        }
    }
}
