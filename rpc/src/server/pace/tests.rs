use super::*;

const fn computing(wall: Duration) -> Spent {
    Spent { wall, cpu: wall, slept: false }
}

const SHORT: Spent = computing(Duration::from_micros(5));
const MS: Spent = computing(Duration::from_millis(1));
const PREEMPTED: Spent = Spent { cpu: Duration::from_micros(5), ..MS };
const ASLEEP: Spent = Spent { slept: true, ..PREEMPTED };

#[test]
fn a_fast_method_is_soon_left_alone() {
    let pace = Pace::new(Threads::InPlace);
    for _ in 0..PROBES {
        assert!(pace.is_probed() && pace.threads() == Threads::InPlace);
        pace.observe(&SHORT);
    }
    assert!(!pace.is_probed());
}

#[test]
fn two_long_polls_are_enough_and_many_short_ones_are_needed_to_forgive() {
    let pace = Pace::new(Threads::InPlace);
    pace.observe(&MS);
    assert!(pace.is_probed() && pace.threads() == Threads::InPlace);
    pace.observe(&PREEMPTED);
    pace.observe(&MS);
    assert!(pace.threads() == Threads::InPlace, "the thread had lost its processor");
    for (spent, threads) in [(MS, Threads::Compute), (ASLEEP, Threads::Blocking)] {
        let pace = Pace::new(Threads::InPlace);
        pace.observe(&spent);
        pace.observe(&spent);
        for _ in 0..=SLOW_PROBES {
            assert_eq!(pace.threads(), threads);
            pace.observe(&SHORT);
        }
        assert!(pace.threads() == Threads::InPlace && pace.is_probed());
    }
}

#[test]
fn one_long_sleep_is_enough() {
    let pace = Pace::new(Threads::InPlace);
    pace.observe(&Spent { wall: BLOCKED, ..ASLEEP });
    assert_eq!(pace.threads(), Threads::Blocking);
    pace.observe(&MS);
    assert_eq!(pace.threads(), Threads::Blocking, "it is known to block");
}

#[test]
fn the_author_knows_best() {
    for threads in [Threads::Compute, Threads::Blocking] {
        let pace = Pace::new(threads);
        (0..1000).for_each(|_| pace.observe(&SHORT));
        assert_eq!(pace.threads(), threads);
    }
}
