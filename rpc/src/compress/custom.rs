//! Compressions of the user's own.

use crate::custom::CustomError;

/// Compression of the user's own, to be made a [`Compression`](crate::Compression) with
/// [`Compression::custom`](crate::Compression::custom). Both sides must have it: a server by
/// [`Server::compression`](crate::Server::compression).
///
/// A panic, or more bytes than the limit, is an error of the one call, which names the compression.
///
/// ```
/// use ms_rpc::{Compression, CustomCompression, CustomError};
///
/// /// Leaves out the spaces at the end.
/// struct Trimmed;
///
/// impl CustomCompression for Trimmed {
///     fn number(&self) -> u8 {
///         201
///     }
///     fn name(&self) -> &str {
///         "trimmed"
///     }
///     fn compress(&self, body: &[u8]) -> Option<Vec<u8>> {
///         let kept = body.trim_ascii_end();
///         Some([&u32::try_from(body.len()).ok()?.to_be_bytes()[..], kept].concat())
///     }
///     fn expand(&self, compressed: &[u8], limit: usize) -> Result<Vec<u8>, CustomError> {
///         let (length, kept) = compressed.split_first_chunk().ok_or("it is cut short")?;
///         let length = u32::from_be_bytes(*length) as usize;
///         if !(kept.len()..=limit).contains(&length) {
///             return Err(format!("a length of {length} cannot be").into());
///         }
///         let mut body = kept.to_vec();
///         body.resize(length, b' ');
///         Ok(body)
///     }
/// }
///
/// assert_eq!(Compression::custom(Trimmed)?.to_string(), "trimmed");
/// # Ok::<(), ms_rpc::NumberError>(())
/// ```
pub trait CustomCompression: Send + Sync + 'static {
    /// Number on the wire: 128 to 254. Asked for once.
    fn number(&self) -> u8;

    /// Name for messages. Asked for once.
    fn name(&self) -> &str;

    /// The compressed form of a body; `None` if it is better sent as it is, as every form that is not smaller is.
    fn compress(&self, body: &[u8]) -> Option<Vec<u8>>;

    /// The body, of at most `limit` bytes. Bytes from a peer claim what they like: memory should grow with the output.
    ///
    /// # Errors
    /// The input is no compressed form, bytes follow its end, or the body has more than `limit` bytes.
    fn expand(&self, compressed: &[u8], limit: usize) -> Result<Vec<u8>, CustomError>;
}
