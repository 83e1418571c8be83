use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn bodies_round_trip(seed in prop::collection::vec(any::<u8>(), 1..64), times in 1usize..200) {
        let body = seed.repeat(times);
        for compression in [Compression::Gzip, Compression::Zlib] {
            if let Some(compressed) = compression.shrink(&body) {
                prop_assert!(compressed.len() < body.len());
                prop_assert_eq!(compression.expand(&compressed, body.len()).unwrap(), body.clone());
                let error = compression.expand(&compressed, body.len() - 1);
                prop_assert_eq!(error, Err(ExpandError::TooLarge { limit: body.len() - 1 }));
            }
        }
    }

    #[test]
    fn any_bytes_end_in_a_body_or_an_error(bytes: Vec<u8>) {
        for compression in Compression::ALL {
            let _ = compression.expand(&bytes, 1 << 16);
        }
    }
}

#[test]
fn a_stream_is_whole_and_alone() {
    let body = [7; 1000];
    for compression in [Compression::Gzip, Compression::Zlib] {
        let mut compressed = compression.shrink(&body).unwrap();
        assert_eq!(compression.expand(&compressed, 1000).unwrap(), body);
        for cut in 0..compressed.len() {
            compression.expand(&compressed[..cut], 1000).unwrap_err();
        }
        compressed.push(0);
        compression.expand(&compressed, 1000).unwrap_err();
    }
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let bomb = Compression::Gzip.shrink(&vec![0; 256 << 20]).unwrap();
    assert_eq!(Compression::Gzip.expand(&bomb, 4 << 20), Err(ExpandError::TooLarge { limit: 4 << 20 }));
    assert!(matches!(Compression::Gzip.expand(b"plain text", 100), Err(ExpandError::Corrupt { .. })));
}
