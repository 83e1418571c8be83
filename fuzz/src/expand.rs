//! Every decompressor.

use ms_rpc::{
    Compression,
    internals::{self, shrink},
};

use crate::{memory::bounded, source::Source};

/// The default limit on a frame.
const LIMIT: usize = 4 << 20;

/// A compressed body: what comes out is bounded, and survives the way back.
pub fn expand(input: &[u8]) {
    let mut source = Source::new(input);
    let compression = &Compression::ALL[usize::from(source.byte()) % Compression::ALL.len()];
    let compressed = source.rest();
    let Some(body) = bounded(input, || internals::expand(compression, compressed)) else { return };
    assert!(body.len() <= LIMIT);
    if let Some(again) = shrink(compression, &body) {
        assert!(again.len() < body.len());
        assert_eq!(internals::expand(compression, &again), Some(body));
    }
}

pub(crate) mod seeds {
    use super::*;

    pub(crate) fn expand() -> Vec<Vec<u8>> {
        let bodies = [b"goods ".repeat(9), (0..=255).collect::<Vec<u8>>().repeat(2), vec![0; LIMIT + 1]];
        let mut seeds = vec![b"\0plain".to_vec()];
        for (number, compression) in (0..).zip(&Compression::ALL).skip(1) {
            let compressed = bodies.iter().filter_map(|body| shrink(compression, body));
            seeds.extend(compressed.map(|compressed| [&[number], &compressed[..]].concat()));
        }
        // Members that follow each other are one body.
        let twice = shrink(&Compression::Gzip, &bodies[0]).unwrap_or_default().repeat(2);
        seeds.push([&[1], &twice[..]].concat());
        seeds
    }
}
