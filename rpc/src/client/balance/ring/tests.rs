use proptest::prelude::*;

use super::*;

type List = Vec<(u32, String, f64)>;

/// Instances by id and weight; those of weight 0 have slots, and are not on the ring.
fn lists() -> impl Strategy<Value = Vec<List>> {
    let weight = prop_oneof![Just(0.0), Just(1.0), Just(1.0), 0.01f64..12.0];
    let list = prop::collection::btree_map(0u32..30, weight, 0..20).prop_map(|list| {
        let slotted = (0..).zip(list).map(|(slot, (id, weight))| (slot, format!("10.0.0.{id:02}:80"), weight));
        slotted.filter(|(.., weight)| *weight > 0.0).collect()
    });
    prop::collection::vec(list, 2..6)
}

fn ring(before: Option<&Arc<Ring>>, list: &List) -> Arc<Ring> {
    Ring::new(before, list.iter().map(|(slot, id, weight)| (*slot, id.as_str(), *weight)))
}

proptest! {
    /// Every key goes where it would if there had been no list before.
    #[test]
    fn a_changed_ring_is_that_of_its_instances(lists in lists()) {
        let mut before = ring(None, &lists[0]);
        for list in &lists[1..] {
            let (changed, anew) = (ring(Some(&before), list), ring(None, list));
            prop_assert_eq!(&changed.points, &anew.points);
            before = changed;
        }
    }
}

#[test]
fn ids_of_one_hash_are_on_the_ring_both() {
    let members = |slots: &[u32]| slots.iter().map(|slot| Member { slot: *slot, count: 9, hash: 7 }).collect();
    let anew = |members: Box<[Member]>| Ring { points: sorted(members.iter()).into(), members };
    for (before, after) in [(&[0, 1][..], &[1, 2][..]), (&[0, 1], &[0]), (&[0], &[0, 1]), (&[1], &[0, 1, 2, 3])] {
        let (before, after) = (anew(members(before)), anew(members(after)));
        let changed = before.changed_to(&after.members);
        assert!(changed.is_none_or(|points| *points == *after.points));
    }
}

#[test]
fn most_points_are_kept_and_an_equal_list_makes_none() {
    let list = |ids: std::ops::Range<u32>| (0..).zip(ids).map(|(slot, id)| (slot, id.to_string(), 1.0)).collect();
    let before = ring(None, &list(100..200));
    let same = ring(Some(&before), &list(100..200));
    assert!(Arc::ptr_eq(&before, &same));
    let changed_to = |ids| before.changed_to(&ring(None, &list(ids)).members);
    assert!(changed_to(101..201).is_some());
    assert!(changed_to(180..300).is_none(), "that would be no cheaper");
}
