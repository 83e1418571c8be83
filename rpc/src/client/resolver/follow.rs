//! Task that follows a service's list in the registry.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use ms_register::{Freshness, SnapshotWatch};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};

use super::Resolver;

/// While a list is out of date, its age is measured so often.
const AGE: Duration = Duration::from_secs(5);

pub(super) async fn follow(mut watch: SnapshotWatch, refresh_soon: Arc<Notify>, resolver: Weak<Resolver>) {
    let mut snapshot = Some(watch.current());
    let mut closed = false;
    let mut is_lost = false;
    loop {
        let Some(strong) = resolver.upgrade() else { return };
        let pause = match snapshot.take() {
            Some(snapshot) => {
                strong.log_registry(&snapshot, std::mem::replace(&mut is_lost, snapshot.is_failing()));
                strong.snapshot_changed(snapshot);
                Duration::ZERO
            }
            None => strong.refresh(),
        };
        let is_live = strong.instances.load().snapshot.freshness() == Freshness::Live;
        let in_a_while = (!is_live).then(|| Instant::now() + AGE);
        let next = strong.next_change().into_iter().chain(in_a_while).min();
        drop(strong);
        if !pause.is_zero() {
            sleep(pause).await;
        }
        let next_change = async {
            match next {
                Some(time) => sleep_until(time).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            changed = watch.changed(), if !closed => match changed {
                Ok(changed) => snapshot = Some(changed),
                // The last list stays.
                Err(_) => closed = true,
            },
            () = refresh_soon.notified() => {}
            () = next_change => {}
        }
    }
}
