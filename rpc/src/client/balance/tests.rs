use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use allocation_counter::measure;
use ms_register::Instance;
use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::{Code, Outcome};

/// Instances with these ids and weights, all connected, and a balancer over them.
struct Scene {
    ids: Vec<String>,
    loads: Vec<Arc<LoadEstimate>>,
    choices: Choices,
    clock: Arc<Clock>,
}

fn candidate(slot: u32, id: &str, weight: f64, loads: LoadEstimates) -> Candidate {
    let instance = Instance::new("10.0.0.1", 80).with_id(id).with_weight(weight);
    Candidate::new(slot, Arc::new(instance), loads)
}

impl Scene {
    fn new(balancer: Balancer, weights: &[f64]) -> Self {
        let ids = (0..weights.len()).map(|at| format!("10.0.0.{at:03}:80")).collect();
        Self::of(balancer, ids, weights, |_| true)
    }

    fn even(balancer: Balancer, count: usize) -> Self {
        Self::new(balancer, &vec![1.0; count])
    }

    /// Candidates without a connection are listed all the same.
    fn of(balancer: Balancer, ids: Vec<String>, weights: &[f64], is_connected: impl Fn(usize) -> bool) -> Self {
        let clock = Arc::<Clock>::default();
        let loads: Vec<_> = ids.iter().map(|_| Arc::new(LoadEstimate::new(clock.clone()))).collect();
        let policy = Arc::new(Policy::new(balancer.into()));
        let listed = (0..).zip(&ids).zip(weights).map(|((slot, id), weight)| (slot, id.as_str(), *weight));
        let listed = Arc::new(Listed::new(policy.balancing.needs_ring(), None, listed));
        let connected = (0..ids.len()).filter(|slot| is_connected(*slot));
        let candidates = connected
            .map(|slot| candidate(slot as u32, &ids[slot], weights[slot], LoadEstimates::One(loads[slot].clone())));
        let choices = Choices::new(&policy, &listed, candidates);
        Self { ids, loads, choices, clock }
    }

    fn pick(&self, key: Option<&str>) -> usize {
        let key = key.map(|key| Key::new(key.as_bytes()));
        self.choices.pick(&PickContext { key, bytes: None, clock: &self.clock }).unwrap().unwrap() as usize
    }

    /// Owners of the first `keys` keys.
    fn owners(&self, keys: usize) -> Vec<&str> {
        (0..keys).map(|key| self.ids[self.pick(Some(&key.to_string()))].as_str()).collect()
    }

    fn shares(&self, picks: usize) -> Vec<usize> {
        let mut shares = vec![0; self.ids.len()];
        (0..picks).for_each(|_| shares[self.pick(None)] += 1);
        shares
    }

    fn hold(&self, slot: usize, calls: usize) {
        self.loads[slot].set_in_flight(calls);
    }
}

#[test]
fn the_round_robins_are_exact() {
    assert_eq!(Scene::new(Balancer::RoundRobin, &[1.0, 5.0]).shares(4000), [2000, 2000]);
    assert_eq!(Scene::new(Balancer::WeightedRoundRobin, &[3.0, 1.0]).shares(4000), [3000, 1000]);
    assert_eq!(Scene::new(Balancer::WeightedRoundRobin, &[0.5, 1.5, 2.0]).shares(4000), [500, 1500, 2000]);
}

#[test]
fn a_weighted_round_robin_is_exact_over_all_threads_and_well_mixed() {
    let scene = Scene::new(Balancer::WeightedRoundRobin, &[3.0, 1.0]);
    let shares: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| scene.shares(1000))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!([0, 1].map(|at| shares.iter().map(|share| share[at]).sum::<usize>()), [3000, 1000]);
    let mixed = Scene::new(Balancer::WeightedRoundRobin, &[5.0, 1.0, 2.0]);
    let turns: Vec<_> = (0..8).map(|_| mixed.pick(None)).collect();
    assert_eq!(turns, [0, 2, 0, 0, 1, 0, 2, 0]);
}

#[test]
fn random_shares_are_within_3_sigma() {
    fastrand::seed(7);
    // sigma = sqrt(n p (1 - p))
    let even = Scene::new(Balancer::Random, &[1.0, 3.0]).shares(40_000);
    assert!(even[0].abs_diff(20_000) <= 300, "{even:?}");
    let weighted = Scene::new(Balancer::WeightedRandom, &[1.0, 3.0]).shares(40_000);
    assert!(weighted[0].abs_diff(10_000) <= 259, "{weighted:?}");
    for balancer in [Balancer::P2c, Balancer::LeastConnections] {
        for count in [2, 10, 200] {
            let picks = 1000 * count;
            let (mean, sigma) = (1000, (1000.0 * (1.0 - 1.0 / count as f64)).sqrt());
            let shares = Scene::even(balancer, count).shares(picks);
            // One share in 370 may be beyond 3 sigma; none may be beyond 4.5.
            let far = |sigmas: f64| shares.iter().filter(|share| share.abs_diff(mean) as f64 > sigmas * sigma).count();
            assert!(far(3.0) <= count / 100 && far(4.5) == 0, "{balancer} of {count}: {shares:?}");
        }
    }
}

/// The values that peers in other languages compute.
#[test]
fn address_and_key_hashes_are_crc32_modulo_the_count() {
    assert_eq!(Key::new(b"192.168.9.2").crc, 526_381_917);
    assert_eq!(Key::of_address("192.168.9.2".parse().unwrap()).crc, 526_381_917);
    assert_eq!(Key::of_address("::ffff:192.168.9.2".parse().unwrap()).crc, 526_381_917);
    let longest = "1111:2222:3333:4444:5555:6666:7777:8888";
    assert_eq!(Key::of_address(longest.parse().unwrap()), Key::new(longest.as_bytes()));
    for balancer in [Balancer::IpHash, Balancer::KeyHash] {
        for count in 1..=200 {
            let scene = Scene::even(balancer, count);
            assert_eq!(scene.pick(Some("192.168.9.2")), 526_381_917 % count, "{count}");
        }
    }
}

/// Pins the hashes: a change of them moves the keys of every user.
#[test]
fn hashes_are_the_same_in_every_process_and_version() {
    let owners = |balancer| {
        let scene = Scene::even(balancer, 7);
        (0..24).map(|key| scene.pick(Some(&format!("customer-{key}"))).to_string()).collect::<String>()
    };
    assert_eq!(owners(Balancer::KeyHash), "030446654630666644026352");
    assert_eq!(owners(Balancer::ConsistentHash), "516665100216551630312235");
    assert_eq!(owners(Balancer::BoundedHash(125)), "516665100216551630312235");
}

#[test]
fn a_consistent_hash_moves_only_the_keys_of_who_leaves() {
    const KEYS: usize = 5_000;
    for count in [2, 3, 10, 40] {
        let ids: Vec<_> = (0..count).map(|at| format!("10.0.0.{at}:80")).collect();
        let weights = vec![1.0; count];
        let all = Scene::of(Balancer::ConsistentHash, ids.clone(), &weights, |_| true);
        let before = all.owners(KEYS);
        for leaver in 0..count.min(5) {
            let mut left = ids.clone();
            let gone = left.remove(leaver);
            let rest = Scene::of(Balancer::ConsistentHash, left, &weights[1..], |_| true);
            // Removed from the list, or only not connected.
            let lost = Scene::of(Balancer::ConsistentHash, ids.clone(), &weights, |slot| slot != leaver);
            let (after, meanwhile) = (rest.owners(KEYS), lost.owners(KEYS));
            assert_eq!(after, meanwhile);
            let moved = before.iter().zip(&after).filter(|(before, after)| before != after);
            assert!(moved.clone().all(|(before, _)| *before == gone));
            assert_eq!(moved.count(), before.iter().filter(|before| **before == gone).count());
        }
        let mut counts = HashMap::<_, usize>::new();
        before.iter().for_each(|owner| *counts.entry(owner).or_default() += 1);
        let (mean, most) = (KEYS / count, *counts.values().max().unwrap());
        assert!(counts.len() == count && most < mean * 3 / 2, "{most} of {KEYS} keys at one of {count}");
    }
}

#[test]
fn a_lost_connection_moves_no_keys_but_its_own() {
    let ids: Vec<_> = (0..10).map(|at| format!("10.0.0.{at}:80")).collect();
    for balancer in [Balancer::IpHash, Balancer::KeyHash, Balancer::ConsistentHash, Balancer::BoundedHash(125)] {
        let scene = |without: usize| Scene::of(balancer, ids.clone(), &[1.0; 10], |slot| slot != without);
        let (all, lost) = (scene(99), scene(3));
        let pairs: Vec<_> =
            all.owners(5000).into_iter().zip(lost.owners(5000)).map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
        assert!(pairs.iter().all(|(before, after)| before == after || before == &ids[3]));
        let mut heirs = BTreeMap::<_, usize>::new();
        pairs
            .iter()
            .filter(|(before, _)| before == &ids[3])
            .for_each(|(_, after)| *heirs.entry(after).or_default() += 1);
        assert!(heirs.len() == 9 && !heirs.contains_key(&ids[3]), "{balancer}: they are spread: {heirs:?}");
    }
}

#[test]
fn a_key_without_any_connected_neighbour_still_has_one_owner() {
    let ids: Vec<_> = (0..2000).map(|at| format!("10.0.{}.{}:80", at / 250, at % 250)).collect();
    let scene = Scene::of(Balancer::ConsistentHash, ids, &[1.0; 2000], |slot| slot == 1000 || slot == 1001);
    let owners = scene.owners(200);
    assert_eq!(owners, scene.owners(200));
    assert_eq!(owners.into_iter().collect::<std::collections::HashSet<_>>().len(), 2);
}

#[test]
fn a_bounded_hash_passes_on_what_is_above_the_share() {
    let scene = Scene::even(Balancer::BoundedHash(125), 4);
    let owner = scene.pick(Some("popular"));
    let mut in_flight = [0; 4];
    for call in 1..=400u32 {
        let slot = scene.pick(Some("popular"));
        in_flight[slot] += 1;
        scene.hold(slot, in_flight[slot]);
        let most = (f64::from(call) * 1.25 / 4.0).ceil() as usize;
        assert!(in_flight.iter().all(|calls| *calls <= most), "{in_flight:?} after {call} calls");
    }
    assert_eq!(in_flight[owner], 125, "{in_flight:?}");
    (0..4).for_each(|slot| scene.hold(slot, 0));
    assert_eq!(scene.pick(Some("popular")), owner, "it gets them back");
    let unbounded = Scene::even(Balancer::ConsistentHash, 4);
    unbounded.hold(owner, 1000);
    assert_eq!(unbounded.pick(Some("popular")), owner);
}

#[test]
fn a_call_without_a_key_takes_turns() {
    for balancer in [Balancer::IpHash, Balancer::KeyHash, Balancer::ConsistentHash, Balancer::BoundedHash(125)] {
        assert_eq!(Scene::even(balancer, 4).shares(400), [100; 4], "{balancer}");
    }
}

#[test]
fn while_one_instance_holds_a_call_the_next_five_go_elsewhere() {
    for balancer in [Balancer::LeastConnections, Balancer::P2c] {
        for count in [2, 3, 10] {
            let scene = Scene::even(balancer, count);
            let now = Instant::now();
            scene.loads.iter().for_each(|load| load.answered(Duration::from_millis(1), now));
            let busy = scene.pick(None);
            scene.hold(busy, 1);
            let next: Vec<_> = (0..5).map(|_| scene.pick(None)).collect();
            assert!(!next.contains(&busy), "{balancer} of {count}: {busy} is busy, picked {next:?}");
            scene.hold(busy, 0);
            assert!((0..1000).any(|_| scene.pick(None) == busy), "{balancer}: it comes back");
        }
    }
}

#[test]
fn the_least_busy_is_found_exactly_among_128_and_mostly_among_more() {
    for count in [2, 100, 128] {
        let scene = Scene::even(Balancer::LeastConnections, count);
        (0..count).for_each(|slot| scene.hold(slot, 2));
        scene.hold(count / 2, 1);
        assert!((0..100).all(|_| scene.pick(None) == count / 2));
    }
    fastrand::seed(7);
    let scene = Scene::even(Balancer::LeastConnections, 10_000);
    (0..5_000).for_each(|slot| scene.hold(slot, 9));
    let busy = (0..10_000).filter(|_| scene.pick(None) < 5_000).count();
    // All of 8 are busy once in 256 times: 39 of 10,000, sigma 6.2.
    assert!((20..=58).contains(&busy), "{busy}");
    let heavy = Scene::new(Balancer::LeastConnections, &[1.0, 3.0]);
    heavy.hold(1, 1);
    assert_eq!(heavy.pick(None), 1, "2 calls on weight 3 are fewer than 1 on weight 1");
}

#[test]
fn of_two_the_faster_and_less_busy_is_picked() {
    let (scene, start) = (Scene::even(Balancer::P2c, 2), Instant::now());
    scene.loads[0].answered(Duration::from_millis(10), start);
    scene.loads[1].answered(Duration::from_millis(2), start);
    assert_eq!(scene.shares(100), [0, 100]);
    scene.hold(1, 5);
    assert_eq!(scene.shares(100), [100, 0], "6 calls of 2 ms are more than one of 10");
    scene.hold(1, 3);
    assert_eq!(scene.shares(100), [0, 100]);
    scene.loads[1].answered(Duration::from_millis(2), start + Duration::from_secs(5));
    assert_eq!(scene.shares(100), [100, 0], "what was slow is tried again");
    let heavy = Scene::new(Balancer::P2c, &[1.0, 4.0]);
    heavy.loads.iter().for_each(|load| load.answered(Duration::from_millis(1), start));
    heavy.hold(1, 2);
    assert_eq!(heavy.shares(100), [0, 100]);
}

/// One instance refuses in 10 us what the others do in 100 ms.
#[test]
fn who_refuses_fast_is_not_favoured() {
    fastrand::seed(7);
    let (scene, start) = (Scene::even(Balancer::P2c, 3), Instant::now());
    let (mut now, mut refusals, mut calls) = (start, 0, 0);
    while now < start + Duration::from_secs(60) {
        let slot = scene.pick(None);
        calls += 1;
        if slot == 1 {
            refusals += 1;
            now += Duration::from_micros(10);
            scene.loads[1].refused(now);
        } else {
            now += Duration::from_millis(100);
            scene.loads[slot].answered(Duration::from_millis(100), now);
        }
    }
    assert!(calls >= 600 && refusals <= 60, "{refusals} of {calls} calls were refused");
}

#[test]
fn what_is_avoided_is_picked_only_when_nothing_else_is_left() {
    for balancer in Balancer::ALL {
        let scene = Scene::even(balancer, 3);
        let ask = PickContext { key: Some(Key::new(b"k")), bytes: None, clock: &scene.clock };
        for _ in 0..20 {
            assert_eq!(scene.choices.pick_other(&ask, |slot| slot != 1).unwrap(), Some(1), "{balancer}");
            assert_eq!(scene.choices.pick_other(&ask, |_| true).unwrap(), None);
        }
        let nobody = Scene::even(balancer, 0);
        assert_eq!(nobody.choices.pick(&ask).unwrap(), None);
        assert_eq!(nobody.choices.pick_other(&ask, |_| false).unwrap(), None);
    }
}

#[test]
fn a_pick_allocates_nothing() {
    for balancer in Balancer::ALL {
        for count in [1, 10, 1000] {
            let scene = Scene::even(balancer, count);
            // The thread's own generator of random numbers is made once.
            scene.pick(Some("k"));
            let allocated = measure(|| (0..100).for_each(|_| _ = (scene.pick(Some("k")), scene.pick(None))));
            assert_eq!(allocated.count_total, 0, "{balancer} of {count}");
        }
    }
    let address = "1111:2222:3333:4444:5555:6666:7777:8888".parse().unwrap();
    assert_eq!(measure(|| _ = Key::of_address(address)).count_total, 0);
}

#[test]
fn names_parse() {
    for balancer in Balancer::ALL.into_iter().chain([Balancer::BoundedHash(150)]) {
        assert_eq!(balancer.to_string().parse(), Ok(balancer));
        let balancing = balancer.near("eu-1").only("version", "v2").only("tier", "gold");
        assert_eq!(balancing.to_string().parse(), Ok(balancing));
    }
    assert_eq!("p2c".parse(), Ok(Balancing::default()));
    assert_eq!("bounded-hash".parse(), Ok(Balancer::BoundedHash(125)));
    assert_eq!("p2c,zone=eu-1".parse(), Ok(Balancer::P2c.only("zone", "eu-1")));
    assert!("best".parse::<Balancer>().unwrap_err().contains("least-connections"));
    for wrong in ["", "p2c,", "p2c,near=", "p2c,v2", "p2c,=v2", "near=eu-1", "bounded-hash:99", "bounded-hash:x"] {
        let error = wrong.parse::<Balancing>().unwrap_err();
        assert!(error.contains(&format!("{wrong:?}")), "{error}");
    }
}

proptest! {
    /// A pick is a connected candidate, for any weights.
    #[test]
    fn a_pick_is_always_one_of_the_candidates(
        instances in prop::collection::vec((any::<bool>(), prop_oneof![1e-9f64..1e-3, 0.1f64..10.0, 1e3f64..1e9]), 1..40),
        keys in prop::collection::vec(any::<Option<u8>>(), 1..20),
    ) {
        let weights: Vec<_> = instances.iter().map(|(_, weight)| *weight).collect();
        let ids: Vec<_> = (0..instances.len()).map(|at| format!("10.0.0.{at:03}:80")).collect();
        for balancer in Balancer::ALL {
            let scene = Scene::of(balancer, ids.clone(), &weights, |slot| instances[slot].0);
            for key in &keys {
                let key = key.map(|key| Key::new(&[key]));
                let picked = scene.choices.pick(&PickContext { key, bytes: None, clock: &scene.clock });
                match picked.unwrap() {
                    Some(slot) => prop_assert!(instances[slot as usize].0, "{}", balancer),
                    None => prop_assert!(!instances.iter().any(|(connected, _)| *connected)),
                }
            }
        }
    }
}

#[derive(Debug)]
struct Fixed(Option<usize>);

impl Balance for Fixed {
    fn pick(&self, _: &Candidates, _: &PickContext<'_>) -> usize {
        self.0.unwrap()
    }
}

fn over(balancing: Balancing, count: u32) -> Choices {
    let candidates = (0..count).map(|slot| candidate(slot * 2, &slot.to_string(), 1.0, LoadEstimates::None));
    Choices::new(&Policy::new(balancing), &Arc::default(), candidates)
}

#[test]
fn a_custom_balancer_that_fails_is_named() {
    let clock = Arc::<Clock>::default();
    let call = PickContext { key: None, bytes: None, clock: &clock };
    let fixed = |index| Balancing::custom("fixed", move |_| Fixed(index));
    assert_eq!(over(fixed(Some(2)), 3).pick(&call).unwrap(), Some(4));
    assert_eq!(over(fixed(None), 1).pick(&call).unwrap(), Some(0), "there is nothing to choose");
    assert_eq!(over(fixed(None), 0).pick(&call).unwrap(), None);
    let hasty = Balancing::custom("fixed", |_| -> Fixed { panic!("at its making") });
    for (balancing, message) in [
        (fixed(Some(3)), "balancer `fixed` returned index 3 of 3 candidates: use 0 to 2"),
        (fixed(None), "balancer `fixed` panicked during a pick"),
        (hasty, "balancer `fixed` panicked when it was made: its factory must take any candidates"),
    ] {
        let choices = over(balancing, 3);
        for status in [choices.pick(&call), choices.pick_other(&call, |_| false)].map(Result::unwrap_err) {
            assert_eq!(
                (status.code(), status.outcome(), status.message()),
                (Code::Internal, Outcome::NotSent, message)
            );
        }
    }
}

#[test]
fn a_custom_balancing_equals_its_clones_alone() {
    let make = || Balancing::custom("fixed", |_| Fixed(None)).near("eu-1");
    let one = make();
    assert_eq!(one, one.clone());
    assert_ne!(one, make());
    assert_eq!(one.to_string(), "fixed,near=eu-1");
    assert!("fixed,near=eu-1".parse::<Balancing>().unwrap_err().contains("balancer \"fixed\" is unknown"));
}

#[test]
fn a_pick_sees_the_key_and_its_hash() {
    #[derive(Debug)]
    struct Pinned;
    impl Balance for Pinned {
        fn pick(&self, _: &Candidates, call: &PickContext<'_>) -> usize {
            match (call.key(), call.key_hash()) {
                (Some(key), Some(hash)) if hash == Key::new(key).hash() => key.len(),
                _ => 0,
            }
        }
    }
    let (clock, choices) = (Arc::<Clock>::default(), over(Balancing::custom("pinned", |_| Pinned), 3));
    let key = CallKey::new(b"ab");
    let call = PickContext { key: Some(key.hashes), bytes: Some(&key.bytes), clock: &clock };
    assert_eq!(choices.pick(&call).unwrap(), Some(4));
    assert_eq!(choices.pick(&PickContext { key: None, bytes: None, clock: &clock }).unwrap(), Some(0));
}
