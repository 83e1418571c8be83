//! Keeps one instance in Nacos.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use nacos_sdk::api::naming::ServiceInstance;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::{
    link::{Link, Place, Write},
    stored,
};
use crate::{Instance, LeaseKeeper, RegisterError, ServiceName};

/// One registration.
pub(super) struct NacosKeeper {
    link: Arc<Link>,
    service: ServiceName,
    instance: ServiceInstance,
    /// Connection on which it was written, from the first attempt to the confirmed end.
    place: Option<Place>,
    /// A write that has not ended within its time. Nothing else is written before it has: it could overtake.
    under_way: Option<(Step, Write)>,
    /// True if weight or metadata are others than those of the first registration.
    is_revised: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Register,
    /// The registration of a weight and metadata that are no longer wanted.
    Superseded,
    Deregister,
}

/// Nacos's word about the instance.
enum Presence {
    Listed,
    Disabled,
    Missing,
}

impl NacosKeeper {
    /// Period of checks that the instance is there.
    const CHECK: Duration = Duration::from_secs(5);
    /// Reads until a revision must have shown, and the pause between two.
    const READS: u32 = 5;
    const AGAIN: Duration = Duration::from_millis(100);

    pub(super) fn new(link: Arc<Link>, service: ServiceName, instance: ServiceInstance) -> Self {
        Self { link, service, instance, place: None, under_way: None, is_revised: false }
    }

    /// Does the step, or goes on waiting for it where it was begun before.
    async fn write(&mut self, place: &Place, step: Step) -> Result<(), RegisterError> {
        loop {
            let (begun, mut write) = self.under_way.take().unwrap_or_else(|| (step, self.begin(place, step)));
            let Some(outcome) = self.link.finish(begun.operation(), &mut write).await else {
                self.under_way = Some((begun, write));
                return Err(self.link.late(begun.operation()));
            };
            if begun == step {
                return outcome;
            }
        }
    }

    fn begin(&self, place: &Place, step: Step) -> Write {
        match step {
            Step::Register | Step::Superseded => self.link.register(place, &self.service, &self.instance),
            Step::Deregister => self.link.deregister(place, &self.service, &self.instance),
        }
    }

    async fn is_there(&self, place: &Place) -> Result<bool, RegisterError> {
        let found = self.link.query_at(place, &self.service).await?;
        Ok(found.iter().any(|other| stored::is_same(other, &self.instance)))
    }

    /// Has Nacos take weight and metadata that differ from those of an earlier registration.
    async fn revise(&self, place: &Place) -> Result<(), RegisterError> {
        let weight = self.instance.weight;
        // Seen of rnacos: a weight of 1 is taken for none. The next number that it can hold is 1 to a reader.
        for weight in [weight, f64::from((weight as f32).next_up())] {
            self.link.revise(&self.service, &self.instance, weight).await?;
            for _ in 0..Self::READS {
                let found = self.link.query_at(place, &self.service).await?;
                let listed = found.iter().find(|other| stored::is_same(other, &self.instance));
                // Lists leave out what is disabled.
                if listed.is_none_or(|listed| stored::is_equal(listed, &self.instance)) {
                    return Ok(());
                }
                sleep(Self::AGAIN).await;
            }
        }
        Err(self.link.about().rejected(format!(
            "it keeps an earlier weight or metadata of {}: change them in its console",
            stored::name(&self.instance)
        )))
    }

    async fn presence(&self, place: &Place) -> Result<Presence, RegisterError> {
        if self.is_there(place).await? {
            return Ok(Presence::Listed);
        }
        // Lists leave out what is disabled. Where HTTP cannot say so, to be listed is what was promised.
        let is_disabled = self.link.is_disabled(&self.service, &self.instance).await.unwrap_or_else(|error| {
            debug!("{} may be disabled: {error}", stored::name(&self.instance));
            false
        });
        Ok(if is_disabled { Presence::Disabled } else { Presence::Missing })
    }

    /// Ok once Nacos does not show the instance any more.
    async fn remove(&mut self) -> Result<(), RegisterError> {
        let Some(place) = self.place.take() else { return Ok(()) };
        let removed = self.remove_from(&place).await;
        match removed {
            Ok(()) => self.link.give_back(&place, &self.service),
            Err(_) => self.place = Some(place),
        }
        removed
    }

    async fn remove_from(&mut self, place: &Place) -> Result<(), RegisterError> {
        self.write(place, Step::Deregister).await?;
        if self.is_there(place).await? {
            return Err(self.link.about().unreachable("it still lists the instance"));
        }
        Ok(())
    }
}

#[async_trait]
impl LeaseKeeper for NacosKeeper {
    async fn acquire(&mut self) -> Result<(), RegisterError> {
        let place = match self.place.take() {
            Some(place) => place,
            None => self.link.place(&self.service).await?,
        };
        let mut written = self.write(&place, Step::Register).await;
        if written.is_ok() && self.is_revised {
            written = self.revise(&place).await;
        }
        self.place = Some(place);
        written
    }

    fn update(&mut self, instance: &Instance) -> Result<(), RegisterError> {
        let cluster = self.instance.cluster_name.take().unwrap_or_default();
        self.instance = stored::encode(instance, &cluster);
        if let Some((step @ Step::Register, _)) = &mut self.under_way {
            *step = Step::Superseded;
        }
        self.is_revised = true;
        Ok(())
    }

    async fn held(&mut self) -> String {
        let Some(place) = &self.place else { return "it has no place".to_owned() };
        let (mut missed, mut is_disabled) = (0, false);
        loop {
            sleep(Self::CHECK).await;
            let name = stored::name(&self.instance);
            match self.presence(place).await {
                Ok(Presence::Listed) => {
                    if is_disabled {
                        info!("{name} of `{}` is enabled again", self.service);
                    }
                    (missed, is_disabled) = (0, false);
                }
                // The operator's word: it is neither lost nor written again.
                Ok(Presence::Disabled) => {
                    if !is_disabled {
                        warn!(
                            "{name} of `{}` was disabled in Nacos: it stays out until it is enabled there",
                            self.service
                        );
                    }
                    (missed, is_disabled) = (0, true);
                }
                // After a restart of Nacos the client crate writes the instance again within 3 s of connecting.
                Ok(Presence::Missing) => missed += 1,
                Err(error) => debug!("{name} could not be checked: {error}"),
            }
            if missed == 2 {
                return "Nacos does not list it".to_owned();
            }
        }
    }

    async fn release(&mut self) -> Result<(), RegisterError> {
        self.remove().await
    }

    /// A write that came too late for its caller arrives all the same, and nothing in Nacos would end it.
    async fn undo(&mut self) -> Result<(), RegisterError> {
        self.remove().await
    }
}

impl Step {
    fn operation(self) -> &'static str {
        match self {
            Self::Register | Self::Superseded => "write the instance",
            Self::Deregister => "remove the instance",
        }
    }
}
