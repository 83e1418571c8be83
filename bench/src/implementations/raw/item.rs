//! The item: `i64 id | str8 name | f64 price | u8 count | str8 tag*`, as long as bincode writes it.

use crate::peer::{
    Failure,
    item::{NAME, PRICE, TAGS},
};

/// Bytes of an encoded item.
pub(super) const LENGTH: usize = 8 + 17 + 8 + 1 + 13;

/// An item with everything but its id, which stands in the first 8 bytes.
pub(super) const TEMPLATE: [u8; LENGTH] = {
    let mut bytes = [0; LENGTH];
    let mut at = put(&mut bytes, 8, NAME.as_bytes());
    let price = PRICE.to_le_bytes();
    let mut next = 0;
    while next < price.len() {
        bytes[at] = price[next];
        (at, next) = (at + 1, next + 1);
    }
    bytes[at] = TAGS.len() as u8;
    at += 1;
    let mut tag = 0;
    while tag < TAGS.len() {
        at = put(&mut bytes, at, TAGS[tag].as_bytes());
        tag += 1;
    }
    assert!(at == LENGTH);
    bytes
};

/// The item that user code would hold: five allocations.
#[derive(Debug, PartialEq)]
pub(super) struct Item {
    pub(super) id: i64,
    name: String,
    price: f64,
    tags: Vec<String>,
}

impl Item {
    /// What the service finds.
    pub(super) fn found(id: i64) -> Self {
        Self { id, name: NAME.to_owned(), price: PRICE, tags: TAGS.map(str::to_owned).into() }
    }

    /// Fills `bytes`, or fails if it does not fit exactly.
    pub(super) fn encode(&self, bytes: &mut [u8]) -> Result<(), Failure> {
        let mut out = bytes;
        write(&mut out, &self.id.to_le_bytes())?;
        write_text(&mut out, &self.name)?;
        write(&mut out, &self.price.to_le_bytes())?;
        write(&mut out, &[u8::try_from(self.tags.len())?])?;
        self.tags.iter().try_for_each(|tag| write_text(&mut out, tag))?;
        if out.is_empty() { Ok(()) } else { Err("an item shorter than its frame".into()) }
    }

    /// Reads all of an item.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Failure> {
        let mut rest = bytes;
        let id = i64::from_le_bytes(*read(&mut rest)?);
        let name = read_text(&mut rest)?;
        let price = f64::from_le_bytes(*read(&mut rest)?);
        let [count] = *read(&mut rest)?;
        let mut tags = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            tags.push(read_text(&mut rest)?);
        }
        if rest.is_empty() { Ok(Self { id, name, price, tags }) } else { Err("bytes behind an item".into()) }
    }
}

fn write(out: &mut &mut [u8], bytes: &[u8]) -> Result<(), Failure> {
    let place = out.split_off_mut(..bytes.len()).ok_or("an item longer than its frame")?;
    place.copy_from_slice(bytes);
    Ok(())
}

fn write_text(out: &mut &mut [u8], text: &str) -> Result<(), Failure> {
    write(out, &[u8::try_from(text.len())?])?;
    write(out, text.as_bytes())
}

fn read<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<&'a [u8; N], Failure> {
    rest.split_off(..N).and_then(<[u8]>::first_chunk).ok_or_else(|| "an item that ends early".into())
}

fn read_text(rest: &mut &[u8]) -> Result<String, Failure> {
    let [length] = *read(rest)?;
    let bytes = rest.split_off(..usize::from(length)).ok_or("a text that ends early")?;
    Ok(std::str::from_utf8(bytes)?.to_owned())
}

const fn put(bytes: &mut [u8], at: usize, text: &[u8]) -> usize {
    bytes[at] = text.len() as u8;
    let mut next = 0;
    while next < text.len() {
        bytes[at + 1 + next] = text[next];
        next += 1;
    }
    at + 1 + text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_built_item_is_the_template_with_an_id() {
        let mut bytes = [0; LENGTH];
        Item::found(7).encode(&mut bytes).unwrap();
        assert_eq!(Item::decode(&bytes).unwrap(), Item::found(7));
        let mut template = TEMPLATE;
        template[..8].copy_from_slice(&7_i64.to_le_bytes());
        assert_eq!(bytes, template);
        assert!(Item::decode(&bytes[..LENGTH - 1]).is_err());
    }
}
