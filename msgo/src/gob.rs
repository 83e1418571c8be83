//! One message of Go's `encoding/gob`: an error for clients that read nothing else. The form is that package's documentation,
//! section "Encoding Details".

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
}
