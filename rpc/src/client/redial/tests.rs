use super::*;

const MS: Duration = Duration::from_millis(1);

#[test]
fn pauses_grow_to_their_cap_and_start_again_after_a_life() {
    let (mut redial, now) = (Redial::default(), Instant::now());
    assert!(redial.is_due(false, now), "the first dial of all is made at once");
    for most in [900, 1440, 2304, 3686, 5898, 9437, 10_000, 10_000] {
        redial.failed(&RedialConfig::default(), now, now, 0.999_999);
        assert!(!redial.is_due(false, now + (most - 2) * MS), "{most} ms");
        assert!(redial.is_due(false, now + (most + 1) * MS), "{most} ms");
    }
    redial.lost(&RedialConfig::default(), Duration::from_millis(10), now, 0.999);
    assert!(!redial.is_due(false, now + 9 * Duration::from_secs(1)), "it closes at once what it accepts");
    redial.lost(&RedialConfig::default(), Duration::from_secs(60), now, 0.5);
    assert!(redial.is_due(false, now + 450 * MS));
}

#[test]
fn while_calls_wait_a_dial_comes_once_in_the_time_of_the_first() {
    let (mut redial, mut now) = (Redial::default(), Instant::now());
    redial.lost(&RedialConfig::default(), Duration::from_secs(60), now, 0.7);
    assert!(!redial.is_due(true, now + 629 * MS));
    now += 630 * MS;
    for _ in 0..20 {
        assert!(redial.is_due(true, now));
        redial.failed(&RedialConfig::default(), now, now + 5 * MS, 0.0);
        assert!(!redial.is_due(true, now + 899 * MS));
        now += RedialConfig::default().first;
    }
}

/// 2,000 clients lose their only server at the same moment, and it is away for 8 s.
#[test]
fn two_thousand_clients_that_lose_one_server_stay_spread_out() {
    let start = Instant::now();
    let mut random = fastrand::Rng::with_seed(7);
    let mut clients: Vec<_> = std::iter::repeat_with(|| (Redial::default(), false)).take(2000).collect();
    for (redial, _) in &mut clients {
        redial.lost(&RedialConfig::default(), Duration::from_secs(60), start, random.f64());
    }
    let mut connects = Vec::new();
    for tick in 0..15_000u32 {
        let now = start + tick * MS;
        for (redial, back) in clients.iter_mut().filter(|(redial, back)| !back && redial.is_due(true, now)) {
            connects.push(tick);
            *back = tick >= 8000;
            if !*back {
                redial.failed(&RedialConfig::default(), now, now + MS, random.f64());
            }
        }
    }
    assert!(clients.iter().all(|(_, back)| *back), "all are back within 15 s");
    assert!(*connects.last().unwrap() <= 8900, "calls go on within 0.9 s");
    let most = (0..14_900u32).map(|from| {
        connects.partition_point(|tick| *tick < from + 100) - connects.partition_point(|tick| *tick < from)
    });
    let most = most.max().unwrap();
    assert!(most <= 300, "{most} connects within 100 ms");
}
