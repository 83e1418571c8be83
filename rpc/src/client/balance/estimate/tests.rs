use super::*;

const MS: Duration = Duration::from_millis(1);

fn cost(load: &Arc<LoadEstimate>) -> f32 {
    LoadEstimates::One(load.clone()).cost(load.clock.read()) / 1e6
}

#[test]
fn a_long_answer_counts_at_once_and_fades_by_half_in_two_seconds() {
    let (load, start) = (Arc::new(LoadEstimate::default()), Instant::now());
    assert_eq!(cost(&load), 0.0, "nothing is known: it is tried");
    load.set_in_flight(1);
    assert_eq!(cost(&load), 1_000.0, "but not by all at once");
    load.set_in_flight(0);
    load.answered(4 * MS, start + MS);
    load.answered(100 * MS, start + 2 * MS);
    load.answered(4 * MS, start + 3 * MS);
    assert_eq!(cost(&load), 100.0);
    load.set_in_flight(2);
    assert_eq!(cost(&load), 300.0);
    load.set_in_flight(0);
    load.tick(start + 2002 * MS);
    assert!((49.9..50.1).contains(&cost(&load)), "{}", cost(&load));
    load.answered(4 * MS, start + 2002 * MS);
    assert!((51.9..52.1).contains(&cost(&load)), "half of each: {}", cost(&load));
    (2..40).for_each(|second| load.answered(4 * MS, start + second * 1000 * MS));
    assert!((4.0..4.1).contains(&cost(&load)), "{}", cost(&load));
}

#[test]
fn frequent_short_answers_bring_it_down_as_fast_as_rare_ones() {
    let (load, start) = (Arc::new(LoadEstimate::default()), Instant::now());
    load.answered(100 * MS, start);
    (0..20_000).for_each(|tenth| load.answered(MS, start + tenth * MS / 10));
    assert!((50.0..51.5).contains(&cost(&load)), "{}", cost(&load));
}

#[test]
fn each_refusal_costs_twice_as_much_up_to_a_minute() {
    let (load, start) = (Arc::new(LoadEstimate::default()), Instant::now());
    let costs = [(); 3].map(|()| {
        load.refused(start);
        cost(&load)
    });
    assert_eq!(costs, [2.0, 4.0, 8.0]);
    (0..100).for_each(|_| load.refused(start));
    assert_eq!(cost(&load).round(), 60_000.0);
    load.tick(start + 60 * 1000 * MS);
    assert!(cost(&load) < 0.1, "it is forgotten after a minute: {}", cost(&load));
}

#[test]
fn an_instance_is_the_sum_of_its_connections() {
    let loads: [Arc<LoadEstimate>; 3] = std::array::from_fn(|_| Arc::default());
    for (at, load) in (1..).zip(&loads) {
        load.set_in_flight(at);
        load.answered(at as u32 * MS, Instant::now());
    }
    let [one, ..] = &loads;
    assert_eq!(LoadEstimates::from_iter([one.clone()]).in_flight(), 1);
    let all = LoadEstimates::from_iter(loads);
    assert_eq!((all.in_flight(), all.cost(0)), (6, 21e6));
    assert_eq!(LoadEstimates::from_iter([]).cost(0), 0.0);
}
