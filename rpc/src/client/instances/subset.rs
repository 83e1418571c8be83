//! Subset of a long list that one client connects. Every client ranks the instances by a hash of their id and its own random
//! id (rendezvous hashing): the subsets of many clients cover all instances evenly, and an instance that comes or goes changes
//! one place of a subset.

/// Marks the `most` instances that this client connects; those nearby come first. `None`: there are no more than that.
pub(super) fn subset<'a>(
    instances: impl ExactSizeIterator<Item = (&'a str, bool)>,
    most: usize,
    client: u64,
) -> Option<Vec<bool>> {
    let count = instances.len();
    if count <= most {
        return None;
    }
    let mut ranked: Vec<_> =
        instances.enumerate().map(|(place, (id, is_near))| (!is_near, rank(id, client), place)).collect();
    ranked.select_nth_unstable(most);
    let mut chosen = vec![false; count];
    ranked[..most].iter().for_each(|(.., place)| chosen[*place] = true);
    Some(chosen)
}

/// FNV-1a over the id, mixed with the client's number.
fn rank(id: &str, client: u64) -> u64 {
    let hash = id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mixed = (hash ^ client).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subsets_cover_all_instances_evenly_and_change_in_one_place() {
        let ids: Vec<_> = (0..100).map(|number| format!("10.0.0.{number}:9112")).collect();
        let of = |ids: &[String], client| subset(ids.iter().map(|id| (id.as_str(), false)), 10, client).unwrap();
        let mut clients = vec![0; 100];
        for client in 0..1000 {
            let chosen = of(&ids, fastrand::Rng::with_seed(client).u64(..));
            assert_eq!(chosen.iter().filter(|chosen| **chosen).count(), 10);
            clients.iter_mut().zip(chosen).for_each(|(count, chosen)| *count += u32::from(chosen));
        }
        assert!(clients.iter().all(|count| (60..150).contains(count)), "100 clients for each: {clients:?}");
        let (before, mut after) = (of(&ids, 7), of(&ids[1..], 7));
        after.insert(0, before[0]);
        assert!(before.iter().zip(after).filter(|(before, after)| *before != after).count() <= 1);
        let near = subset(ids.iter().map(|id| (id.as_str(), id.ends_with("0:9112"))), 10, 7).unwrap();
        assert!((0..100).all(|place| near[place] == (place % 10 == 0)), "{near:?}");
        assert_eq!(subset([("a", false)].into_iter(), 1, 7), None);
    }
}
