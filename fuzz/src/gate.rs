//! What clients send to a gate, and the file that says where it goes.

use ms_gate::{Frame, HEAD, Routes};
use ms_register::without_comments;
use serde_json::Value;

use crate::{memory::bounded, source::Source};

/// Data of a frame, in bytes.
const LIMITS: [usize; 3] = [64, 1 << 10, 64 << 10];

/// Cuts a stream into a gate's frames, whatever pieces it comes in: those that the whole of it says.
pub fn gate_frames(input: &[u8]) {
    let mut source = Source::new(input);
    let most = LIMITS[usize::from(source.byte()) % LIMITS.len()];
    let cuts = [source.short(), &[source.byte()]].concat();
    let stream = source.rest();
    let (expected, is_cut) = split(stream, most);
    let (frames, ended_well) = bounded(stream, || {
        let (mut buffer, mut frames, mut rest) = (bytes::BytesMut::new(), Vec::new(), stream);
        for cut in cuts.iter().cycle() {
            let (piece, later) = rest.split_at((usize::from(*cut) + 1).min(rest.len()));
            buffer.extend_from_slice(piece);
            rest = later;
            loop {
                match Frame::take(&mut buffer, most) {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(error) => {
                        assert!(error.length as usize > most);
                        return (frames, false);
                    }
                }
            }
            if rest.is_empty() {
                break;
            }
        }
        (frames, true)
    });
    assert_eq!(ended_well, !is_cut);
    assert_eq!(frames.len(), expected.len());
    for (frame, expected) in frames.iter().zip(expected) {
        assert_eq!(Frame::encode(frame.msg_id, &frame.data), expected);
    }
}

/// The frames of a stream, and true if it ends with one that is too long.
fn split(mut stream: &[u8], most: usize) -> (Vec<&[u8]>, bool) {
    let mut frames = Vec::new();
    while let Some((head, rest)) = stream.split_first_chunk::<HEAD>() {
        let length = head[4..].iter().fold(0_u64, |length, byte| length << 8 | u64::from(*byte)) as usize;
        if length > most {
            return (frames, true);
        }
        if rest.len() < length {
            break;
        }
        let (frame, later) = stream.split_at(HEAD + length);
        frames.push(frame);
        stream = later;
    }
    (frames, false)
}

/// Reads a `route.json`: each id leads to one group, the one that the JSON says.
pub fn gate_routes(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let kept = without_comments(text);
    assert_eq!(kept.matches('\n').count(), text.matches('\n').count(), "lines keep their numbers");
    let Ok(routes) = bounded(input, || Routes::from_json(text)) else { return };
    let Ok(Value::Object(groups)) = serde_json::from_str(&kept) else { panic!("no JSON object, and read as routes") };
    for (group, entries) in groups {
        let ids: Vec<_> = entries.as_array().into_iter().flatten().map(|entry| entry["MsgID"].as_u64()).collect();
        for id in ids {
            let id = id.and_then(|id| u32::try_from(id).ok());
            let id = id.unwrap_or_else(|| panic!("no id, and read as a route"));
            assert!(id != 0 && routes.group(id).is_some_and(|known| **known == *group), "message {id} of {group}");
        }
    }
}

pub(crate) mod seeds {
    use ms_gate::Frame;

    pub(crate) fn gate_frames() -> Vec<Vec<u8>> {
        let frames = [(1, 0), (2, 12), (0, 64), (99_999, 3)].map(|(id, length)| Frame::encode(id, &vec![7; length]));
        let stream = frames.concat();
        let too_long = [&stream[..], &[0, 0, 0, 2, 0xff, 0xff, 0xff, 0xff]].concat();
        vec![
            [&[0, 0, 254][..], &stream].concat(),
            [&[1, 2, 0, 6, 2], &stream[..]].concat(),
            [&[2, 0, 30], &too_long[..]].concat(),
            [&[0, 0, 9], &stream[..stream.len() - 1]].concat(),
        ]
    }

    pub(crate) fn gate_routes() -> Vec<Vec<u8>> {
        let texts = [
            r#"{"gate": [{"MsgID":1,"Name":"login"}], "im": [{"MsgID": 2, "Name": "send"}, {"MsgID": 3}]}"#,
            "// routes\n{\"im\": [ // of \"chat\"\n{\"MsgID\": 4294967295, \"Name\": \"//\"}]}\n",
            r#"{"im": [{"MsgID": 2}], "mail": [{"MsgID": 2}]}"#,
            r#"{"im": []}"#,
        ];
        texts.map(|text| text.as_bytes().to_vec()).to_vec()
    }
}
