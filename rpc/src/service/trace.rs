//! Structure of a type, found by deserializing it from made-up values: the names and kinds of everything that it asks for.
//!
//! A type is deserialized many times, each time along other alternatives (`Some` or `None`, one variant or another), until
//! every part was seen. A type inside itself is made of alternatives that are known to succeed. A type that takes none of the
//! made-up values is recorded as far as it came.

use std::{
    any::type_name,
    cell::RefCell,
    fmt::Write,
    panic::{AssertUnwindSafe, catch_unwind},
};

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor, value::Error,
};

/// Bounds on what is traced of one type.
const PASSES: usize = 256;
const MOST_NODES: usize = 4096;
const MOST_LEVELS: usize = 64;

/// Texts that common types take: addresses, versions, times, identifiers, links.
const TEXTS: [&str; 8] = [
    "",
    "1",
    "a",
    "127.0.0.1",
    "127.0.0.1:1",
    "00000000-0000-0000-0000-000000000000",
    "1970-01-01T00:00:00Z",
    "http://localhost/",
];
const LENGTHS: [usize; 5] = [0, 1, 16, 32, 12];

/// Appends the structure of `T`: a line `path: kind` for each part. The same type gives the same lines everywhere.
pub(super) fn trace<T: DeserializeOwned>(path: &str, out: &mut String) {
    let tracer = RefCell::new(Tracer { nodes: vec![Node::default()], stack: Vec::new() });
    for _ in 0..PASSES {
        tracer.borrow_mut().stack.clear();
        // The type's own code runs here.
        let pass = catch_unwind(AssertUnwindSafe(|| {
            drop(T::deserialize(At { tracer: &tracer, node: 0, replay: false, levels: MOST_LEVELS }))
        }));
        if pass.is_err() || tracer.try_borrow().map_or(true, |tracer| tracer.nodes[0].done) {
            break;
        }
    }
    let tracer = tracer.into_inner();
    tracer.render(0, path, out);
}

struct Tracer {
    nodes: Vec<Node>,
    /// Types around the current one, with their nodes.
    stack: Vec<(&'static str, usize)>,
}

/// One part of a type.
#[derive(Default)]
struct Node {
    kind: String,
    /// Labels and nodes of fields, elements or alternatives.
    children: Vec<(String, usize)>,
    /// A value was made once.
    ok: bool,
    /// Every alternative below was traced.
    done: bool,
    /// Made-up value or alternative: the one to try next, and the first that succeeded.
    turn: usize,
    pick: Option<usize>,
    /// The node of the same type around it.
    around: Option<usize>,
}

impl Tracer {
    fn child(&mut self, node: usize, place: usize, label: &str) -> Result<usize, Error> {
        if let Some((_, child)) = self.nodes[node].children.get(place) {
            return Ok(*child);
        }
        if self.nodes.len() >= MOST_NODES {
            return Err(Error::custom("too many parts"));
        }
        self.nodes.push(Node::default());
        let child = self.nodes.len() - 1;
        self.nodes[node].children.push((label.to_owned(), child));
        Ok(child)
    }

    fn finish(&mut self, node: usize, ok: bool) {
        let done = self.nodes[node].children.iter().all(|(_, child)| self.nodes[*child].done);
        let node = &mut self.nodes[node];
        node.ok |= ok;
        node.done |= done;
    }

    /// The alternative to take: in turns those that are not fully traced, then one known to succeed.
    fn alternative(&mut self, node: usize, replay: bool) -> Option<usize> {
        let count = self.nodes[node].children.len();
        let turn = self.nodes[node].turn;
        let open = |place: &usize| !self.nodes[self.nodes[node].children[*place].1].done;
        let next = (0..count).map(|offset| (turn + offset) % count).find(open).filter(|_| !replay);
        if let Some(next) = next {
            self.nodes[node].turn = next + 1;
        }
        next.or(self.nodes[node].pick)
    }

    fn render(&self, node: usize, path: &str, out: &mut String) {
        let node = &self.nodes[node];
        if !node.kind.is_empty() {
            let _ = writeln!(out, "{path}: {}", node.kind);
        }
        for (label, child) in &node.children {
            self.render(*child, &format!("{path}.{label}"), out);
        }
    }
}

/// Deserializer of one part from made-up values.
#[derive(Clone, Copy)]
struct At<'a> {
    tracer: &'a RefCell<Tracer>,
    node: usize,
    /// Only alternatives that are known to succeed are taken, and nothing is learned.
    replay: bool,
    /// How many more levels may open.
    levels: usize,
}

impl At<'_> {
    fn child(self, place: usize, label: &str) -> Result<Self, Error> {
        let node = self.tracer.borrow_mut().child(self.node, place, label)?;
        Ok(Self { node, ..self })
    }

    fn kind(self, kind: impl FnOnce() -> String) {
        let node = &mut self.tracer.borrow_mut().nodes[self.node];
        if node.kind.is_empty() {
            node.kind = kind();
        }
    }

    fn leaf<V>(self, kind: &str, tries: usize, visit: impl FnOnce(usize) -> Result<V, Error>) -> Result<V, Error> {
        self.kind(|| kind.to_owned());
        let turn = self.tracer.borrow().nodes[self.node].turn;
        let value = visit(turn);
        let node = &mut self.tracer.borrow_mut().nodes[self.node];
        if !self.replay {
            node.ok |= value.is_ok();
            node.done |= value.is_ok() || turn + 1 >= tries;
            node.turn += usize::from(!node.done);
        }
        value
    }

    /// A part with parts. One of the type `T` around this one is not entered again.
    fn enter<T, V>(
        self,
        kind: impl FnOnce() -> String,
        visit: impl FnOnce(Self) -> Result<V, Error>,
    ) -> Result<V, Error> {
        let Some(levels) = self.levels.checked_sub(1) else {
            self.kind(|| "too deep".to_owned());
            return Err(Error::custom("too deep"));
        };
        let (name, at) = (type_name::<T>(), Self { levels, ..self });
        if self.replay {
            let node = self.tracer.borrow().nodes[self.node].around.unwrap_or(self.node);
            return visit(Self { node, ..at });
        }
        let around = self.tracer.borrow().stack.iter().find(|(other, _)| *other == name).map(|(_, node)| *node);
        if let Some(node) = around {
            self.kind(|| format!("again {}", kind()));
            self.tracer.borrow_mut().nodes[self.node].around = around;
            if !self.tracer.borrow().nodes[node].ok {
                return Err(Error::custom("within itself"));
            }
            let value = visit(Self { node, replay: true, ..at });
            self.tracer.borrow_mut().finish(self.node, value.is_ok());
            return value;
        }
        self.kind(kind);
        self.tracer.borrow_mut().stack.push((name, self.node));
        let value = visit(at);
        let mut tracer = self.tracer.borrow_mut();
        tracer.stack.pop();
        tracer.finish(self.node, value.is_ok());
        value
    }

    /// A part that is one of several; `visit` gets the number of the alternative, and its node.
    fn choose<V>(self, alternatives: &[&str], visit: impl FnOnce(usize, Self) -> Result<V, Error>) -> Result<V, Error> {
        for (place, label) in alternatives.iter().enumerate() {
            self.child(place, label)?;
        }
        let taken = self.tracer.borrow_mut().alternative(self.node, self.replay);
        let taken = taken.ok_or_else(|| Error::custom("no alternative succeeds"))?;
        let at = self.child(taken, "")?;
        let value = visit(taken, at);
        let mut tracer = self.tracer.borrow_mut();
        if !self.replay {
            if value.is_ok() {
                tracer.nodes[self.node].pick.get_or_insert(taken);
            }
            tracer.finish(at.node, value.is_ok());
        }
        value
    }

    /// The element of a sequence or map, or none.
    fn repeated<V>(self, visit: impl FnOnce(Parts<'_>) -> Result<V, Error>) -> Result<V, Error> {
        self.choose(&["[]", "none"], |taken, at| visit(Parts { at, labels: &["0"], count: 1 - taken, next: 0 }))
    }
}

/// Fields, elements, or entries.
struct Parts<'a> {
    at: At<'a>,
    /// Labels of parts that have names.
    labels: &'a [&'static str],
    count: usize,
    next: usize,
}

impl<'de> SeqAccess<'de> for Parts<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        if self.next == self.count {
            return Ok(None);
        }
        let place = self.next;
        self.next += 1;
        let label = self.labels.get(place).map_or_else(|| place.to_string(), |label| (*label).to_owned());
        seed.deserialize(self.at.child(place, &label)?).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.count - self.next)
    }
}

impl<'de> MapAccess<'de> for Parts<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        if self.next == self.count {
            return Ok(None);
        }
        self.next += 1;
        seed.deserialize(self.at.child(0, "key")?).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.at.child(1, "value")?)
    }
}

/// One variant of an enum.
struct Variant<'a> {
    at: At<'a>,
    index: u32,
}

impl<'a, 'de> EnumAccess<'de> for Variant<'a> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), Error> {
        Ok((seed.deserialize(IntoDeserializer::<Error>::into_deserializer(self.index))?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        self.at.kind(|| "unit".to_owned());
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        self.at.kind(|| "newtype".to_owned());
        seed.deserialize(self.at.child(0, "0")?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, count: usize, visitor: V) -> Result<V::Value, Error> {
        self.at.kind(|| format!("tuple of {count}"));
        visitor.visit_seq(Parts { at: self.at, labels: &[], count, next: 0 })
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        self.at.kind(|| format!("struct ({})", fields.join(", ")));
        visitor.visit_seq(Parts { at: self.at, labels: fields, count: fields.len(), next: 0 })
    }
}

/// Primitive kinds: the method, its name, and what the visitor gets at each try.
macro_rules! leaves {
    ($($method:ident: $kind:literal, $tries:expr, $visit:ident($turn:ident => $value:expr);)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.leaf($kind, $tries, |$turn| visitor.$visit($value))
        }
    )*};
}

impl<'de> Deserializer<'de> for At<'_> {
    type Error = Error;

    leaves! {
        deserialize_bool: "bool", 2, visit_bool(turn => turn > 0);
        deserialize_i8: "i8", 3, visit_i8(turn => 1 - turn as i8);
        deserialize_i16: "i16", 3, visit_i16(turn => 1 - turn as i16);
        deserialize_i32: "i32", 3, visit_i32(turn => 1 - turn as i32);
        deserialize_i64: "i64", 3, visit_i64(turn => 1 - turn as i64);
        deserialize_i128: "i128", 3, visit_i128(turn => 1 - turn as i128);
        deserialize_u8: "u8", 3, visit_u8(turn => [1, 0, 2][turn.min(2)]);
        deserialize_u16: "u16", 3, visit_u16(turn => [1, 0, 2][turn.min(2)]);
        deserialize_u32: "u32", 3, visit_u32(turn => [1, 0, 2][turn.min(2)]);
        deserialize_u64: "u64", 3, visit_u64(turn => [1, 0, 2][turn.min(2)]);
        deserialize_u128: "u128", 3, visit_u128(turn => [1, 0, 2][turn.min(2)]);
        deserialize_f32: "f32", 2, visit_f32(turn => turn as f32);
        deserialize_f64: "f64", 2, visit_f64(turn => turn as f64);
        deserialize_char: "char", 2, visit_char(turn => ['a', '1'][turn.min(1)]);
        deserialize_str: "str", TEXTS.len(), visit_str(turn => TEXTS[turn.min(TEXTS.len() - 1)]);
        deserialize_string: "str", TEXTS.len(), visit_str(turn => TEXTS[turn.min(TEXTS.len() - 1)]);
        deserialize_identifier: "str", TEXTS.len(), visit_str(turn => TEXTS[turn.min(TEXTS.len() - 1)]);
        deserialize_bytes: "bytes", LENGTHS.len(), visit_bytes(turn => &[0; 32][..LENGTHS[turn.min(LENGTHS.len() - 1)]]);
        deserialize_byte_buf: "bytes", LENGTHS.len(), visit_bytes(turn => &[0; 32][..LENGTHS[turn.min(LENGTHS.len() - 1)]]);
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.leaf("any", 1, |_| visitor.visit_unit())
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.leaf("any", 1, |_| visitor.visit_unit())
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.leaf("unit", 1, |_| visitor.visit_unit())
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.enter::<V::Value, _>(
            || "option".to_owned(),
            |at| {
                at.choose(&["some", "none"], |taken, at| match taken {
                    0 => visitor.visit_some(at.child(0, "0")?),
                    _ => visitor.visit_none(),
                })
            },
        )
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        self.leaf(&format!("struct {name}"), 1, |_| visitor.visit_unit())
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        self.enter::<V::Value, _>(|| format!("struct {name}"), |at| visitor.visit_newtype_struct(at.child(0, "0")?))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.enter::<V::Value, _>(|| "sequence".to_owned(), |at| at.repeated(|parts| visitor.visit_seq(parts)))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.enter::<V::Value, _>(|| "map".to_owned(), |at| at.repeated(|parts| visitor.visit_map(parts)))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, count: usize, visitor: V) -> Result<V::Value, Error> {
        let parts = |at| Parts { at, labels: &[], count, next: 0 };
        self.enter::<V::Value, _>(|| format!("tuple of {count}"), |at| visitor.visit_seq(parts(at)))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        count: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        let parts = |at| Parts { at, labels: &[], count, next: 0 };
        self.enter::<V::Value, _>(|| format!("struct {name} of {count}"), |at| visitor.visit_seq(parts(at)))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let parts = |at| Parts { at, labels: fields, count: fields.len(), next: 0 };
        self.enter::<V::Value, _>(
            || format!("struct {name} ({})", fields.join(", ")),
            |at| visitor.visit_seq(parts(at)),
        )
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.enter::<V::Value, _>(
            || format!("enum {name} ({})", variants.join(", ")),
            |at| at.choose(variants, |taken, at| visitor.visit_enum(Variant { at, index: taken as u32 })),
        )
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
