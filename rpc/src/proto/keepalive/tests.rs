use super::*;

const EMPTY: Output = Output { written: 7, waits: false };

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

#[test]
fn silence_is_a_ping_and_then_the_end() {
    for (busy, silence) in [(true, 2.0), (false, 30.0)] {
        let start = Instant::now();
        let mut keepalive = Keepalive::new(KeepaliveConfig::default(), start);
        let ping = start + seconds(silence);
        assert_eq!(keepalive.due(busy, EMPTY, start), Due::Later(ping));
        assert_eq!(keepalive.due(busy, EMPTY, ping), Due::Ping);
        assert_eq!(keepalive.due(busy, EMPTY, ping), Due::Later(ping + seconds(1.0)));
        assert_eq!(keepalive.due(busy, EMPTY, ping + seconds(1.0)), Due::Dead);
    }
}

#[test]
fn any_byte_is_a_sign_of_life() {
    let start = Instant::now();
    let mut keepalive = Keepalive::new(KeepaliveConfig::default(), start);
    assert_eq!(keepalive.due(true, EMPTY, start + seconds(2.0)), Due::Ping);
    keepalive.heard(start + seconds(2.9));
    assert_eq!(keepalive.due(true, EMPTY, start + seconds(3.0)), Due::Later(start + seconds(4.9)));
}

#[test]
fn a_ping_behind_a_long_request_is_waited_for_as_long_as_it_moves() {
    let start = Instant::now();
    let mut keepalive = Keepalive::new(KeepaliveConfig::default(), start);
    let waiting = |written| Output { written, waits: true };
    let mut now = start + seconds(2.0);
    keepalive.due(true, waiting(100), now);
    for written in 101..120 {
        now += seconds(0.9);
        assert_eq!(keepalive.due(true, waiting(written), now), Due::Later(now + seconds(1.0)));
    }
    now += seconds(0.9);
    assert_eq!(keepalive.due(true, Output { written: 200, waits: false }, now), Due::Later(now + seconds(1.0)));
    // The ping has left: bytes written now are no sign of life.
    assert_eq!(keepalive.due(true, waiting(300), now + seconds(1.0)), Due::Dead);

    let mut stuck = Keepalive::new(KeepaliveConfig::default(), start);
    stuck.due(true, waiting(100), start + seconds(2.0));
    assert_eq!(stuck.due(true, waiting(100), start + seconds(3.0)), Due::Dead);
}
