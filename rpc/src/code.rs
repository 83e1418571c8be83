//! Canonical codes of calls.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Kind of failure of a call. Numbers, names and meanings are gRPC's canonical codes.
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
    /// The thing asked for does not exist.
    NotFound = 5,
    /// The thing to create exists already.
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
    /// No instance could be reached, or the server sheds load; a later try may succeed.
    Unavailable = 14,
    /// Data is lost or corrupt.
    DataLoss = 15,
    /// The caller is not known.
    Unauthenticated = 16,
}

/// Every code at the place of its number, with its canonical name and its HTTP status.
const TABLE: [(Code, &str, u16); 17] = [
    (Code::Ok, "ok", 200),
    (Code::Cancelled, "cancelled", 499),
    (Code::Unknown, "unknown", 500),
    (Code::InvalidArgument, "invalid_argument", 400),
    (Code::DeadlineExceeded, "deadline_exceeded", 504),
    (Code::NotFound, "not_found", 404),
    (Code::AlreadyExists, "already_exists", 409),
    (Code::PermissionDenied, "permission_denied", 403),
    (Code::ResourceExhausted, "resource_exhausted", 429),
    (Code::FailedPrecondition, "failed_precondition", 400),
    (Code::Aborted, "aborted", 409),
    (Code::OutOfRange, "out_of_range", 400),
    (Code::Unimplemented, "unimplemented", 501),
    (Code::Internal, "internal", 500),
    (Code::Unavailable, "unavailable", 503),
    (Code::DataLoss, "data_loss", 500),
    (Code::Unauthenticated, "unauthenticated", 401),
];

impl Code {
    /// The code with this number; numbers from later versions become `Unknown`.
    pub fn from_number(number: u8) -> Self {
        TABLE.get(usize::from(number)).map_or(Self::Unknown, |(code, ..)| *code)
    }

    /// The canonical name, such as `not_found`: `Display` writes and `FromStr` reads it.
    pub fn name(self) -> &'static str {
        TABLE[self as usize].1
    }

    /// The HTTP status for this code: the mapping of `google.rpc.Code`, which Connect's unary protocol uses too.
    pub fn http_status(self) -> u16 {
        TABLE[self as usize].2
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Code {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        TABLE.iter().find(|(_, known, _)| *known == name).map(|(code, ..)| *code).ok_or_else(|| {
            let names = TABLE.map(|(_, name, _)| name).join(", ");
            format!("code {name:?} is unknown: use one of {names}")
        })
    }
}
