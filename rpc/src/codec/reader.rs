//! Reads bincode's standard format (little-endian, variable-length integers) from a slice.
//!
//! The bincode crate writes it, and the tests hold the two against each other. Reading is ours for two reasons: values come
//! from peers, so depth and lengths need limits that the crate does not have; and it is a third of what a call costs its
//! client.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::depth::MOST;

/// Elements that take no bytes, such as `()`, can be claimed in any number: of all in one value, so many are believed.
const MOST_EMPTY: usize = 1 << 16;

pub(super) struct Reader<'de> {
    input: &'de [u8],
    /// How many levels may still open.
    levels: u8,
    /// How many `Some` may still open: they have an account of their own, as in [`super::depth`].
    options: u8,
    /// How many elements may still take no bytes.
    empty: usize,
}

/// One word, so that results stay small.
#[derive(Debug)]
pub(super) struct ReadError(Box<str>);

type Result<T> = std::result::Result<T, ReadError>;

impl<'de> Reader<'de> {
    pub(super) fn new(input: &'de [u8]) -> Self {
        Self { input, levels: MOST, options: MOST, empty: MOST_EMPTY }
    }

    /// The unread rest of the input.
    pub(super) fn rest(&self) -> &'de [u8] {
        self.input
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.input.split_first_chunk().ok_or_else(cut_short)?;
        self.input = rest;
        Ok(*taken)
    }

    #[inline]
    fn byte(&mut self) -> Result<u8> {
        self.array().map(|[byte]| byte)
    }

    /// A variable-length integer for a type of `BYTES` bytes: below 251 it is its own byte, else a marker says its size.
    #[inline]
    fn varint<const BYTES: u8>(&mut self) -> Result<u64> {
        match self.byte()? {
            byte @ 0..=250 => Ok(byte.into()),
            251 => self.array().map(|bytes| u16::from_le_bytes(bytes).into()),
            252 if BYTES >= 4 => self.array().map(|bytes| u32::from_le_bytes(bytes).into()),
            253 if BYTES >= 8 => self.array().map(u64::from_le_bytes),
            marker => Err(bad_integer(marker, BYTES)),
        }
    }

    fn varint128(&mut self) -> Result<u128> {
        match self.input {
            [254, ..] => {
                self.byte()?;
                self.array().map(u128::from_le_bytes)
            }
            _ => self.varint::<8>().map(u128::from),
        }
    }

    /// The bytes behind their length.
    #[inline]
    fn bytes(&mut self) -> Result<&'de [u8]> {
        let length = self.varint::<8>()?;
        let taken = usize::try_from(length).ok().and_then(|length| self.input.split_at_checked(length));
        let (taken, rest) = taken.ok_or_else(|| too_long(length))?;
        self.input = rest;
        Ok(taken)
    }

    #[inline]
    fn text(&mut self) -> Result<&'de str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| ReadError("a text is not UTF-8".into()))
    }

    fn character(&mut self) -> Result<char> {
        let width = match self.input.first() {
            Some(0..0x80) => 1,
            Some(0x80..0xe0) => 2,
            Some(0xe0..0xf0) => 3,
            Some(_) => 4,
            None => return Err(cut_short()),
        };
        let (taken, rest) = self.input.split_at_checked(width).ok_or_else(cut_short)?;
        self.input = rest;
        let text = std::str::from_utf8(taken).ok();
        text.and_then(|text| text.chars().next()).ok_or_else(|| ReadError("a character is not UTF-8".into()))
    }

    /// How many elements follow. More than there are bytes is for elements that take none.
    #[inline]
    fn count(&mut self) -> Result<usize> {
        let claimed = self.varint::<8>()?;
        let count = usize::try_from(claimed).map_err(|_| too_long(claimed))?;
        if let Some(empty) = count.checked_sub(self.input.len()) {
            self.empty = self.empty.checked_sub(empty).ok_or_else(|| too_long(claimed))?;
        }
        Ok(count)
    }

    /// Reads something one level down.
    #[inline]
    fn below<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.levels = self.levels.checked_sub(1).ok_or_else(too_deep)?;
        let done = read(self);
        self.levels += 1;
        done
    }

    #[inline]
    fn elements<V: Visitor<'de>>(&mut self, count: usize, visitor: V) -> Result<V::Value> {
        self.below(|reader| visitor.visit_seq(Elements { reader, left: count }))
    }
}

#[cold]
fn cut_short() -> ReadError {
    ReadError("the bytes end in the middle of a value".into())
}

#[cold]
fn bad_integer(marker: u8, bytes: u8) -> ReadError {
    ReadError(format!("an integer of {bytes} bytes cannot begin with {marker}").into())
}

#[cold]
fn too_long(length: u64) -> ReadError {
    ReadError(format!("a length of {length} is more than the bytes that follow").into())
}

#[cold]
fn too_deep() -> ReadError {
    ReadError(format!("nested deeper than {MOST} levels").into())
}

#[cold]
fn not_described<T>() -> Result<T> {
    Err(ReadError("bincode does not describe its values: this type needs a codec that does, such as JSON".into()))
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ReadError {}

impl serde::de::Error for ReadError {
    #[cold]
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string().into())
    }
}

#[inline]
fn zigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}

macro_rules! integers {
    ($($method:ident $visit:ident $kind:ty, $bytes:literal, $from:expr;)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            let number = self.varint::<$bytes>()?;
            visitor.$visit($from(number) as $kind)
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = ReadError;

    // A number cannot exceed its type: its marker was checked against the type's size.
    integers! {
        deserialize_u16 visit_u16 u16, 2, std::convert::identity;
        deserialize_u32 visit_u32 u32, 4, std::convert::identity;
        deserialize_u64 visit_u64 u64, 8, std::convert::identity;
        deserialize_i16 visit_i16 i16, 2, zigzag;
        deserialize_i32 visit_i32 i32, 4, zigzag;
        deserialize_i64 visit_i64 i64, 8, zigzag;
    }

    #[inline]
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.byte()? {
            0 => visitor.visit_bool(false),
            1 => visitor.visit_bool(true),
            byte => Err(ReadError(format!("a boolean is 0 or 1, not {byte}").into())),
        }
    }

    #[inline]
    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_u8(self.byte()?)
    }

    #[inline]
    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_i8(self.byte()?.cast_signed())
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_u128(self.varint128()?)
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let number = self.varint128()?;
        visitor.visit_i128((number >> 1).cast_signed() ^ -((number & 1).cast_signed()))
    }

    #[inline]
    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_f32(f32::from_le_bytes(self.array()?))
    }

    #[inline]
    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_f64(f64::from_le_bytes(self.array()?))
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_char(self.character()?)
    }

    #[inline]
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_borrowed_str(self.text()?)
    }

    #[inline]
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_str(visitor)
    }

    #[inline]
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_borrowed_bytes(self.bytes()?)
    }

    #[inline]
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_bytes(visitor)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.byte()? {
            0 => visitor.visit_none(),
            1 => {
                self.options = self.options.checked_sub(1).ok_or_else(too_deep)?;
                let done = visitor.visit_some(&mut *self);
                self.options += 1;
                done
            }
            byte => Err(ReadError(format!("an option is 0 or 1, not {byte}").into())),
        }
    }

    #[inline]
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value> {
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value> {
        self.below(|reader| visitor.visit_newtype_struct(reader))
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let count = self.count()?;
        self.elements(count, visitor)
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, count: usize, visitor: V) -> Result<V::Value> {
        self.elements(count, visitor)
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(self, _: &'static str, count: usize, visitor: V) -> Result<V::Value> {
        self.elements(count, visitor)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.elements(fields.len(), visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let count = self.count()?;
        self.below(|reader| visitor.visit_map(Elements { reader, left: count }))
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.below(|reader| visitor.visit_enum(Variant { reader }))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value> {
        not_described()
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _: V) -> Result<V::Value> {
        not_described()
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value> {
        not_described()
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The elements of a list, or the entries of a map.
struct Elements<'a, 'de> {
    reader: &'a mut Reader<'de>,
    left: usize,
}

impl<'de> SeqAccess<'de> for Elements<'_, 'de> {
    type Error = ReadError;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(&mut *self.reader).map(Some)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.left.min(self.reader.input.len()))
    }
}

impl<'de> MapAccess<'de> for Elements<'_, 'de> {
    type Error = ReadError;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>> {
        self.next_element_seed(seed)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value> {
        seed.deserialize(&mut *self.reader)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.left.min(self.reader.input.len()))
    }
}

struct Variant<'a, 'de> {
    reader: &'a mut Reader<'de>,
}

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = ReadError;
    type Variant = Self;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self)> {
        let number = self.reader.varint::<4>()? as u32;
        let value = seed.deserialize(IntoDeserializer::<ReadError>::into_deserializer(number))?;
        Ok((value, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = ReadError;

    #[inline]
    fn unit_variant(self) -> Result<()> {
        Ok(())
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value> {
        seed.deserialize(self.reader)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, count: usize, visitor: V) -> Result<V::Value> {
        self.reader.elements(count, visitor)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value> {
        self.reader.elements(fields.len(), visitor)
    }
}

#[cfg(test)]
mod tests;
