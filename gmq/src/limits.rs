//! Bounds of what a client may send, or leave unread.

use std::time::Duration;

/// Bytes of a line, without its end.
pub(crate) const LINE: usize = 64 << 10;
/// Parameters of a line; the message of a `publish` in one line counts as one.
pub(crate) const PARAMETERS: usize = 16;
/// Bytes of a body.
pub(crate) const BODY: usize = 1 << 20;
/// Bytes of the JSON of one message of a batch, whose body may be longer there than it is.
pub(crate) const JSON: usize = 2 << 20;
/// Bytes of all bodies of a batch.
pub(crate) const BATCH: usize = 3 << 20;
/// Messages of a batch.
pub(crate) const MESSAGES: u32 = 1000;
/// Bytes of a refused body that are read and dropped; a connection that announces more is closed.
pub(crate) const DROPPED: u64 = 64 << 20;
/// The longest delay, in seconds: that of gmq, three days.
pub(crate) const DELAY: u64 = 259_200;
/// Commands of a connection that are executed at a time.
pub(crate) const PIPELINED: usize = 64;
/// Bytes that are read ahead while a connection's commands are executed.
pub(crate) const AHEAD: usize = 64 << 10;
/// Channels of one subscriber.
pub(crate) const CHANNELS: usize = 1024;
/// Messages of channels that wait for one subscriber.
pub(crate) const UNREAD_MESSAGES: usize = 1024;
/// Their bytes.
pub(crate) const UNREAD_BYTES: usize = 4 << 20;

/// Time between two heartbeats of a pop that waits.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(5);
/// Time for the rest of a command that has begun, and for the first bytes of a connection.
pub(crate) const COMMAND_WITHIN: Duration = Duration::from_secs(30);
/// Time for a client to take what was written.
pub(crate) const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// Wait of a pop of the binary protocol.
pub(crate) const POP_WAIT: Duration = Duration::from_secs(3);
