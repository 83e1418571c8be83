//! Exit codes.

use std::{error::Error, fmt, io, process::ExitCode};

use ms_mq::QueueError;
use ms_register::RegisterError;
use ms_rpc::Code;

/// Reason for which a command ends without success; each has an exit code of its own.
#[derive(Debug)]
pub(crate) enum Failure {
    /// 1: anything else, such as a file that cannot be read.
    Other(String),
    /// 2: arguments that make no sense; clap ends with this code too.
    Usage(String),
    /// 3: no message.
    Empty(String),
    /// 4: a node refused.
    Refused(String),
    /// 5: no node, or no registry, could be reached in time.
    Unreachable(String),
    /// 0: nobody reads the output any more, as with `| head`.
    Closed,
}

impl Failure {
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Closed => 0,
            Self::Other(_) => 1,
            Self::Usage(_) => 2,
            Self::Empty(_) => 3,
            Self::Refused(_) => 4,
            Self::Unreachable(_) => 5,
        })
    }

    /// The same failure with what it is about in front.
    pub(crate) fn about(self, what: impl fmt::Display) -> Self {
        let text = format!("{what}: {self}");
        self.with_text(text)
    }

    /// The same failure in other words.
    pub(crate) fn with_text(self, text: String) -> Self {
        match self {
            Self::Other(_) => Self::Other(text),
            Self::Usage(_) => Self::Usage(text),
            Self::Empty(_) => Self::Empty(text),
            Self::Refused(_) => Self::Refused(text),
            Self::Unreachable(_) => Self::Unreachable(text),
            Self::Closed => Self::Closed,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(text)
            | Self::Usage(text)
            | Self::Empty(text)
            | Self::Refused(text)
            | Self::Unreachable(text) => f.write_str(text),
            Self::Closed => f.write_str("the output is closed"),
        }
    }
}

impl Error for Failure {}

impl From<QueueError> for Failure {
    fn from(error: QueueError) -> Self {
        let is_refusal = |code| !matches!(code, Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled);
        match &error {
            QueueError::Status(status) if !is_refusal(status.code()) => Self::Unreachable(error.to_string()),
            _ => Self::Refused(error.to_string()),
        }
    }
}

impl From<RegisterError> for Failure {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::NotCompiled { scheme } => Self::Usage(format!(
                "this `ms` has no back end for {scheme}:// (`ms --version` lists those it has): take a build that has it, \
                 such as that of `cargo install --path cli --features {scheme}`"
            )),
            RegisterError::InvalidUrl { .. } | RegisterError::UnknownScheme { .. } => Self::Usage(error.to_string()),
            error @ RegisterError::Unsupported { .. } => Self::Refused(error.to_string()),
            error => Self::Unreachable(error.to_string()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Other(error.to_string()),
        }
    }
}

/// Failures of servers, which have no codes of their own.
impl From<Box<dyn Error>> for Failure {
    fn from(error: Box<dyn Error>) -> Self {
        Self::Other(error.to_string())
    }
}
