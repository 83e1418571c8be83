//! Compensation for answers that do not go out.

use std::fmt;

/// Runs a closure when it is dropped, unless the answer that it belongs to has gone out. It belongs to one call: a clone is
/// empty.
#[derive(Default)]
pub(crate) struct Unanswered(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Unanswered {
    pub(crate) fn new(undo: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(undo)))
    }

    /// The answer has gone out: nothing is to be undone.
    pub(crate) fn answered(mut self) {
        self.0 = None;
    }

    pub(crate) fn is_some(&self) -> bool {
        self.0.is_some()
    }
}

impl Clone for Unanswered {
    fn clone(&self) -> Self {
        Self(None)
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(undo) = self.0.take() {
            undo();
        }
    }
}

impl fmt::Debug for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Unanswered").field(&self.is_some()).finish()
    }
}
