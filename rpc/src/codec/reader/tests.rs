use std::{collections::BTreeMap, fmt::Debug};

use proptest::prelude::*;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::*;

type Integers = ((u8, u16, u32, u64, u128), (i8, i16, i32, i64, i128));
type Small = (bool, char, Option<u8>, f32, f64, ());

#[derive(Debug, Serialize, Deserialize)]
enum Shape {
    Unit,
    New(String),
    Tuple(u16, Option<i64>),
    Named { list: Vec<u32>, map: BTreeMap<u8, String> },
}

/// The value read and the number of bytes it took, or nothing; as text, so that NaN equals itself.
fn ours<T: DeserializeOwned + Debug>(bytes: &[u8]) -> String {
    let mut reader = Reader::new(bytes);
    let read = T::deserialize(&mut reader).map(|value| (value, bytes.len() - reader.rest().len()));
    format!("{:?}", read.ok())
}

fn theirs<T: DeserializeOwned + Debug>(bytes: &[u8]) -> String {
    let config = bincode::config::standard().with_limit::<{ 64 << 20 }>();
    format!("{:?}", bincode::serde::decode_from_slice::<T, _>(bytes, config).ok())
}

fn same<T: DeserializeOwned + Debug>(bytes: &[u8]) -> std::result::Result<(), TestCaseError> {
    prop_assert_eq!(ours::<T>(bytes), theirs::<T>(bytes));
    Ok(())
}

/// Mostly the bytes that mean something: markers of sizes, small numbers, letters.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(0), Just(1), 2u8..8, 250u8.., b'a'..b'f', any::<u8>()];
    prop::collection::vec(byte, 0..64)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn any_bytes_mean_what_the_crate_reads_in_them(bytes in bytes()) {
        same::<Integers>(&bytes)?;
        same::<Small>(&bytes)?;
        same::<Vec<Shape>>(&bytes)?;
        same::<Shape>(&bytes)?;
        same::<Vec<i32>>(&bytes)?;
        same::<BTreeMap<u8, Option<u16>>>(&bytes)?;
        same::<String>(&bytes)?;
        same::<Vec<char>>(&bytes)?;
    }

    #[test]
    fn what_the_crate_writes_is_read(
        unsigned: (u8, u16, u32, u64, u128),
        signed: (i8, i16, i32, i64, i128),
        small: (bool, char, Option<u8>, f32, f64, ()),
        text: String,
    ) {
        let config = bincode::config::standard();
        let value = ((unsigned, signed), small, Shape::New(text));
        let bytes = bincode::serde::encode_to_vec(&value, config).unwrap();
        prop_assert_eq!(ours::<(Integers, Small, Shape)>(&bytes), format!("{:?}", Some((value, bytes.len()))));
    }
}

#[test]
fn a_claim_of_empty_elements_is_bounded() {
    let claim = [&[253][..], &(1u64 << 60).to_le_bytes()].concat();
    let error = Vec::<()>::deserialize(&mut Reader::new(&claim)).unwrap_err();
    assert_eq!(error.to_string(), "a length of 1152921504606846976 is more than the bytes that follow");
    assert_eq!(Vec::<()>::deserialize(&mut Reader::new(&[200])).unwrap().len(), 200);
    // 60,000 twice is too many in one value.
    let twice = [2, 251, 0x60, 0xea, 251, 0x60, 0xea];
    Vec::<Vec<()>>::deserialize(&mut Reader::new(&twice)).unwrap_err();
}
