use proptest::prelude::*;

use super::*;
use crate::custom::CustomError;

fn compressing() -> impl Iterator<Item = Compression> {
    Compression::ALL.into_iter().filter(|compression| *compression != Compression::None)
}

fn shrunk(compression: &Compression, body: &[u8]) -> Vec<u8> {
    compression.shrink(body, None).unwrap().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn bodies_round_trip(seed in prop::collection::vec(any::<u8>(), 1..64), times in 1usize..400, level in -9i32..12) {
        let body = seed.repeat(times);
        for compression in compressing() {
            let at = |level| compression.shrink(&body, level).unwrap();
            for compressed in [at(None), at(Some(level))].into_iter().flatten() {
                prop_assert!(compressed.len() < body.len());
                prop_assert_eq!(compression.expand(&compressed, body.len()).unwrap(), body.clone());
                let limit = body.len() - 1;
                let error = compression.expand(&compressed, limit);
                prop_assert_eq!(error, Err(CompressError::TooLarge { compression: compression.clone(), limit }));
            }
        }
    }

    #[test]
    fn any_bytes_end_in_a_body_or_an_error(bytes: Vec<u8>, flips in prop::collection::vec(any::<(usize, u8)>(), 0..4)) {
        for compression in Compression::ALL {
            let _ = compression.expand(&bytes, 1 << 16);
            let Some(mut damaged) = compression.shrink(&bytes.repeat(20), None).unwrap() else { continue };
            for (at, value) in &flips {
                let at = at % damaged.len();
                damaged[at] ^= value;
            }
            if let Ok(body) = compression.expand(&damaged, 1 << 16) {
                prop_assert!(body.len() <= 1 << 16);
            }
        }
    }
}

#[test]
fn a_stream_is_whole_and_alone() {
    let body: Vec<u8> = (0..200_000u64).map(|n| ((n * n) >> 7) as u8 & 15).collect();
    for compression in compressing() {
        let mut compressed = shrunk(&compression, &body);
        assert_eq!(compression.expand(&compressed, body.len()).unwrap(), body);
        let step = compressed.len() / 100 + 1;
        for cut in (0..compressed.len()).step_by(step).chain(compressed.len() - 12..compressed.len()) {
            let error = compression.expand(&compressed[..cut], body.len()).unwrap_err().to_string();
            assert!(error.contains(&format!("no {compression}")), "{compression}, {cut} bytes: {error}");
        }
        compressed.push(0);
        let error = compression.expand(&compressed, body.len()).unwrap_err().to_string();
        assert!(error.contains(&format!("no {compression}")), "{error}");
    }
}

/// RFC 1952: a body may be several members, one after the other. The others are one stream.
#[test]
fn gzip_alone_may_have_several_members() {
    let (first, second) = ([7; 1000], [8; 500]);
    for compression in compressing() {
        let both = [shrunk(&compression, &first), shrunk(&compression, &second)].concat();
        match (&compression, compression.expand(&both, 1500)) {
            (Compression::Gzip, expanded) => assert_eq!(expanded.unwrap(), [&first[..], &second].concat()),
            (_, expanded) => assert!(expanded.unwrap_err().to_string().contains("bytes follow its end")),
        }
    }
    let both = shrunk(&Compression::Gzip, &first).repeat(2);
    assert!(matches!(Compression::Gzip.expand(&both, 1999), Err(CompressError::TooLarge { .. })));
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let zeros = vec![0; 32 << 20];
    for compression in compressing() {
        let bomb = shrunk(&compression, &zeros);
        assert!(matches!(compression.expand(&bomb, 4 << 20), Err(CompressError::TooLarge { limit: 4_194_304, .. })));
        let error = compression.expand(b"plain text", 100).unwrap_err();
        assert!(matches!(error, CompressError::Corrupt { .. }), "{error}");
    }
}

#[test]
fn levels_are_obeyed_and_brought_into_range() {
    let body = (0..10_000u32).map(|n| format!("{} ", n * 7919 % 1000)).collect::<String>().into_bytes();
    for compression in compressing().filter(|compression| *compression != Compression::Lz4) {
        let size = |level| compression.shrink(&body, Some(level)).unwrap().unwrap().len();
        assert_ne!(size(9), size(1), "{compression}");
        assert_eq!(size(i32::MAX), size(22), "{compression}");
        compression.shrink(&body, Some(i32::MIN)).unwrap();
    }
}

/// Memory that a stream asks for before it brings bytes is bounded, whatever its header says.
#[test]
fn what_a_header_claims_is_not_believed() {
    // LZ4: blocks of 4 MiB, where at most 1 MiB may come; the old format, with blocks of 8 MiB.
    let form = lz4_flex::frame::FrameInfo::new().block_size(lz4_flex::frame::BlockSize::Max4MB);
    let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(form, Vec::new());
    std::io::Write::write_all(&mut encoder, &[7; 1000]).unwrap();
    let frame = encoder.finish().unwrap();
    assert_eq!(Compression::Lz4.expand(&frame, 4 << 20).unwrap(), [7; 1000]);
    let error = Compression::Lz4.expand(&frame, 1 << 20).unwrap_err().to_string();
    assert!(error.contains("4194304"), "{error}");
    Compression::Lz4.expand(&[0x02, 0x21, 0x4c, 0x18, 0, 0, 0, 0], 4 << 20).unwrap_err();
    // zstd: a window of 64 MiB.
    #[cfg(feature = "zstd")]
    {
        let window = [0x28, 0xb5, 0x2f, 0xfd, 0x00, (26 - 10) << 3, 0x01, 0x00, 0x00];
        let error = Compression::Zstd.expand(&window, 4 << 20).unwrap_err().to_string();
        assert!(error.contains("memory"), "{error}");
        assert_eq!(Compression::Zstd.expand(&window, 64 << 20).unwrap().len(), 0);
    }
}

/// A compression that does what it is told.
struct Told(fn(&[u8]) -> Option<Vec<u8>>, fn(usize) -> Result<Vec<u8>, CustomError>);

impl CustomCompression for Told {
    fn number(&self) -> u8 {
        200
    }

    fn name(&self) -> &str {
        "told"
    }

    fn compress(&self, body: &[u8]) -> Option<Vec<u8>> {
        (self.0)(body)
    }

    fn expand(&self, _: &[u8], limit: usize) -> Result<Vec<u8>, CustomError> {
        (self.1)(limit)
    }
}

#[test]
fn a_compression_of_the_users_own_cannot_lie() {
    let grows = Compression::custom(Told(|body| Some(body.repeat(2)), |limit| Ok(vec![0; limit + 1]))).unwrap();
    assert_eq!(grows.shrink(b"body", None), Ok(None));
    let error = grows.expand(b"", 10).unwrap_err().to_string();
    assert!(error.contains("told") && error.contains("10 bytes"), "{error}");
    let panics = Compression::custom(Told(|_| panic!("no more"), |_| panic!("no less"))).unwrap();
    let error = panics.shrink(b"body", None).unwrap_err().to_string();
    assert!(error.contains("`told`") && error.contains("no more"), "{error}");
    let error = panics.expand(b"", 10).unwrap_err().to_string();
    assert!(error.contains("no told") && error.contains("no less"), "{error}");
}

#[test]
fn names_parse() {
    for compression in Compression::ALL {
        assert_eq!(compression.to_string().parse(), Ok(compression));
    }
    assert!("lzma".parse::<Compression>().unwrap_err().contains("use none, gzip, zlib"));
}
