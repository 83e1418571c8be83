//! Access to a door: tokens, or else the names that it is asked under.

use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header::AUTHORIZATION},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use ms_security::{Principal, Tokens};

use crate::guard::{self, Names};

/// Access to the routes of a door.
#[derive(Clone, Debug, Default)]
pub struct Access {
    tokens: Option<Tokens>,
    names: Names,
}

impl Access {
    /// Open to any caller that reaches it by an address or as `localhost`, but to no web page.
    pub fn open() -> Self {
        Self::default()
    }

    /// Open to callers that give one of these tokens, in the header `Authorization: Bearer ..` or in the parameter `token`. Handlers find
    /// the holder as a [`Principal`] among the extensions of the request.
    #[must_use]
    pub fn with_tokens(mut self, tokens: &Tokens) -> Self {
        self.tokens = Some(tokens.clone());
        self
    }

    /// Open without a token to requests for this host name, too, such as that of a proxy before it. A web page that makes the name stand
    /// for this machine is not told from others.
    #[must_use]
    pub fn with_name(mut self, name: &str) -> Self {
        self.names = self.names.with(name);
        self
    }

    /// Lets permitted requests through, and refuses all others: 401 without a token, 403 where none is asked for and a web page
    /// may be asking.
    pub fn guard(self, routes: Router) -> Router {
        match self.tokens {
            None => routes.layer(middleware::from_fn_with_state(self.names, guard::check)),
            Some(tokens) => routes.layer(middleware::from_fn_with_state(tokens, check)),
        }
    }
}

async fn check(State(tokens): State<Tokens>, mut request: Request, next: Next) -> Response {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let given = header.map(str::to_owned).or_else(|| {
        let query = request.uri().query()?;
        form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "token").map(|(_, value)| value.into_owned())
    });
    let holder = match given {
        Some(given) => {
            let certified = request.extensions().get::<Principal>().map(|certified| certified.name().to_owned());
            tokens.check(given.as_bytes(), &certified.unwrap_or_default()).await
        }
        None => None,
    };
    let Some(holder) = holder else {
        let text = "{\"error\":\"the token is missing or wrong\"}";
        return (StatusCode::UNAUTHORIZED, [("content-type", "application/json")], text).into_response();
    };
    request.extensions_mut().insert(holder);
    next.run(request).await
}
