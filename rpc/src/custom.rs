//! Common parts of codecs and compressions of the user's own: number, name, and a guard against panics.

use std::{
    any::Any,
    fmt,
    hash::{Hash, Hasher},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// Numbers that codecs and compressions of the user's own may have.
const NUMBERS: std::ops::RangeInclusive<u8> = 128..=254;

/// Error of user code that encodes, decodes, compresses or expands.
pub type CustomError = Box<dyn std::error::Error + Send + Sync>;

/// Handle of a codec or compression of the user's own. Cheap to clone; two handles are equal if number and name are.
pub struct Custom<T: ?Sized>(Arc<Inner<T>>);

struct Inner<T: ?Sized> {
    number: u8,
    name: String,
    own: Box<T>,
}

/// Number that a codec or compression of the user's own must not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {kind} `{name}` has the number {number}: use one from 128 to 254, the others are reserved")]
pub struct NumberError {
    kind: &'static str,
    name: String,
    number: u8,
}

impl<T: ?Sized> Custom<T> {
    pub(crate) fn new(kind: &'static str, number: u8, name: String, own: Box<T>) -> Result<Self, NumberError> {
        if NUMBERS.contains(&number) {
            Ok(Self(Arc::new(Inner { number, name, own })))
        } else {
            Err(NumberError { kind, name, number })
        }
    }

    /// Number on the wire.
    pub fn number(&self) -> u8 {
        self.0.number
    }

    /// Name for messages.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Runs user code. Its error or panic is a text.
    pub(crate) fn run<R>(&self, code: impl FnOnce(&T) -> Result<R, CustomError>) -> Result<R, String> {
        match catch_unwind(AssertUnwindSafe(|| code(&self.0.own))) {
            Ok(done) => done.map_err(|error| error.to_string()),
            Err(panic) => Err(format!("it panicked: {}", panic_text(&*panic))),
        }
    }
}

/// The text that code panicked with.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a text")
}

impl<T: ?Sized> Clone for Custom<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: ?Sized> PartialEq for Custom<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.number(), self.name()) == (other.number(), other.name())
    }
}

impl<T: ?Sized> Eq for Custom<T> {}

impl<T: ?Sized> Hash for Custom<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.number(), self.name()).hash(state);
    }
}

/// Name and number.
impl<T: ?Sized> fmt::Debug for Custom<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.number())
    }
}
