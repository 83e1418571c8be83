//! Making backups.

use std::io;

use tracing::info;

use super::{Writer, begin_segment};
use crate::{MqError, store::Store};

impl<S: Store> Writer<S> {
    /// Makes the backups that are wished for: everything that was answered by now is in them. The segment that is written ends
    /// first, so that all of a backup's files are finished. A backup that cannot be made does not end the node.
    pub(super) fn back_up(&mut self) -> io::Result<()> {
        let wishes = std::mem::take(&mut self.shared.lock().backups);
        for wish in wishes {
            let made = match self.log.has_backup(&wish.name) {
                Ok(true) => Err(format!("there is one named {}", wish.name)),
                Err(error) => Err(error.to_string()),
                Ok(false) => {
                    begin_segment(&self.shared, &mut self.log, self.shared.clock.now())?;
                    self.log.back_up(&wish.name).map_err(|error| error.to_string())
                }
            };
            match &made {
                Ok(segments) => info!("backup {} has {segments} segments", wish.name),
                Err(reason) => info!("no backup {}: {reason}", wish.name),
            }
            wish.answer(made.map_err(MqError::NoBackup));
        }
        Ok(())
    }
}
