//! Topics of requests and answers. Pure.

/// Version of the balancer in the topics of its own requests.
const VERSION: &str = "1.0";

/// Actions whose senders wait for an answer.
const AWAITED: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];
/// Actions whose senders do not.
const TOLD: [&str; 2] = ["UPDATED", "DELETED"];

/// Topics of the requests to the balancer with this code.
pub(super) fn requests(code: &str) -> String {
    format!("/+/+/+/+/{code}/#")
}

/// Topics of the answers to the balancer with this name.
pub(super) fn answers(name: &str) -> String {
    format!("/{VERSION}/{name}/+/+")
}

/// A request's topic: `/<version>/<name>/<ACTION>/<session>/<code>/<rest>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    version: &'a str,
    /// Name of the sender.
    pub(super) name: &'a str,
    action: &'a str,
    session: &'a str,
    /// The topic behind the balancer's code, for which rules are looked up.
    pub(super) rest: &'a str,
}

impl<'a> Request<'a> {
    /// Parses the topic of a request to the balancer with this code.
    pub(super) fn parse(topic: &'a str, code: &str) -> Option<Self> {
        let mut steps = topic.strip_prefix('/')?.splitn(6, '/');
        let (version, name, action, session) = (steps.next()?, steps.next()?, steps.next()?, steps.next()?);
        let (addressed, rest) = (steps.next()?, steps.next()?);
        let is_request = addressed == code && !rest.is_empty() && (AWAITED.contains(&action) || TOLD.contains(&action));
        is_request.then_some(Self { version, name, action, session, rest })
    }

    /// Returns true if the sender waits for an answer.
    pub(super) fn is_awaited(&self) -> bool {
        AWAITED.contains(&self.action)
    }

    /// Topic at which the sender waits.
    pub(super) fn answer_to(&self) -> String {
        let Self { version, name, action, session, .. } = self;
        format!("/{version}/{name}/{action}/{session}")
    }

    /// Topic under which the server with this code gets the request.
    pub(super) fn relayed(&self, name: &str, session: u64, code: &str) -> String {
        let (action, rest) = (self.action, self.rest.strip_suffix('/').unwrap_or(self.rest));
        format!("/{VERSION}/{name}/{action}/{session}/{rest}/{code}/")
    }
}

/// Session of an answer to the balancer.
pub(super) fn session(topic: &str) -> Option<u64> {
    topic.rsplit('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_passed_on_with_the_servers_code_in_place_of_the_balancers() {
        let request = Request::parse("/2.0/cgws/POST/s-1/own/configs/serverinfo/", "own").unwrap();
        assert_eq!((request.rest, request.answer_to().as_str()), ("configs/serverinfo/", "/2.0/cgws/POST/s-1"));
        assert_eq!(request.relayed("lb", 7, "theirs"), "/1.0/lb/POST/7/configs/serverinfo/theirs/");
        let bare = Request::parse("/2.0/cgws/GET/s/own/configs", "own").unwrap();
        assert_eq!(bare.relayed("lb", 8, "theirs"), "/1.0/lb/GET/8/configs/theirs/", "a slash is added");
        assert_eq!(session("/1.0/lb/POST/7"), Some(7));
        assert_eq!((requests("own").as_str(), answers("lb").as_str()), ("/+/+/+/+/own/#", "/1.0/lb/+/+"));
    }

    #[test]
    fn senders_of_changes_do_not_wait() {
        for (action, is_awaited) in [
            ("GET", Some(true)),
            ("POST", Some(true)),
            ("PUT", Some(true)),
            ("DELETE", Some(true)),
            ("UPDATED", Some(false)),
            ("DELETED", Some(false)),
            ("PATCH", None),
            ("", None),
        ] {
            let topic = format!("/1/n/{action}/s/own/x/");
            assert_eq!(Request::parse(&topic, "own").map(|request| request.is_awaited()), is_awaited, "{action}");
        }
    }

    #[test]
    fn other_topics_are_no_requests() {
        for topic in
            ["", "/", "1/n/GET/s/own/x/", "/1/n/GET/s/own", "/1/n/GET/s/own/", "/1/n/GET/s/other/x/", "/1/n/GET/own/x/"]
        {
            assert_eq!(Request::parse(topic, "own"), None, "{topic}");
        }
        for topic in ["/1.0/lb/GET/", "/1.0/lb/GET/x", "/1.0/lb/GET/-1"] {
            assert_eq!(session(topic), None, "{topic}");
        }
    }
}
