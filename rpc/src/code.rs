//! What kind of failure a call met.

use serde::{Deserialize, Serialize};

/// What kind of failure it was. Numbers and meanings are gRPC's canonical codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Code {
    /// The call succeeded.
    Ok = 0,
    /// The caller gave up.
    Cancelled = 1,
    /// The service's own error, without a code of its own.
    Unknown = 2,
    /// The arguments, or the frame that carried them, are wrong: sending them again is pointless.
    InvalidArgument = 3,
    /// The deadline passed; the call may have been executed.
    DeadlineExceeded = 4,
    /// What was asked for is not there.
    NotFound = 5,
    /// What was to be made is there already.
    AlreadyExists = 6,
    /// The caller is known, and may not do this.
    PermissionDenied = 7,
    /// A rate limit or a size limit.
    ResourceExhausted = 8,
    /// The system is not in a state for this operation.
    FailedPrecondition = 9,
    /// A conflict with another operation.
    Aborted = 10,
    /// A value beyond the valid range.
    OutOfRange = 11,
    /// The server does not have this service or method.
    Unimplemented = 12,
    /// The server broke: a handler panicked, a result could not be encoded.
    Internal = 13,
    /// Nobody could be reached, or the server sheds load; later it may work.
    Unavailable = 14,
    /// Data is lost or corrupt.
    DataLoss = 15,
    /// The caller is not known.
    Unauthenticated = 16,
}

impl Code {
    /// The code with this number; numbers from later versions become `Unknown`.
    pub fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Ok,
            1 => Self::Cancelled,
            3 => Self::InvalidArgument,
            4 => Self::DeadlineExceeded,
            5 => Self::NotFound,
            6 => Self::AlreadyExists,
            7 => Self::PermissionDenied,
            8 => Self::ResourceExhausted,
            9 => Self::FailedPrecondition,
            10 => Self::Aborted,
            11 => Self::OutOfRange,
            12 => Self::Unimplemented,
            13 => Self::Internal,
            14 => Self::Unavailable,
            15 => Self::DataLoss,
            16 => Self::Unauthenticated,
            _ => Self::Unknown,
        }
    }
}
