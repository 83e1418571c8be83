//! Headers of one hop, and those that this hop adds. Pure.

use std::net::IpAddr;

use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Version,
    header::{CONNECTION, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE, VIA},
};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Headers that belong to one hop (RFC 9110, section 7.6.1), and `Expect`, which the server of this hop has answered.
const ONE_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    EXPECT,
];

/// Elements of a list in a header.
fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// Removes what belongs to one hop, by its name or because `Connection` says so.
pub(super) fn strip(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = elements(headers, &CONNECTION)
            .filter_map(|name| name.parse().ok())
            // `Host` is of no hop, whatever `Connection` says.
            .filter(|name| name != HOST)
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &ONE_HOP {
        headers.remove(name);
    }
}

/// Returns true if a WebSocket is asked for. Other protocols are not tunnelled: a tunnel of HTTP/2 would pass by the rules.
pub(super) fn asks_for_websocket(headers: &HeaderMap) -> bool {
    elements(headers, &CONNECTION).any(|option| option.eq_ignore_ascii_case("upgrade"))
        && headers.get(UPGRADE).is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Asks for a WebSocket, or agrees to one.
pub(super) fn upgrade(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

/// Appends the client to `X-Forwarded-For`, and replaces `X-Forwarded-Proto` and `X-Forwarded-Host`.
pub(super) fn forwarded(headers: &mut HeaderMap, client: Option<IpAddr>, scheme: &'static str) {
    if let Some(client) = client {
        let mut list = elements(headers, &FORWARDED_FOR).fold(String::new(), |list, before| list + before + ", ");
        list += &client.to_string();
        if let Ok(list) = list.parse() {
            headers.insert(FORWARDED_FOR, list);
        }
    }
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
    match headers.get(HOST).cloned() {
        Some(host) => drop(headers.insert(FORWARDED_HOST, host)),
        None => drop(headers.remove(FORWARDED_HOST)),
    }
}

/// Adds this hop to `Via` (RFC 9110, section 7.6.3).
pub(super) fn via(headers: &mut HeaderMap, received: Version, name: &str) {
    let version = if received == Version::HTTP_10 { "1.0" } else { "1.1" };
    if let Ok(hop) = format!("{version} {name}").parse() {
        headers.append(VIA, hop);
    }
}

/// Returns true if this hop is in `Via` already.
pub(super) fn has_been_here(headers: &HeaderMap, name: &str) -> bool {
    headers.contains_key(VIA) && elements(headers, &VIA).any(|hop| hop.split_whitespace().nth(1) == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn what_belongs_to_one_hop_is_stripped_and_nothing_else() {
        let mut given = headers(&[
            ("host", "shop"),
            ("connection", "close, X-Mine"),
            ("connection", "keep-alive,host"),
            ("x-mine", "1"),
            ("x-mine", "2"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic x"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("expect", "100-continue"),
            ("trailer", "x-sum"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
        ]);
        strip(&mut given);
        assert_eq!(given, headers(&[("host", "shop"), ("trailer", "x-sum"), ("cookie", "a=1"), ("cookie", "b=2")]));
    }

    #[test]
    fn the_hop_says_who_asked_and_what() {
        let mut given = headers(&[
            ("host", "shop:80"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-for", "10.0.0.2,10.0.0.3"),
            ("x-forwarded-proto", "gopher"),
            ("x-forwarded-host", "forged"),
        ]);
        forwarded(&mut given, Some([127, 0, 0, 9].into()), "https");
        let said = [
            ("host", "shop:80"),
            ("x-forwarded-for", "10.0.0.1, 10.0.0.2, 10.0.0.3, 127.0.0.9"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "shop:80"),
        ];
        assert_eq!(given, headers(&said));
    }

    #[test]
    fn web_sockets_alone_are_upgrades() {
        let asks =
            |connection, protocol| asks_for_websocket(&headers(&[("connection", connection), ("upgrade", protocol)]));
        assert!(asks("keep-alive, Upgrade", "WebSocket"));
        assert!(!asks("keep-alive", "websocket") && !asks("upgrade", "h2c"));
        assert!(!asks_for_websocket(&headers(&[("connection", "upgrade")])));
    }

    #[test]
    fn a_loop_is_seen() {
        let mut given = headers(&[("via", "1.1 other, 1.0 else")]);
        assert!(!has_been_here(&given, "ms-lb-1"));
        via(&mut given, Version::HTTP_11, "ms-lb-1");
        assert!(has_been_here(&given, "ms-lb-1") && !has_been_here(&given, "ms-lb-2"));
    }
}
