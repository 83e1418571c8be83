use super::*;

const TIMES: ServerTimes =
    ServerTimes { hello: Duration::from_secs(10), stall: Duration::from_secs(10), linger: Duration::from_secs(1) };

struct Side {
    side: ServerSide,
    out: Vec<u8>,
    start: Instant,
}

impl Side {
    fn new() -> Self {
        let start = Instant::now();
        Self { side: ServerSide::new(TIMES, start, None), out: Vec::new(), start }
    }

    fn open() -> Self {
        let mut side = Self::new();
        assert_eq!(side.frame(Kind::Hello, 0), ServerEvent::Hello(ClientHello::default()));
        side
    }

    fn frame(&mut self, kind: Kind, id: u64) -> ServerEvent {
        self.side.frame(&Header::control(kind, id), &[], &mut self.out)
    }

    fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    /// The reason of the GOAWAY that was said.
    fn goaway(&self) -> GoAway {
        let (header, _) = Header::parse(&self.out, 4096).unwrap().unwrap();
        assert_eq!(header.kind, Kind::GoAway);
        GoAway::parse(&self.out[HEADER..])
    }
}

#[test]
fn calls_are_taken_between_hello_and_drain() {
    let mut side = Side::open();
    assert_eq!(side.frame(Kind::Request, 5), ServerEvent::Request);
    assert_eq!(side.frame(Kind::Cancel, 5), ServerEvent::Cancel(5));
    assert_eq!(side.frame(Kind::Ignorable(200), 9), ServerEvent::Nothing);
    assert!(side.out.is_empty());
    assert!(side.side.drain("the server is shutting down", &mut side.out) && !side.side.drain("again", &mut side.out));
    assert_eq!(side.goaway(), GoAway { last_id: 5, reason: "the server is shutting down".to_owned() });
    assert_eq!(side.frame(Kind::Request, 6), ServerEvent::LateRequest);
    assert_eq!(side.frame(Kind::Cancel, 5), ServerEvent::Cancel(5));
    side.side.all_answered();
    assert!(side.side.is_closing() && !side.side.is_shut());
    assert_eq!(side.frame(Kind::Request, 7), ServerEvent::Nothing);
    side.side.shut(side.at(3));
    assert!(side.side.is_shut());
    assert_eq!(side.side.timeout(side.at(3)), None);
    assert_eq!(side.side.timeout(side.at(4)), Some("the client did not close in time"));
}

#[test]
fn a_broken_rule_is_named_once_and_ends_the_connection() {
    for (frames, reason) in [
        (&[(Kind::Request, 1)][..], "does not belong here"),
        (&[(Kind::Hello, 0), (Kind::Hello, 0)], "does not belong here"),
        (&[(Kind::Hello, 0), (Kind::Request, 7), (Kind::Request, 7)], "does not rise"),
        (&[(Kind::Hello, 0), (Kind::Response, 7)], "does not belong here"),
    ] {
        let mut side = Side::new();
        let (last, before) = frames.split_last().unwrap();
        before.iter().for_each(|(kind, id)| assert_ne!(side.frame(*kind, *id), ServerEvent::Malformed));
        assert_eq!(side.frame(last.0, last.1), ServerEvent::Malformed);
        assert!(side.goaway().reason.contains(reason), "{:?}", side.goaway());
        let said = side.out.len();
        assert_eq!(side.frame(last.0, last.1), ServerEvent::Nothing);
        assert_eq!(side.out.len(), said);
    }
}

#[test]
fn times_are_kept() {
    let side = Side::new();
    assert_eq!((side.side.next_timeout(), side.side.timeout(side.at(9))), (Some(side.at(10)), None));
    assert_eq!(side.side.timeout(side.at(10)), Some("the client did not say HELLO in time"));
    let mut side = Side::open();
    assert_eq!(side.side.next_timeout(), None);
    let at = [0, 4, 8].map(|seconds| side.at(seconds));
    side.side.blocked(true, at[0]);
    side.side.blocked(false, at[1]);
    assert_eq!(side.side.next_timeout(), Some(side.at(10)));
    side.side.blocked(true, at[2]);
    assert_eq!(side.side.timeout(side.at(18)), Some("the client takes no answers"));
    side.side.written();
    side.side.received(true, 100, at[2]);
    assert_eq!(side.side.timeout(side.at(18)), Some("a request took too long to arrive"));
    assert_eq!(side.frame(Kind::Request, 1), ServerEvent::Request);
    assert_eq!(side.side.next_timeout(), None);
}
