use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::Blob;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Unit,
    New(i64),
    Pair(String, Option<f64>),
    Named { tags: Vec<String>, map: BTreeMap<String, u8>, blob: Blob },
}

fn shape() -> impl Strategy<Value = Shape> {
    let named = (prop::collection::vec(".{0,5}", 0..4), prop::collection::btree_map(".{0,3}", 0u8.., 0..4));
    prop_oneof![
        Just(Shape::Unit),
        any::<i64>().prop_map(Shape::New),
        (".{0,9}", prop::option::of(-1e9..1e9f64)).prop_map(|(a, b)| Shape::Pair(a, b)),
        (named, prop::collection::vec(any::<u8>(), 0..20_000)).prop_map(|((tags, map), bytes)| Shape::Named {
            tags,
            map,
            blob: Blob::from(bytes)
        }),
    ]
}

fn encoded<T: Serialize>(codec: Codec, value: &T) -> Bytes {
    let mut out = FrameBuf::default();
    codec.encode(value, &mut out).unwrap();
    out.gather(FrameBuf::default().mark()).into()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn values_round_trip(value in shape(), chars: Vec<char>) {
        for codec in Codec::ALL {
            prop_assert_eq!(&codec.decode::<Shape>(&encoded(codec, &value)).unwrap(), &value);
            prop_assert_eq!(&codec.decode::<Vec<char>>(&encoded(codec, &chars)).unwrap(), &chars);
        }
    }

    #[test]
    fn any_bytes_end_in_a_value_or_an_error(bytes: Vec<u8>) {
        let body = Bytes::from(bytes);
        for codec in Codec::ALL {
            let _ = codec.decode::<Shape>(&body);
            let _ = codec.decode::<Vec<Shape>>(&body);
        }
    }
}

#[test]
fn trailing_bytes_are_an_error() {
    for codec in Codec::ALL {
        let mut bytes = encoded(codec, &(1i64, "x")).to_vec();
        bytes.push(b'7');
        let error = codec.decode::<(i64, String)>(&bytes.into()).unwrap_err();
        assert!(error.to_string().contains("trailing"), "{error}");
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Chain(Option<Box<Self>>);

#[derive(Debug, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Node(Vec<Self>),
}

#[test]
fn deep_nesting_is_an_error_and_not_a_crash() {
    let error = Codec::Bincode.decode::<Chain>(&vec![1; 1 << 20].into()).unwrap_err();
    assert!(error.to_string().contains("nested deeper than 128"), "{error}");
    Codec::Bincode.decode::<Tree>(&vec![1; 1 << 20].into()).unwrap_err();
    Codec::Json.decode::<serde_json::Value>(&vec![b'['; 1 << 20].into()).unwrap_err();
    let mut tree = Tree::Leaf;
    for _ in 0..40 {
        tree = Tree::Node(vec![tree]);
    }
    Codec::Bincode.decode::<Tree>(&encoded(Codec::Bincode, &tree)).unwrap();
}

/// Nothing of it is seen by a deserializer but the `Option`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct Bare(Option<Box<Self>>);

#[test]
fn types_that_recur_without_a_bracket_end_too() {
    for codec in Codec::ALL {
        // In JSON neither type consumes anything on its way down.
        let body: Bytes = if codec == Codec::Json { b"5".to_vec() } else { vec![1; 1 << 20] }.into();
        let error = codec.decode::<Chain>(&body).unwrap_err();
        assert!(error.to_string().contains("nested deeper than 128"), "{codec}: {error}");
        let error = codec.decode::<Bare>(&body).unwrap_err();
        assert!(error.to_string().contains("nested deeper than 128"), "{codec}: {error}");
    }
    let chain = (0..120).fold(Chain(None), |inner, _| Chain(Some(Box::new(inner))));
    Codec::Bincode.decode::<Chain>(&encoded(Codec::Bincode, &chain)).unwrap();
}

#[test]
fn a_length_that_the_body_cannot_hold_is_an_error() {
    // The varint of 2^60, as the length of a string, a list and bytes.
    let body: Bytes = [&[253][..], &(1u64 << 60).to_le_bytes()].concat().into();
    Codec::Bincode.decode::<String>(&body).unwrap_err();
    Codec::Bincode.decode::<Vec<u64>>(&body).unwrap_err();
    Codec::Bincode.decode::<Blob>(&body).unwrap_err();
    let body: Bytes = [&[252][..], &(60u32 << 20).to_le_bytes()].concat().into();
    Codec::Bincode.decode::<String>(&body).unwrap_err();
    Codec::Bincode.decode::<Vec<u8>>(&body).unwrap_err();
}

#[test]
fn names_parse() {
    assert_eq!("json".parse(), Ok(Codec::Json));
    assert!("xml".parse::<Codec>().unwrap_err().contains("use bincode or json"));
}
