//! Backups of a running node.

use tokio::sync::oneshot;

use super::{Node, inner::Need};
use crate::{MqError, store::File};

/// Backup that the thread of the log is to make.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) name: String,
    made: oneshot::Sender<Result<u64, MqError>>,
}

impl Wish {
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

impl<F: File> Node<F> {
    /// See [`Change::Backup`](crate::Change::Backup).
    pub(super) async fn back_up(&self, name: String) -> Result<u64, MqError> {
        check_name(&name)?;
        let (made, answer) = oneshot::channel();
        {
            // The segment that is written ends, and another one begins.
            let mut inner = self.shared.space(Need::Lease).await?;
            inner.backups.push(Wish { name, made });
            self.shared.unlock_and_wake(inner);
        }
        answer.await.unwrap_or(Err(MqError::Closed))
    }
}
