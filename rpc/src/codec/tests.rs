use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::{
    Deserialize, Deserializer, Serializer,
    de::{SeqAccess, Visitor},
};

use super::*;
use crate::{Blob, custom::CustomError};

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

/// Decodes a body that has an allocation of its own.
fn decode<T: DeserializeOwned>(codec: &Codec, body: impl Into<Bytes>) -> Result<T, CodecError> {
    let body = body.into();
    codec.decode(&body, body.len())
}

fn encoded<T: Serialize + ?Sized>(codec: &Codec, value: &T) -> Bytes {
    let mut out = FrameBuf::default();
    codec.encode(value, &mut out).unwrap();
    out.to_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn values_round_trip(value in shape(), chars: Vec<char>) {
        for codec in Codec::ALL {
            prop_assert_eq!(&decode::<Shape>(&codec, encoded(&codec, &value)).unwrap(), &value);
            prop_assert_eq!(&decode::<Vec<char>>(&codec, encoded(&codec, &chars)).unwrap(), &chars);
        }
    }

    #[test]
    fn any_bytes_end_in_a_value_or_an_error(bytes: Vec<u8>) {
        let body = Bytes::from(bytes);
        for codec in Codec::ALL {
            let _ = decode::<Shape>(&codec, body.clone());
            let _ = decode::<Vec<Shape>>(&codec, body.clone());
        }
    }
}

#[test]
fn trailing_bytes_are_an_error() {
    for codec in Codec::ALL {
        let mut bytes = encoded(&codec, &(1i64, "x")).to_vec();
        bytes.push(b'7');
        let error = decode::<(i64, String)>(&codec, bytes).unwrap_err();
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
    let error = decode::<Chain>(&Codec::Bincode, vec![1; 1 << 20]).unwrap_err();
    assert!(error.to_string().contains("nested deeper than 128"), "{error}");
    decode::<Tree>(&Codec::Bincode, vec![1; 1 << 20]).unwrap_err();
    decode::<serde_json::Value>(&Codec::Json, vec![b'['; 1 << 20]).unwrap_err();
    let error = decode::<serde_json::Value>(&Codec::MessagePack, vec![0x91; 1 << 20]).unwrap_err();
    assert!(error.to_string().contains("nested deeper than 128"), "{error}");
    // Behind an unknown field, which is skipped.
    let skipped = [&[0x81, 0xa1, b'x'][..], &[0x91; 1 << 20]].concat();
    decode::<Fields>(&Codec::MessagePack, skipped).unwrap_err();
    let tree = (0..40).fold(Tree::Leaf, |tree, _| Tree::Node(vec![tree]));
    for codec in Codec::ALL {
        decode::<Tree>(&codec, encoded(&codec, &tree)).unwrap();
    }
}

/// A deserializer sees nothing of it but the `Option`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct Bare(Option<Box<Self>>);

#[test]
fn types_that_recur_without_a_bracket_end_too() {
    for codec in Codec::ALL {
        // In JSON and MessagePack neither type consumes anything on its way down.
        let body: Bytes = match codec {
            Codec::Bincode => vec![1; 1 << 20].into(),
            Codec::Json => Bytes::from_static(b"5"),
            _ => Bytes::from_static(&[5]),
        };
        let error = decode::<Chain>(&codec, body.clone()).unwrap_err();
        assert!(error.to_string().contains("nested deeper than 128"), "{codec}: {error}");
        let error = decode::<Bare>(&codec, body).unwrap_err();
        assert!(error.to_string().contains("nested deeper than 128"), "{codec}: {error}");
    }
    let chain = (0..120).fold(Chain(None), |inner, _| Chain(Some(Box::new(inner))));
    decode::<Chain>(&Codec::Bincode, encoded(&Codec::Bincode, &chain)).unwrap();
}

#[test]
fn a_length_that_the_body_cannot_hold_is_an_error() {
    fn refused(codec: &Codec, bodies: &[&[u8]]) {
        for body in bodies {
            decode::<String>(codec, body.to_vec()).unwrap_err();
            decode::<Vec<u64>>(codec, body.to_vec()).unwrap_err();
            decode::<Vec<u8>>(codec, body.to_vec()).unwrap_err();
            decode::<BTreeMap<u8, u8>>(codec, body.to_vec()).unwrap_err();
            decode::<Blob>(codec, body.to_vec()).unwrap_err();
            let hint = decode::<Hint>(codec, body.to_vec());
            assert!(hint.is_err() || hint.unwrap().0 <= body.len(), "the claim is not passed on");
        }
    }
    // The varints of 2^60 and 60 MiB, as the length of a string, a list and bytes.
    let lengths = [&[253][..], &(1u64 << 60).to_le_bytes()].concat();
    refused(&Codec::Bincode, &[&lengths, &[&[252][..], &(60u32 << 20).to_le_bytes()].concat()]);
    // 2^32 - 1 elements of a list and of a map, and bytes of a text and of bytes.
    refused(&Codec::MessagePack, &[&[0xdd; 5], &[0xdf; 5], &[0xdb; 5], &[0xc6; 5]]);
}

/// The number of elements that a list is said to have.
#[derive(Debug)]
struct Hint(usize);

impl<'de> Deserialize<'de> for Hint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Asks;
        impl<'de> Visitor<'de> for Asks {
            type Value = Hint;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Hint, A::Error> {
                Ok(Hint(list.size_hint().unwrap_or_default()))
            }
        }
        deserializer.deserialize_seq(Asks)
    }
}

#[test]
fn names_parse() {
    for codec in Codec::ALL {
        assert_eq!(codec.to_string().parse(), Ok(codec));
    }
    assert!("xml".parse::<Codec>().unwrap_err().contains("use bincode, json or messagepack"));
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Fields {
    id: u32,
    #[serde(default)]
    note: Option<String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Newtype(u8);

/// As a method's own error may be.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Refusal {
    Closed,
    NotFound(i64),
    Range(u8, u8),
    Late { by: u16 },
}

/// Asserts that a value has this form in this codec, and is read from it.
#[track_caller]
fn is<T>(codec: &Codec, value: T, form: &[u8])
where
    T: Serialize + DeserializeOwned + PartialEq + fmt::Debug,
{
    assert_eq!(encoded(codec, &value)[..], *form, "{value:?} in {codec}");
    assert_eq!(decode::<T>(codec, form.to_vec()).unwrap(), value);
}

/// PROTOCOL.md, "bincode".
#[test]
fn the_forms_of_bincode() {
    let codec = &Codec::Bincode;
    is(codec, 250u64, &[250]);
    is(codec, 251u64, &[251, 251, 0]);
    is(codec, 65_536u64, &[252, 0, 0, 1, 0]);
    is(codec, 1u64 << 32, &[253, 0, 0, 0, 0, 1, 0, 0, 0]);
    is(codec, 1u128 << 64, &[&[254][..], &[0; 8], &[1], &[0; 7]].concat());
    is(codec, -1i64, &[1]);
    is(codec, 1i32, &[2]);
    is(codec, -200i16, &[251, 143, 1]);
    is(codec, (255u8, -1i8), &[255, 255]);
    is(codec, (true, 1.0f32), &[1, 0, 0, 128, 63]);
    is(codec, -2.0f64, &[0, 0, 0, 0, 0, 0, 0, 192]);
    is(codec, 'é', &[0xc3, 0xa9]);
    is(codec, "hi".to_owned(), &[2, b'h', b'i']);
    is(codec, Blob::from(vec![7, 8]), &[2, 7, 8]);
    is(codec, (), &[]);
    is(codec, Unit, &[]);
    is(codec, Newtype(9), &[9]);
    is(codec, (None::<u8>, Some(3u8)), &[0, 1, 3]);
    is(codec, vec![1u16, 300], &[2, 1, 251, 44, 1]);
    is(codec, [1u8, 2], &[1, 2]);
    is(codec, BTreeMap::from([(1u8, true)]), &[1, 1, 1]);
    is(codec, Fields { id: 5, note: None }, &[5, 0]);
    is(codec, Refusal::Closed, &[0]);
    is(codec, Refusal::NotFound(-3), &[1, 5]);
    is(codec, Refusal::Range(1, 2), &[2, 1, 2]);
    is(codec, Refusal::Late { by: 7 }, &[3, 7]);
    // Arguments: a tuple, without a length.
    is(codec, (5i64, "x".to_owned()), &[10, 1, b'x']);
    // A form that is longer than it need be is read too.
    assert_eq!(decode::<u64>(codec, vec![251, 5, 0]).unwrap(), 5);
}

/// PROTOCOL.md, "JSON".
#[test]
fn the_forms_of_json() {
    let codec = &Codec::Json;
    is(codec, (), b"null");
    is(codec, Unit, b"null");
    is(codec, u64::MAX, b"18446744073709551615");
    is(codec, i64::MIN, b"-9223372036854775808");
    is(codec, 0.1f64, b"0.1");
    is(codec, 'x', br#""x""#);
    is(codec, Blob::from(vec![1, 2, 3, 4]), br#""AQIDBA==""#);
    is(codec, (None::<u8>, Some(3u8)), b"[null,3]");
    is(codec, Newtype(9), b"9");
    is(codec, BTreeMap::from([(1u8, true)]), br#"{"1":true}"#);
    is(codec, Fields { id: 5, note: None }, br#"{"id":5,"note":null}"#);
    is(codec, Refusal::Closed, br#""Closed""#);
    is(codec, Refusal::NotFound(-3), br#"{"NotFound":-3}"#);
    is(codec, Refusal::Range(1, 2), br#"{"Range":[1,2]}"#);
    is(codec, Refusal::Late { by: 7 }, br#"{"Late":{"by":7}}"#);
    let tolerant = br#" {"added": [{}], "id": 5} "#;
    assert_eq!(decode::<Fields>(codec, tolerant.to_vec()).unwrap(), Fields { id: 5, note: None });
    decode::<f64>(codec, b"NaN".to_vec()).unwrap_err();
    assert_eq!(encoded(codec, &f64::NAN)[..], *b"null");
}

/// PROTOCOL.md, "MessagePack".
#[test]
fn the_forms_of_message_pack() {
    let codec = &Codec::MessagePack;
    is(codec, (), &[0xc0]);
    is(codec, Unit, &[0x90]);
    is(codec, (5u64, 200u64, -1i64, 70_000u32), &[0x94, 5, 0xcc, 200, 0xff, 0xce, 0, 1, 0x11, 0x70]);
    is(codec, 1.0f32, &[0xca, 0x3f, 0x80, 0, 0]);
    is(codec, 1i128, &[&[0xc4, 16][..], &[0; 15], &[1]].concat());
    is(codec, 'x', &[0xa1, b'x']);
    is(codec, "hi".to_owned(), &[0xa2, b'h', b'i']);
    is(codec, Blob::from(vec![7, 8]), &[0xc4, 2, 7, 8]);
    is(codec, vec![7u8, 8], &[0x92, 7, 8]);
    is(codec, (None::<u8>, Some(3u8)), &[0x92, 0xc0, 3]);
    is(codec, Newtype(9), &[9]);
    is(codec, BTreeMap::from([(1u8, true)]), &[0x81, 1, 0xc3]);
    is(codec, Fields { id: 5, note: None }, &[&[0x82, 0xa2][..], b"id", &[5, 0xa4], b"note", &[0xc0]].concat());
    is(codec, Refusal::Closed, &[&[0xa6][..], b"Closed"].concat());
    is(codec, Refusal::NotFound(-3), &[&[0x81, 0xa8][..], b"NotFound", &[0xfd]].concat());
    is(codec, Refusal::Range(1, 2), &[&[0x81, 0xa5][..], b"Range", &[0x92, 1, 2]].concat());
    is(codec, Refusal::Late { by: 7 }, &[&[0x81, 0xa4][..], b"Late", &[0x81, 0xa2], b"by", &[7]].concat());
    // An added field, a missing field, and a struct as a list.
    let tolerant = [&[0x82, 0xa5][..], b"added", &[0x91, 0x80, 0xa2], b"id", &[5]].concat();
    assert_eq!(decode::<Fields>(codec, tolerant).unwrap(), Fields { id: 5, note: None });
    assert_eq!(decode::<Fields>(codec, vec![0x92, 5, 0xc0]).unwrap(), Fields { id: 5, note: None });
}

/// A codec that does what it is told.
struct Told(fn(&dyn erased_serde::Serialize) -> Vec<u8>, fn(&[u8], ReadValue<'_>));

impl CustomCodec for Told {
    fn number(&self) -> u8 {
        130
    }

    fn name(&self) -> &str {
        "told"
    }

    fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>, CustomError> {
        Ok((self.0)(value))
    }

    fn decode(&self, bytes: &[u8], value: ReadValue<'_>) -> Result<(), CustomError> {
        (self.1)(bytes, value);
        Ok(())
    }
}

#[test]
fn a_codec_of_the_users_own_cannot_lie() {
    let json = |bytes: &[u8], value: ReadValue<'_>| {
        let _ = value.read(&mut serde_json::Deserializer::from_slice(bytes));
    };
    let good = Codec::custom(Told(|value| serde_json::to_vec(value).unwrap(), json)).unwrap();
    is(&good, Fields { id: 5, note: None }, br#"{"id":5,"note":null}"#);
    assert_eq!((good.to_string(), good.number(), good.clone()), ("told".to_owned(), 130, good.clone()));
    let mut out = FrameBuf::default();
    let named = |error: CodecError, reason: &str| {
        let text = error.to_string();
        assert!(text.contains("codec `told` (130)") && text.contains(reason), "{text}");
    };

    named(decode::<Fields>(&good, "[1").unwrap_err(), "EOF");
    named(decode::<Chain>(&good, "5").unwrap_err(), "nested deeper than 128");
    let forgets = Codec::custom(Told(|_| vec![1, 2, 3], |_, _| ())).unwrap();
    named(forgets.encode(&5u8, &mut out).unwrap_err(), "without writing the value");
    named(decode::<u8>(&forgets, "5").unwrap_err(), "without reading a value");
    let panics = Codec::custom(Told(|_| panic!("no more"), |_, _| panic!("no less"))).unwrap();
    named(panics.encode(&5u8, &mut out).unwrap_err(), "it panicked: no more");
    named(decode::<u8>(&panics, "5").unwrap_err(), "it panicked: no less");
    assert_eq!(out.len(), 0);

    // A blob that a panic left on offer is not kept alive.
    let blob = Blob::from(vec![1; 64 << 10]);
    let drops = Codec::custom(Told(|value| panic!("{:?}", serde_json::to_vec(value).map(|_| ())), json)).unwrap();
    drops.encode(&(&blob, Sulks), &mut out).unwrap_err();
    assert!(blob.0.try_into_mut().is_ok(), "nobody else has it");
}

/// A value that cannot be written.
struct Sulks;

impl Serialize for Sulks {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("this value cannot be written")
    }
}
