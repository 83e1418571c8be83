//! Types of every kind that serde knows.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use ms_rpc::Blob;
use serde::{Deserialize, Serialize};

use super::{Check, bincode_of, json_of, limited_bincode_of, limited_json_of, message_pack_of};

#[derive(Serialize, Deserialize)]
enum Shape {
    Unit,
    New(String),
    Tuple(u16, Option<i64>),
    Named { list: Vec<u32>, map: BTreeMap<u8, String> },
}

#[derive(Serialize, Deserialize)]
struct Item {
    id: i64,
    name: String,
    tags: Vec<String>,
    price: f64,
    image: Blob,
}

#[derive(Serialize, Deserialize)]
struct Unit;

#[derive(Serialize, Deserialize)]
enum Tree {
    Leaf(Option<u8>),
    Node(Vec<Self>),
}

#[derive(Serialize, Deserialize)]
struct Link {
    number: u8,
    next: Option<Box<Self>>,
}

/// Recurs through nothing but the option.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Bare(Option<Box<Self>>);

type Small = (bool, char, u8, i8, u16, i16, u32, i32);
type Large = (u64, i64, u128, i128);
type Optional = Option<Option<Vec<Option<u16>>>>;

macro_rules! checks {
    ($exact:ident, $limited:ident) => {
        &[
            $exact::<String>,
            $exact::<Vec<String>>,
            $exact::<Blob>,
            $exact::<Vec<Blob>>,
            $exact::<Small>,
            $exact::<Large>,
            $exact::<Vec<u128>>,
            $exact::<Vec<f64>>,
            $exact::<(f32, Option<f32>)>,
            $exact::<Optional>,
            $exact::<BTreeMap<String, Vec<i32>>>,
            $exact::<BTreeMap<u8, Option<char>>>,
            $exact::<Shape>,
            $exact::<Vec<Shape>>,
            $exact::<Item>,
            $exact::<Vec<Item>>,
            $exact::<(Duration, IpAddr)>,
            $exact::<[Result<u16, String>; 3]>,
            $exact::<serde_json::Value>,
            $limited::<Vec<()>>,
            $limited::<Vec<Vec<Unit>>>,
            $limited::<Tree>,
            $limited::<Link>,
            $limited::<Bare>,
        ]
    };
}

pub(super) const BINCODE: &[Check] = checks!(bincode_of, limited_bincode_of);
pub(super) const JSON: &[Check] = checks!(json_of, limited_json_of);
pub(super) const MESSAGE_PACK: &[Check] = checks!(message_pack_of, message_pack_of);

pub(crate) mod seeds {
    use ms_rpc::Codec;

    use super::*;
    use crate::codecs::encoded;

    pub(crate) fn bincode() -> Vec<Vec<u8>> {
        seeds(&Codec::Bincode)
    }

    pub(crate) fn message_pack() -> Vec<Vec<u8>> {
        seeds(&Codec::MessagePack)
    }

    pub(crate) fn json() -> Vec<Vec<u8>> {
        let mut seeds = seeds(&Codec::Json);
        seeds.push(b"\x12{\"a\":[1,-2.5e3,true,null,\"\\u00e9\\n\"],\"b\":{}}".to_vec());
        seeds
    }

    /// One of each type, by its place in the list.
    fn seeds(codec: &Codec) -> Vec<Vec<u8>> {
        macro_rules! seeds {
            ($($place:literal: $value:expr,)*) => { vec![$([&[$place], &encoded(codec, &$value)[..]].concat()),*] };
        }
        let item = || Item {
            id: -7,
            name: "cup".to_owned(),
            tags: vec!["a".to_owned(), String::new()],
            price: 0.1,
            image: vec![7; 300].into(),
        };
        let named = Shape::Named { list: vec![1, 300, 70_000], map: BTreeMap::from([(1, "x".to_owned())]) };
        let address = IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]);
        let last = Some(Box::new(Link { number: 2, next: None }));
        seeds! {
            0: "text é",
            1: ["", "a", "bc"],
            2: Blob::from(vec![1; 2000]),
            3: [Blob::default(), Blob::from(vec![1; 30])],
            4: (true, 'é', 1u8, -1i8, 300u16, -300i16, 70_000u32, -70_000i32),
            5: (u64::MAX, i64::MIN, u128::MAX, i128::MIN),
            6: [0u128, 251, 70_000, 1 << 80],
            7: [0.1f64, -0.0, 1e300],
            8: (0.1f32, Some(3e38f32)),
            9: Some(Some(vec![Some(7u16), None])),
            10: BTreeMap::from([("a", vec![1, -1]), ("b", vec![])]),
            11: BTreeMap::from([(1u8, Some('é')), (2, None)]),
            12: named,
            13: [Shape::Unit, Shape::New("x".to_owned()), Shape::Tuple(1, Some(-5))],
            14: item(),
            15: [item()],
            16: (Duration::from_millis(1500), address),
            17: [Ok(1u16), Err("no".to_owned()), Ok(2)],
            19: [(); 7],
            20: [vec![Unit, Unit], vec![]],
            21: Tree::Node(vec![Tree::Leaf(Some(1)), Tree::Node(vec![]), Tree::Leaf(None)]),
            22: Link { number: 1, next: last },
            23: Bare(Some(Box::new(Bare(None)))),
        }
    }
}
