//! Signatures: a method's definition as written and the structure of its types, which both sides must share.

use std::{fmt, marker::PhantomData};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use super::trace::trace;
use crate::{Code, Status, proto::RequestHead};

/// Definition of a method: as written in the trait, and the structure of its types.
///
/// A caller whose definition differs from the server's is refused before the method runs, and the error shows both.
#[derive(Clone, Copy)]
pub struct Signature {
    /// `find(id: i64) -> Result<Item, GoodsError>`; empty if it is not known.
    #[doc(hidden)]
    pub text: &'static str,
    /// Hash of the text; then without the last argument, and so on, for the arguments at the end that are an `Option`.
    #[doc(hidden)]
    pub hashes: &'static [u32],
    /// Structure of the types.
    #[doc(hidden)]
    pub shape: fn() -> &'static Shape,
}

impl Signature {
    /// The signature of a method that is not checked: for services written without `#[service]`.
    pub const UNKNOWN: Self = Self {
        text: "",
        hashes: &[],
        shape: || const { &Shape { arguments: Vec::new(), results: String::new(), hashes: Vec::new() } },
    };

    /// The definition as written, without the context and with uniform spaces; empty if it is not known.
    pub fn text(&self) -> &'static str {
        self.text
    }

    /// Number of arguments at the end that a caller may leave out.
    #[inline]
    pub(crate) fn optional(&self) -> usize {
        self.hashes.len().saturating_sub(1)
    }

    /// The two hashes that a request carries, of the definition and of the structure; 0 for what is not said.
    /// `names_fields`: the codec finds fields by their names, so a difference in structure shows when a value is decoded.
    #[inline]
    pub(crate) fn said(&self, names_fields: bool) -> [u32; 2] {
        match self.hashes {
            [] => [0; 2],
            [hash, ..] if names_fields => [*hash, 0],
            [hash, ..] => [*hash, (self.shape)().hashes.first().copied().unwrap_or(0)],
        }
    }

    /// Compares the caller's definition with this one.
    ///
    /// # Errors
    /// `FailedPrecondition`, not executed, with this definition.
    #[inline]
    pub(crate) fn check(&self, service: &str, head: &RequestHead<'_>) -> Result<(), Status> {
        if head.signature == 0 || self.hashes.is_empty() {
            return Ok(());
        }
        let Some(missing) = self.hashes.iter().position(|hash| *hash == head.signature) else {
            return Err(self.differs(service, ""));
        };
        if head.shape == 0 {
            return Ok(());
        }
        let shape = (self.shape)();
        match shape.hashes.get(missing) {
            Some(hash) if *hash != head.shape => Err(self.differs(service, &shape.text(missing))),
            _ => Ok(()),
        }
    }

    #[cold]
    fn differs(&self, service: &str, shape: &str) -> Status {
        let what = if shape.is_empty() { "" } else { ", with other types behind its names" };
        let message = format!("the definitions of `{service}` differ: the server has `{}`{what}", self.text);
        Status::new(Code::FailedPrecondition, message).with_difference(shape.into()).not_executed()
    }

    /// Adds this side's definition, the piece that differs, and the remedy to a server's refusal; leaves any other status as it is.
    #[cold]
    pub(crate) fn explain(&self, status: &mut Status) {
        let Some(theirs) = status.difference() else { return };
        let mut message = format!("{}, the caller has `{}`", status.message(), self.text);
        if !theirs.is_empty() {
            let ours = (self.shape)().text(0);
            let (mut theirs, mut ours) = (theirs.lines(), ours.lines());
            let pair = std::iter::from_fn(|| Some((theirs.next(), ours.next())))
                .find(|(theirs, ours)| theirs != ours || theirs.is_none());
            let (theirs, ours) = pair.unwrap_or_default();
            message += &format!(
                " (the server: `{}`, the caller: `{}`)",
                theirs.unwrap_or("no more"),
                ours.unwrap_or("no more")
            );
        }
        status.set_message(message + &format!("; {REMEDY}"));
    }
}

/// Remedy for definitions that differ.
pub(crate) const REMEDY: &str =
    "build both sides from one definition, or serve the changed one under a name of its own (`serve_as`)";

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

/// Structure of a method's types: a line for each part.
#[derive(Debug)]
pub struct Shape {
    arguments: Vec<String>,
    results: String,
    /// Hash of the whole, then without the last argument, and so on.
    hashes: Vec<u32>,
}

/// Appends the structure of a type under this path.
pub(crate) type Trace = fn(&str, &mut String);

impl Shape {
    /// `optional`: number of arguments at the end that may be missing.
    pub fn new(arguments: &[(&str, Trace)], results: &[(&str, Trace)], optional: usize) -> Self {
        let traced = |(path, trace): &(&str, Trace)| {
            let mut lines = String::new();
            trace(path, &mut lines);
            lines
        };
        let (arguments, results) = (arguments.iter().map(traced).collect(), results.iter().map(traced).collect());
        let mut shape = Self { arguments, results, hashes: Vec::new() };
        shape.hashes = (0..=optional).map(|missing| hash(&shape.text(missing))).collect();
        shape
    }

    fn text(&self, missing: usize) -> String {
        let sent = self.arguments.len().saturating_sub(missing);
        self.arguments[..sent].concat() + &self.results
    }
}

/// 32-bit FNV-1a of a text; 1 in place of 0, which means "not said".
pub const fn hash(text: &str) -> u32 {
    let (bytes, mut hash, mut at) = (text.as_bytes(), 0x811c_9dc5_u32, 0);
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    if hash == 0 { 1 } else { hash }
}

/// Type whose constants tell what another type is. Those of the trait [`Fallback`] hold where its own do not exist.
#[derive(Debug)]
pub struct Probe<T>(PhantomData<T>);

/// Constants of types that are neither `Result` nor deserializable.
pub trait Fallback<T> {
    /// The type is a `Result`.
    const IS_RESULT: bool = false;
    /// Traces the type.
    const TRACE: Trace = |path, out| *out += &format!("{path}: opaque\n");
}

impl<T> Fallback<T> for Probe<T> {}

impl<T, E> Probe<Result<T, E>> {
    /// The type is a `Result`.
    pub const IS_RESULT: bool = true;
}

impl<T: DeserializeOwned> Probe<T> {
    /// Traces the type.
    pub const TRACE: Trace = trace::<T>;
}

/// Type that a method takes or returns: `Serialize + DeserializeOwned + Send + 'static`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel in a call",
    label = "this type must be `Serialize + DeserializeOwned + Send + 'static`",
    note = "derive both on the type: `#[derive(serde::Serialize, serde::Deserialize)]`"
)]
pub trait Value: Sized + Send + 'static {
    /// `Serialize::serialize`.
    #[doc(hidden)]
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;

    /// `Deserialize::deserialize`.
    #[doc(hidden)]
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> Value for T {
    #[inline]
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize(serializer)
    }

    #[inline]
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(deserializer)
    }
}

/// A [`Value`] as serde sees it. The bound `Value` implies no bounds of serde's: so a type without them is one error.
#[derive(Debug)]
pub struct Carried<T>(pub T);

impl<T> Carried<T> {
    /// The value.
    #[inline]
    pub fn take(self) -> T {
        self.0
    }
}

impl<T: Value> Serialize for Carried<T> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.write(serializer)
    }
}

/// A [`Value`] on its way out.
#[derive(Debug)]
pub struct Sent<'a, T>(pub &'a T);

impl<T: Value> Serialize for Sent<'_, T> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.write(serializer)
    }
}

impl<'de, T: Value> Deserialize<'de> for Carried<T> {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::read(deserializer).map(Self)
    }
}

/// [`Status`] itself: a type of this name in a method's result.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not `ms_rpc::Status`",
    label = "a method whose error type is named `Status` returns that of ms-rpc",
    note = "import `ms_rpc::Status`, or give the method's own error type another name"
)]
pub trait IsStatus: Send + 'static {
    /// The status.
    fn into_status(self) -> Status;
}

impl IsStatus for Status {
    fn into_status(self) -> Status {
        self
    }
}
