//! Backups of a running node.

use tokio::sync::oneshot;

use crate::MqError;

/// Backup that the thread of the log is to make.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) name: String,
    made: oneshot::Sender<Result<u64, MqError>>,
}

impl Wish {
    /// The wish, and where its answer comes.
    ///
    /// # Errors
    /// The name is none of a directory that a backup may have.
    pub(super) fn new(name: String) -> Result<(Self, oneshot::Receiver<Result<u64, MqError>>), MqError> {
        check_name(&name)?;
        let (made, answer) = oneshot::channel();
        Ok((Self { name, made }, answer))
    }

    /// Ends the waiting; the caller may have gone.
    pub(super) fn answer(self, made: Result<u64, MqError>) {
        let _ = self.made.send(made);
    }
}

const LONGEST_NAME: usize = 100;

/// The name of a directory: nothing that means something in a path.
fn check_name(name: &str) -> Result<(), MqError> {
    let valid = |char: char| char.is_ascii_alphanumeric() || ".-_".contains(char);
    if name.len() <= LONGEST_NAME
        && name.chars().all(valid)
        && name.starts_with(|char: char| char.is_ascii_alphanumeric())
    {
        return Ok(());
    }
    let text = format!(
        "the name of a backup has up to {LONGEST_NAME} letters, digits, `.`, `-` and `_`, and begins with a letter or digit; \
         {name:?} has not"
    );
    Err(MqError::Invalid(text))
}
