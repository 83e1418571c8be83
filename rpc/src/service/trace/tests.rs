use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
    num::NonZeroU16,
    time::Duration,
};

use serde::Deserialize;

use super::*;
use crate::Blob;

#[derive(Deserialize)]
#[allow(dead_code)]
enum Expression {
    Add(Box<Self>, Box<Self>, u8),
    Literal(i64),
    List { all: Vec<Self>, named: BTreeMap<String, Self> },
    Nothing,
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct Node {
    next: Option<Box<Self>>,
    children: Vec<Self>,
    last: char,
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct Endless(Box<Self>);

#[derive(Deserialize)]
#[allow(dead_code)]
struct Pair<T>(T, Option<T>);

#[derive(Deserialize)]
#[serde(try_from = "u32")]
struct Never;

impl TryFrom<u32> for Never {
    type Error = &'static str;

    fn try_from(_: u32) -> Result<Self, &'static str> {
        Err("never")
    }
}

#[derive(Deserialize)]
#[serde(from = "u8")]
struct Panics;

impl From<u8> for Panics {
    fn from(number: u8) -> Self {
        panic!("number {number}")
    }
}

fn lines<T: DeserializeOwned>() -> Vec<String> {
    let mut out = String::new();
    trace::<T>("x", &mut out);
    let mut again = String::new();
    trace::<T>("x", &mut again);
    assert_eq!(out, again);
    out.lines().map(str::to_owned).collect()
}

#[test]
fn every_part_of_a_type_is_seen() {
    assert_eq!(lines::<(u8, Option<String>)>(), ["x: tuple of 2", "x.0: u8", "x.1: option", "x.1.some.0: str"]);
    assert_eq!(lines::<Vec<Blob>>(), ["x: sequence", "x.[].0: bytes"]);
    assert_eq!(lines::<HashSet<NonZeroU16>>(), ["x: sequence", "x.[].0: u16"]);
    assert_eq!(lines::<BTreeMap<String, f64>>(), ["x: map", "x.[].key: str", "x.[].value: f64"]);
    let duration = ["x: struct Duration (secs, nanos)", "x.secs: u64", "x.nanos: u32"];
    assert_eq!(lines::<Duration>(), duration);
    let result = lines::<Result<(), IpAddr>>();
    assert!(result.contains(&"x.Ok.0: unit".to_owned()), "{result:?}");
    assert!(result.iter().any(|line| line.starts_with("x.Err.0.V6.0")), "{result:?}");
}

#[test]
fn types_within_themselves_end() {
    let expected = [
        "x: enum Expression (Add, Literal, List, Nothing)",
        "x.Add: tuple of 3",
        "x.Add.0: again enum Expression (Add, Literal, List, Nothing)",
        "x.Add.1: again enum Expression (Add, Literal, List, Nothing)",
        "x.Add.2: u8",
        "x.Literal: newtype",
        "x.Literal.0: i64",
        "x.List: struct (all, named)",
        "x.List.all: sequence",
        "x.List.all.[].0: again enum Expression (Add, Literal, List, Nothing)",
        "x.List.named: map",
        "x.List.named.[].key: str",
        "x.List.named.[].value: again enum Expression (Add, Literal, List, Nothing)",
        "x.Nothing: unit",
    ];
    assert_eq!(lines::<Expression>(), expected);
    let node = lines::<Vec<Node>>();
    assert!(node.contains(&"x.[].0.next.some.0: again struct Node (next, children, last)".to_owned()), "{node:?}");
    assert!(node.contains(&"x.[].0.last: char".to_owned()), "{node:?}");
    assert_eq!(lines::<Endless>(), ["x: struct Endless", "x.0: again struct Endless"]);
    // The same name around itself is no recursion.
    assert!(lines::<Pair<Pair<u8>>>().contains(&"x.0.0: u8".to_owned()));
}

#[test]
fn types_that_take_nothing_are_recorded_as_far_as_they_came() {
    assert_eq!(lines::<Never>(), ["x: u32"]);
    let around = lines::<(u8, Option<Never>, Vec<Never>, bool)>();
    assert_eq!(around.last().map(String::as_str), Some("x.3: bool"), "{around:?}");
    assert_eq!(lines::<serde_json::Value>(), ["x: any"]);
    assert_eq!(lines::<Panics>(), ["x: u8"]);
}

#[test]
fn the_largest_types_end() {
    type Four<T> = (Vec<T>, Option<Vec<T>>, Vec<Vec<T>>, Pair<Vec<T>>);
    assert!(lines::<Four<Four<Four<Four<Four<Four<Expression>>>>>>>().len() <= 2 * MOST_NODES);
}
