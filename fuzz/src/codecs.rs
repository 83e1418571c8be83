//! Every codec, into types of every kind; held against the crates that define the formats.

mod values;

use bytes::Bytes;
use ms_rpc::{
    Codec,
    internals::{Buffer, decode},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{memory::bounded, source::Source};

/// A value in bincode. The first byte says of which type.
pub fn bincode(input: &[u8]) {
    run(values::BINCODE, input);
}

/// A value in JSON. The first byte says of which type.
pub fn json(input: &[u8]) {
    run(values::JSON, input);
}

/// A value in MessagePack. The first byte says of which type.
pub fn message_pack(input: &[u8]) {
    run(values::MESSAGE_PACK, input);
}

/// A codec with a type.
type Check = fn(&Bytes);

fn run(checks: &[Check], input: &[u8]) {
    let mut source = Source::new(input);
    let check = checks[usize::from(source.byte()) % checks.len()];
    check(&Bytes::copy_from_slice(source.rest()));
}

/// What may be sent.
trait Value: Serialize + DeserializeOwned {}

impl<T: Serialize + DeserializeOwned> Value for T {}

/// Both readers agree on any bytes.
fn bincode_of<T: Value>(body: &Bytes) {
    let value = read::<T>(&Codec::Bincode, body);
    assert_eq!(value.as_ref().map(bytes), read_by_bincode::<T>(body).as_ref().map(bytes));
    assert!(value.is_none_or(|value| reads_again(&Codec::Bincode, &value) == Some(true)));
}

/// The crate has no limits here: where ours reads it, it is what the crate reads.
fn limited_bincode_of<T: Value>(body: &Bytes) {
    if let Some(value) = read::<T>(&Codec::Bincode, body) {
        assert_eq!(Some(bytes(&value)), read_by_bincode::<T>(body).as_ref().map(bytes));
        // How many elements without bytes are believed depends on the bytes behind them: fewer, if these were too many.
        assert_ne!(reads_again(&Codec::Bincode, &value), Some(false));
    }
}

/// Both readers agree on any bytes.
fn json_of<T: Value>(body: &Bytes) {
    let value = read::<T>(&Codec::Json, body);
    assert_eq!(value.as_ref().map(bytes), read_by_serde_json::<T>(body).as_ref().map(bytes));
    assert!(value.is_none_or(|value| reads_again(&Codec::Json, &value) == Some(true)));
}

/// The crate has no limits here: where ours reads it, it is what the crate reads.
fn limited_json_of<T: Value>(body: &Bytes) {
    if let Some(value) = read::<T>(&Codec::Json, body) {
        assert_eq!(Some(bytes(&value)), read_by_serde_json::<T>(body).as_ref().map(bytes));
        assert_eq!(reads_again(&Codec::Json, &value), Some(true));
    }
}

/// A value that is read is written, and read again as the same; `Some(None)` is written as `None`.
fn message_pack_of<T: Value>(body: &Bytes) {
    if let Some(value) = read::<T>(&Codec::MessagePack, body) {
        assert_eq!(reads_again(&Codec::MessagePack, &value), Some(true));
    }
}

fn read<T: Value>(codec: &Codec, body: &Bytes) -> Option<T> {
    bounded(body, || decode(codec, body))
}

/// Whether what is written of it means the same; `None`: it is not read.
fn reads_again<T: Value>(codec: &Codec, value: &T) -> Option<bool> {
    let written = encoded(codec, value);
    let again: T = decode(codec, &written)?;
    Some(encoded(codec, &again) == written)
}

fn encoded<T: Serialize>(codec: &Codec, value: &T) -> Bytes {
    let mut buffer = Buffer::default();
    assert!(buffer.encode(codec, value), "what was read can be written");
    buffer.to_bytes()
}

/// In bincode values are equal when their bytes are, NaN included. Both writers write the same.
fn bytes<T: Serialize>(value: &T) -> Bytes {
    let ours = encoded(&Codec::Bincode, value);
    let theirs = bincode::serde::encode_to_vec(value, bincode::config::standard()).expect("ours is written");
    assert_eq!(ours, theirs);
    ours
}

fn read_by_bincode<T: Value>(body: &[u8]) -> Option<T> {
    // Above any input here, and little enough to be reserved by a mere claim.
    let config = bincode::config::standard().with_limit::<{ 1 << 20 }>();
    let (value, read) = bincode::serde::decode_from_slice(body, config).ok()?;
    (read == body.len()).then_some(value)
}

fn read_by_serde_json<T: Value>(body: &[u8]) -> Option<T> {
    serde_json::from_slice(body).ok()
}

pub(crate) use values::seeds;
