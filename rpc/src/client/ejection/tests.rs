use super::*;

const CONFIG: fn() -> EjectionConfig = EjectionConfig::default;

#[test]
fn five_in_a_row_are_too_many() {
    let state = EjectionState::default();
    let unanswered = || state.unanswered(&CONFIG());
    assert!((0..4).all(|_| !unanswered()));
    state.answered();
    assert!((0..4).all(|_| !unanswered()));
    assert!(unanswered());
    let touchy = EjectionConfig { consecutive_failures: 1, ..CONFIG() };
    assert!(EjectionState::default().unanswered(&touchy));
}

#[test]
fn each_ejection_is_twice_as_long_up_to_a_minute() {
    let (state, config, mut now) = (EjectionState::default(), CONFIG(), Instant::now());
    assert_eq!(state.ejected_until(now), None);
    for seconds in [5, 10, 20, 40, 60, 60] {
        let time = state.eject(&config, now);
        assert_eq!(time.as_secs(), seconds);
        assert_eq!(state.ejected_until(now), Some(now + time));
        now += time;
        assert_eq!(state.ejected_until(now), None);
    }
    now += config.longest + config.first;
    assert_eq!(state.eject(&config, now), config.first, "that was long ago");
    state.forget();
    assert_eq!(state.ejected_until(now), None);
    assert_eq!(state.eject(&config, now), config.first);
}

#[test]
fn never_more_than_the_share_and_never_the_last() {
    let most = |max_share: f64| {
        let config = EjectionConfig { max_share, ..CONFIG() };
        [0, 1, 2, 3, 4, 5].map(|all| (0..).take_while(|ejected| config.allows(*ejected, all)).count())
    };
    assert_eq!(most(0.5), [0, 0, 1, 1, 2, 2]);
    assert_eq!(most(1.0), [0, 0, 1, 2, 3, 4]);
    assert_eq!(most(0.0), [0; 6]);
}

#[test]
fn a_field_out_of_range_is_named() {
    CONFIG().check().unwrap();
    let error = |change: fn(&mut EjectionConfig)| {
        let mut config = CONFIG();
        change(&mut config);
        config.check().unwrap_err().to_string()
    };
    for (message, wanted) in [
        (error(|config| config.consecutive_failures = 0), "consecutive_failures` is 0: use at least 1"),
        (error(|config| config.first = Duration::ZERO), "first` is 0ns: use 1ms to 3600s"),
        (error(|config| config.longest = Duration::from_secs(1)), "longest` is 1s: use 5s to 86400s"),
        (error(|config| config.max_share = 1.5), "max_share` is 1.5: use 0.0 to 1.0"),
        (error(|config| config.max_share = f64::NAN), "max_share` is NaN: use 0.0 to 1.0"),
    ] {
        assert_eq!(message, format!("`ejection.{wanted}"));
    }
}
