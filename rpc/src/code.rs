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
    /// Every code, at the place of its number.
    pub const ALL: [Self; 17] = [
        Self::Ok,
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// The code with this number; numbers from later versions become `Unknown`.
    pub fn from_number(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Unknown)
    }

    /// The canonical name, such as `not_found`: what `Display` writes and `FromStr` reads.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
            Self::InvalidArgument => "invalid_argument",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::PermissionDenied => "permission_denied",
            Self::ResourceExhausted => "resource_exhausted",
            Self::FailedPrecondition => "failed_precondition",
            Self::Aborted => "aborted",
            Self::OutOfRange => "out_of_range",
            Self::Unimplemented => "unimplemented",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
            Self::DataLoss => "data_loss",
            Self::Unauthenticated => "unauthenticated",
        }
    }

    /// The HTTP status for this code: the mapping of `google.rpc.Code`, which Connect's unary protocol uses too.
    pub fn http_status(self) -> u16 {
        match self {
            Self::Ok => 200,
            Self::InvalidArgument | Self::FailedPrecondition | Self::OutOfRange => 400,
            Self::Unauthenticated => 401,
            Self::PermissionDenied => 403,
            Self::NotFound => 404,
            Self::AlreadyExists | Self::Aborted => 409,
            Self::ResourceExhausted => 429,
            Self::Cancelled => 499,
            Self::Unknown | Self::Internal | Self::DataLoss => 500,
            Self::Unimplemented => 501,
            Self::Unavailable => 503,
            Self::DeadlineExceeded => 504,
        }
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
        Self::ALL.into_iter().find(|code| code.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("code {name:?} is unknown: use one of {names}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_lead_back_to_their_code() {
        for (number, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!((code as usize, Code::from_number(number as u8)), (number, code));
            assert_eq!(code.to_string().parse(), Ok(code));
        }
        assert_eq!((Code::from_number(17), Code::from_number(255)), (Code::Unknown, Code::Unknown));
        let unknown = "NotFound".parse::<Code>().unwrap_err();
        assert!(unknown.contains("\"NotFound\"") && unknown.contains("not_found"), "{unknown}");
        let statuses = Code::ALL.map(Code::http_status);
        assert_eq!(statuses, [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401]);
    }
}
