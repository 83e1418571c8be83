//! Compressions of the user's own.

use crate::custom::CustomError;

/// Compression of the user's own, to be made a [`Compression`](crate::Compression) with
/// [`Compression::custom`](crate::Compression::custom). Both sides must have it: a server by
/// [`Server::compression`](crate::Server::compression).
///
/// A panic, or more bytes than the limit, is an error of the one call, which names the compression.
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
    /// It is no compressed form, bytes follow its end, or the body has more than `limit` bytes.
    fn expand(&self, compressed: &[u8], limit: usize) -> Result<Vec<u8>, CustomError>;
}
