//! Built-in compressions. A compressed body is one stream, and nothing follows it; only gzip may have several members.

use std::io::{self, Read, Write};

use flate2::{bufread, read, write};
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

/// Levels of gzip and zlib.
const DEFLATE: std::ops::RangeInclusive<i32> = 1..=9;

fn deflate(level: Option<i32>) -> flate2::Compression {
    level.map_or(flate2::Compression::fast(), |level| {
        flate2::Compression::new(level.clamp(*DEFLATE.start(), *DEFLATE.end()).unsigned_abs())
    })
}

fn room(body: &[u8]) -> Vec<u8> {
    Vec::with_capacity(body.len() / 2)
}

pub(super) fn gzip(body: &[u8], level: Option<i32>) -> io::Result<Vec<u8>> {
    let mut encoder = write::GzEncoder::new(room(body), deflate(level));
    encoder.write_all(body)?;
    encoder.finish()
}

pub(super) fn zlib(body: &[u8], level: Option<i32>) -> io::Result<Vec<u8>> {
    let mut encoder = write::ZlibEncoder::new(room(body), deflate(level));
    encoder.write_all(body)?;
    encoder.finish()
}

#[cfg(feature = "zstd")]
pub(super) fn zstd(body: &[u8], level: Option<i32>) -> io::Result<Vec<u8>> {
    let levels = zstd::compression_level_range();
    let level = level.map_or(zstd::DEFAULT_COMPRESSION_LEVEL, |level| level.clamp(*levels.start(), *levels.end()));
    let mut encoder = zstd::bulk::Compressor::new(level)?;
    encoder.include_checksum(true)?;
    encoder.compress(body)
}

/// Blocks of 64 KiB, linked, with a checksum: a receiver then needs 192 KiB beside the body.
pub(super) fn lz4(body: &[u8]) -> io::Result<Vec<u8>> {
    let form = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Linked).content_checksum(true);
    let mut encoder = FrameEncoder::with_frame_info(form, room(body));
    encoder.write_all(body)?;
    Ok(encoder.finish()?)
}

/// Expands gzip: appends at most `most` bytes.
pub(super) fn from_gzip(compressed: &[u8], most: u64, out: &mut Vec<u8>) -> io::Result<()> {
    read::MultiGzDecoder::new(compressed).take(most).read_to_end(out).map(|_| ())
}

/// Expands zlib: appends at most `most` bytes. The decoder looks no further than the end of the stream.
pub(super) fn from_zlib(mut compressed: &[u8], most: u64, out: &mut Vec<u8>) -> io::Result<()> {
    let read = bufread::ZlibDecoder::new(&mut compressed).take(most).read_to_end(out)?;
    is_alone(compressed, read, most)
}

/// Expands zstd: appends at most `most` bytes. The window, which is memory that the frame asks for, may have the limit's
/// size, and 8 MiB in any case: encoders that do not know the size of their input may use that much (RFC 8878, section
/// 3.1.1.1.2).
#[cfg(feature = "zstd")]
pub(super) fn from_zstd(mut compressed: &[u8], most: u64, out: &mut Vec<u8>) -> io::Result<()> {
    if compressed.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut decoder = zstd::stream::read::Decoder::with_buffer(&mut compressed)?.single_frame();
    decoder.window_log_max(most.saturating_sub(1).next_power_of_two().ilog2().clamp(23, 27))?;
    let read = decoder.take(most).read_to_end(out)?;
    is_alone(compressed, read, most)
}

/// Expands LZ4: appends at most `most` bytes. The decoder reserves memory for whole blocks, as large as the frame says: blocks
/// of more than 64 KiB and more than the limit are refused, and so are old frames, whose blocks have 8 MiB.
pub(super) fn from_lz4(compressed: &[u8], most: u64, out: &mut Vec<u8>) -> io::Result<()> {
    let block = match compressed {
        [0x04, 0x22, 0x4d, 0x18, _, sizes, ..] => 1u64 << (8 + 2 * (sizes >> 4 & 7)),
        _ => return Err(io::Error::other("it does not begin as a frame does")),
    };
    if block > most.max(64 << 10) {
        return Err(io::Error::other(format!("its blocks have up to {block} bytes")));
    }
    let mut input = Input { rest: compressed, ended: false };
    let read = FrameDecoder::new(&mut input).take(most).read_to_end(out)?;
    // The decoder takes an end between two blocks for the end of the frame.
    if input.ended {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    is_alone(input.rest, read, most)
}

/// Returns an error if bytes follow a stream that was read to its end.
fn is_alone(rest: &[u8], read: usize, most: u64) -> io::Result<()> {
    if rest.is_empty() || read as u64 == most { Ok(()) } else { Err(io::Error::other("bytes follow its end")) }
}

/// Bytes to read, and a note that more were asked for than there are.
struct Input<'a> {
    rest: &'a [u8],
    ended: bool,
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.ended |= self.rest.is_empty() && !buffer.is_empty();
        self.rest.read(buffer)
    }
}
