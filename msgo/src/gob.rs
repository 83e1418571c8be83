//! Errors in Go's `encoding/gob`: written for clients that read nothing else, and read from servers, whose errors of no particular
//! request come in gob whatever the request was in. The form is that package's documentation, section "Encoding Details".

/// Number that the type gets: the first that is free for users.
const TYPE: i64 = 65;
/// Numbers of built-in types.
const INT: i64 = 2;
const UINT: i64 = 3;
const STRING: i64 = 6;
const INTERFACE: i64 = 8;

/// The fields of a response, in order.
const FIELDS: [(&str, i64); 6] = [
    ("RequestId", INT),
    ("Code", INT),
    ("Msg", STRING),
    ("CompressType", UINT),
    ("SerializeType", UINT),
    ("Data", INTERFACE),
];

/// A response without data: the definition of its type, and its value.
pub(crate) fn response(id: u64, code: i64, message: &str) -> Vec<u8> {
    let mut definition = Vec::new();
    signed(&mut definition, -TYPE);
    // The third field of a description is the structure; in it the first is what all types have: name and number.
    definition.extend_from_slice(&[3, 1, 1]);
    text(&mut definition, "MsRpcResponse");
    definition.push(1);
    signed(&mut definition, TYPE);
    definition.extend_from_slice(&[0, 1]);
    unsigned(&mut definition, FIELDS.len() as u64);
    for (name, of) in FIELDS {
        definition.push(1);
        text(&mut definition, name);
        definition.push(1);
        signed(&mut definition, of);
        definition.push(0);
    }
    definition.extend_from_slice(&[0, 0]);

    let mut value = Vec::new();
    signed(&mut value, TYPE);
    // Fields that are 0 are left out: a field is written with its distance from the last one.
    let mut skipped = 1;
    if id != 0 {
        unsigned(&mut value, skipped);
        signed(&mut value, id as i64);
        skipped = 0;
    }
    unsigned(&mut value, skipped + 1);
    signed(&mut value, code);
    value.push(1);
    text(&mut value, message);
    value.push(0);

    let mut stream = Vec::new();
    for message in [definition, value] {
        unsigned(&mut stream, message.len() as u64);
        stream.extend_from_slice(&message);
    }
    stream
}

/// Code and text of a response without data; `None` if the stream is no such response.
pub(crate) fn read_response(mut stream: &[u8]) -> Option<(i64, String)> {
    loop {
        let length = usize::try_from(take_unsigned(&mut stream)?).ok()?;
        let mut message = stream.split_off(..length)?;
        // A negative number: the definition of a type. Responses have one form, so nothing in it needs to be known.
        if take_signed(&mut message)? >= 0 {
            return read_fields(message);
        }
    }
}

fn read_fields(mut fields: &[u8]) -> Option<(i64, String)> {
    let (mut number, mut code, mut text) = (0, 0, String::new());
    loop {
        let skipped = take_unsigned(&mut fields)?;
        if skipped == 0 {
            return Some((code, text));
        }
        number = usize::try_from(skipped).ok()?.checked_add(number)?;
        match *FIELDS.get(number - 1)? {
            ("Code", _) => code = take_signed(&mut fields)?,
            (_, STRING) => {
                let length = usize::try_from(take_unsigned(&mut fields)?).ok()?;
                text = std::str::from_utf8(fields.split_off(..length)?).ok()?.to_owned();
            }
            (_, INT | UINT) => drop(take_unsigned(&mut fields)?),
            _ => return None,
        }
    }
}

fn take_unsigned(bytes: &mut &[u8]) -> Option<u64> {
    let first = *bytes.split_off_first()?;
    if first < 128 {
        return Some(first.into());
    }
    let count = usize::from(first.wrapping_neg());
    let digits = (count <= size_of::<u64>()).then(|| bytes.split_off(..count))??;
    Some(digits.iter().fold(0, |number, digit| number << 8 | u64::from(*digit)))
}

fn take_signed(bytes: &mut &[u8]) -> Option<i64> {
    let coded = take_unsigned(bytes)?;
    let shifted = (coded >> 1) as i64;
    Some(if coded & 1 == 1 { !shifted } else { shifted })
}

/// One byte below 128, else the negated number of bytes, and these.
fn unsigned(out: &mut Vec<u8>, number: u64) {
    if number < 128 {
        out.push(number as u8);
        return;
    }
    let bytes = number.to_be_bytes();
    let skipped = number.leading_zeros() as usize / 8;
    out.push((skipped as u8).wrapping_sub(8));
    out.extend_from_slice(&bytes[skipped..]);
}

/// The sign in the lowest bit; negative numbers complemented.
fn signed(out: &mut Vec<u8>, number: i64) {
    let shifted = (number as u64) << 1;
    unsigned(out, if number < 0 { !shifted } else { shifted });
}

fn text(out: &mut Vec<u8>, text: &str) {
    unsigned(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_documentation() {
        let unsigned = |number| {
            let mut out = Vec::new();
            super::unsigned(&mut out, number);
            out
        };
        let signed = |number| {
            let mut out = Vec::new();
            super::signed(&mut out, number);
            out
        };
        assert_eq!(unsigned(7), [7]);
        assert_eq!(unsigned(256), [0xfe, 1, 0]);
        assert_eq!(unsigned(u64::MAX), [0xf8, 255, 255, 255, 255, 255, 255, 255, 255]);
        assert_eq!(signed(-129), [0xfe, 1, 1]);
        assert_eq!(signed(-65), [0xff, 0x81]);
        assert_eq!(signed(65), [0xff, 0x82]);
    }

    #[test]
    fn a_response_is_a_type_and_a_value() {
        let stream = response(3, 500, "no");
        let value = [13, 0xff, 0x82, 1, 6, 1, 0xfe, 3, 0xe8, 1, 2, b'n', b'o', 0];
        let (definition, rest) = stream.split_at(stream.len() - value.len());
        assert_eq!(rest, value);
        assert_eq!(usize::from(definition[0]), definition.len() - 1);
        assert_eq!(definition[1..8], [0xff, 0x81, 3, 1, 1, 13, b'M']);
        assert!(definition.ends_with(&[1, 4, b'D', b'a', b't', b'a', 1, 16, 0, 0, 0]));
        // Without an id, the code is the second field from the beginning.
        assert!(response(0, 500, "no").ends_with(&[11, 0xff, 0x82, 2, 0xfe, 3, 0xe8, 1, 2, b'n', b'o', 0]));
    }

    /// As a server of msgo has written it.
    const NO_SERVICE: &[u8] = b"\x66\xff\x81\x03\x01\x01\x0dMsRpcResponse\x01\xff\x82\x00\x01\x06\x01\x09RequestId\x01\x04\x00\
        \x01\x04Code\x01\x04\x00\x01\x03Msg\x01\x0c\x00\x01\x0cCompressType\x01\x06\x00\x01\x0dSerializeType\x01\x06\x00\
        \x01\x04Data\x01\x10\x00\x00\x00\x19\xff\x82\x02\xfe\x03\xe8\x01\x10no service found\x00";

    #[test]
    fn what_go_writes_is_read_and_written() {
        assert_eq!(read_response(NO_SERVICE), Some((500, "no service found".to_owned())));
        assert_eq!(response(0, 500, "no service found"), NO_SERVICE);
    }

    #[test]
    fn what_is_written_is_read() {
        for (id, code, text) in [(3, 500, "no"), (0, 700, ""), (u64::MAX, -1, "too many")] {
            assert_eq!(read_response(&response(id, code, text)), Some((code, text.to_owned())));
        }
        let whole = response(3, 500, "no");
        for length in 0..whole.len() {
            assert_eq!(read_response(&whole[..length]), None, "{length}");
        }
        // With data, which only an answer in gob has; a field that is none; a length beyond the end.
        for bad in [&[5, 0xff, 0x82, 6, 1, 0][..], &[4, 0xff, 0x82, 7, 0], &[4, 0xff, 0x82, 3, 9], &[0x80], &[0xf7; 20]]
        {
            assert_eq!(read_response(bad), None, "{bad:?}");
        }
    }
}
