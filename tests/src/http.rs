use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// An answer over HTTP.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code, such as 200.
    pub status: u16,
    /// The body, as it was sent.
    pub body: String,
}

/// One request without a body, over a connection of its own. `address` is `host:port`; `target` is path and query,
/// encoded by the caller.
///
/// # Errors
/// No connection, and an answer that is not HTTP.
pub async fn request(method: &str, address: &str, target: &str) -> io::Result<Response> {
    request_with(method, address, target, "").await
}

/// The same with a body.
///
/// # Errors
/// As for [`request`].
pub async fn request_with(method: &str, address: &str, target: &str, body: &str) -> io::Result<Response> {
    let length = body.len();
    let words = format!("{method} {target} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n{body}");
    let answer = converse(address, words.as_bytes()).await?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("{address} does not speak HTTP: {head:?}")))?;
    Ok(Response { status, body: body.to_owned() })
}

/// Sends this over a connection of its own, and returns what comes back until its end.
pub(crate) async fn converse(address: &str, words: &[u8]) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(words).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
