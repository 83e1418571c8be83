//! Guard against web pages in a browser on the same machine: a page can send requests to a node that asks for no token, under
//! a name that it has made stand for this machine, or by its mere address.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{
        HeaderMap, StatusCode,
        header::{HOST, ORIGIN},
        uri::Authority,
    },
    middleware::Next,
    response::{IntoResponse, Response},
};

/// Hosts that requests without a token may name: an address, `localhost`, or one of these names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(Arc<[String]>);

impl Names {
    /// And this one.
    pub(crate) fn with(&self, name: &str) -> Self {
        Self(self.0.iter().cloned().chain([name.to_owned()]).collect())
    }

    /// No page can have an address of its choice, or `localhost`, stand for another machine.
    fn has(&self, host: &str) -> bool {
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let mut names = self.0.iter().map(String::as_str).chain(["localhost"]);
        address.parse::<IpAddr>().is_ok() || names.any(|name| name.eq_ignore_ascii_case(host))
    }
}

pub(crate) async fn check(State(names): State<Names>, request: Request, next: Next) -> Response {
    let asked = request.uri().host();
    let Err(reason) =
        asked.map_or(Ok(()), |host| is_asked(&names, host)).and_then(|()| permit(&names, request.headers()))
    else {
        return next.run(request).await;
    };
    let text = format!("{{\"error\":\"{reason}\"}}");
    (StatusCode::FORBIDDEN, [("content-type", "application/json")], text).into_response()
}

/// Returns the reason for a refusal. Programs other than browsers send none of these headers but the host.
fn permit(names: &Names, headers: &HeaderMap) -> Result<(), &'static str> {
    for host in headers.get_all(HOST) {
        let host = host.as_bytes().try_into().map(|host: Authority| host.host().to_owned());
        is_asked(names, host.as_deref().unwrap_or_default())?;
    }
    // A page that loads an image sends no origin, but its browser says where the page is from. `none`: from nowhere, for a
    // person has typed the address.
    let site = headers.get("sec-fetch-site").is_some_and(|site| site != "none" && site != "same-origin");
    if site || headers.contains_key(ORIGIN) {
        return Err("without a token no requests of web pages are served");
    }
    Ok(())
}

fn is_asked(names: &Names, host: &str) -> Result<(), &'static str> {
    if names.has(host) {
        return Ok(());
    }
    Err("without a token this is served under its address and as localhost, and under no other name")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_permitted(names: &Names, headers: &[(&'static str, &'static str)]) -> bool {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        permit(names, &headers).is_ok()
    }

    #[test]
    fn addresses_and_localhost_are_asked_and_other_names_are_not() {
        for (host, permitted) in [
            ("127.0.0.1:9595", true),
            ("127.0.0.1", true),
            ("10.0.0.7:80", true),
            ("[::1]:9595", true),
            ("localhost:9595", true),
            ("LocalHost", true),
            ("registry", false),
            ("registry.evil.example:9595", false),
            ("127.0.0.1.evil.example:9595", false),
            ("localhost.evil.example", false),
            ("evil.example:9595#127.0.0.1", false),
            ("", false),
            ("a b", false),
        ] {
            assert_eq!(is_permitted(&Names::default(), &[("host", host)]), permitted, "{host}");
        }
        let named = Names::default().with("registry").with("other");
        assert!(is_permitted(&named, &[("host", "registry:80")]) && is_permitted(&named, &[("host", "other")]));
        assert!(!is_permitted(&named, &[("host", "registry.evil.example")]));
        assert!(is_permitted(&named, &[]), "HTTP/1.0 needs none");
        assert!(!is_permitted(&named, &[("host", "registry"), ("host", "evil.example")]));
    }

    #[test]
    fn browsers_are_told_from_people_and_programs() {
        let local = ("host", "127.0.0.1:9595");
        for (header, permitted) in [
            (("user-agent", "curl/8.0"), true),
            (("sec-fetch-site", "none"), true),
            (("sec-fetch-site", "same-origin"), true),
            (("sec-fetch-site", "same-site"), false),
            (("sec-fetch-site", "cross-site"), false),
            (("origin", "http://evil.example"), false),
            (("origin", "null"), false),
        ] {
            assert_eq!(is_permitted(&Names::default(), &[local, header]), permitted, "{header:?}");
        }
    }
}
