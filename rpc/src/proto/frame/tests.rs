use proptest::prelude::*;

use super::*;

fn header() -> Header {
    Header { kind: Kind::Request, compression: 1, codec: 0, id: 0x0102_0304_0506_0708 }
}

#[test]
fn yesterdays_bytes_still_parse() {
    let bytes = [0x1d, 2, 0, 0, 0, 20, 0, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    assert_eq!(header().to_bytes(20), bytes);
    assert_eq!(Header::parse(&bytes, 4096), Ok(Some((header(), 20))));
}

#[test]
fn what_cannot_go_on_is_named() {
    let good = header().to_bytes(17);
    let changed = |at: usize, byte: u8| {
        let mut bytes = good;
        bytes[at] = byte;
        Header::parse(&bytes, 4096)
    };
    assert_eq!(changed(0, b'G'), Err(Malformed::Magic(b'G')));
    assert_eq!(changed(1, 9), Err(Malformed::Version(9)));
    assert_eq!(changed(5, 3), Err(Malformed::Length { length: 3, max_frame: 4096 }));
    assert_eq!(changed(2, 0x7f), Err(Malformed::Length { length: 0x7f00_0011, max_frame: 4096 }));
    assert_eq!(changed(6, 6), Err(Malformed::Kind(6)));
    assert_eq!(changed(6, 100), Err(Malformed::Kind(100)));
    assert!(matches!(changed(6, 200), Ok(Some((Header { kind: Kind::Ignorable(200), .. }, 17)))));
    assert_eq!(Header::parse(b"GET", 4096), Err(Malformed::Magic(b'G')), "before the header is complete");
    for cut in 0..HEADER {
        assert_eq!(Header::parse(&good[..cut], 4096), Ok(None));
    }
}

#[test]
fn goaway_round_trips_and_survives_cuts() {
    let goaway = GoAway { last_id: 7, reason: "draining".to_owned() };
    let frame = goaway.to_frame();
    assert_eq!(GoAway::parse(&frame[HEADER..]), goaway);
    for cut in HEADER..frame.len() {
        GoAway::parse(&frame[HEADER..cut]);
    }
}

proptest! {
    #[test]
    fn any_header_and_goaway_round_trip(
        (kind, compression, codec, id, length) in any::<(u8, u8, u8, u64, u32)>(),
        reason in ".{0,300}",
    ) {
        if let Some(kind) = Kind::from_byte(kind) {
            let (header, length) = (Header { kind, compression, codec, id }, length.max(HEADER as u32));
            let parsed = Header::parse(&header.to_bytes(length), usize::MAX);
            prop_assert_eq!(parsed, Ok(Some((header, length as usize))));
        }
        let goaway = GoAway { last_id: id, reason };
        let parsed = GoAway::parse(&goaway.to_frame()[HEADER..]);
        prop_assert_eq!(parsed, GoAway { reason: clip(&goaway.reason, 1024).to_owned(), ..goaway });
    }
}
