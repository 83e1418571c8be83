//! Keeps one instance listed in all members of a union.

use std::{future::pending, sync::Arc};

use async_trait::async_trait;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::{TIMEOUT, all, first};
use crate::{About, Instance, LeaseKeeper, MsRegister, RegisterError, Registration, RegistrationState, ServiceName};

/// One registration in a union: one in each member, which keeps itself.
pub(super) struct UnionKeeper {
    about: About,
    service: ServiceName,
    instance: Instance,
    members: Vec<Member>,
}

struct Member {
    registry: Arc<dyn MsRegister>,
    registration: Option<Arc<Registration>>,
    /// State of the last registration, which may have been dropped.
    state: Option<watch::Receiver<RegistrationState>>,
}

impl UnionKeeper {
    pub(super) fn new(about: About, members: &[Arc<dyn MsRegister>], service: ServiceName, instance: Instance) -> Self {
        let member =
            |registry: &Arc<dyn MsRegister>| Member { registry: registry.clone(), registration: None, state: None };
        Self { about, service, instance, members: members.iter().map(member).collect() }
    }

    /// Waits until `enough` is true of the states of the members.
    async fn until(&self, enough: impl Fn(&[RegistrationState]) -> bool) {
        let mut states: Vec<_> = self.members.iter().filter_map(|member| member.state.clone()).collect();
        loop {
            let now: Vec<_> = states.iter_mut().map(|state| *state.borrow_and_update()).collect();
            if enough(&now) {
                return;
            }
            // An error: its owner has ended, and says nothing any more.
            first(states.iter_mut().map(|state| async move {
                if state.changed().await.is_err() {
                    pending().await
                }
            }))
            .await;
        }
    }

    async fn within<T>(&self, operation: &'static str, waited: impl Future<Output = T>) -> Result<T, RegisterError> {
        timeout_at(Instant::now() + TIMEOUT, waited).await.map_err(|_| self.about.late(operation, TIMEOUT))
    }
}

#[async_trait]
impl LeaseKeeper for UnionKeeper {
    /// Members that are away are written to when they are back; one that lists it is enough.
    async fn acquire(&mut self) -> Result<(), RegisterError> {
        let writes: Vec<_> = self
            .members
            .iter()
            .map(|member| {
                let (registry, registration) = (member.registry.clone(), member.registration.clone());
                let (service, instance) = (self.service.clone(), self.instance.clone());
                async move {
                    let Some(registration) = registration else {
                        return Ok(Some(registry.register(&service, instance).await?));
                    };
                    if registration.instance() != instance {
                        registration.update(instance, TIMEOUT).await?;
                    }
                    Ok(None)
                }
            })
            .collect();
        let mut refused = Ok(());
        let written = all(writes.into_iter()).await;
        for (member, written) in self.members.iter_mut().zip(written) {
            match written {
                Ok(Some(registration)) => {
                    member.state = Some(registration.state());
                    member.registration = Some(Arc::new(registration));
                }
                Ok(None) => {}
                Err(error) if error.is_transient() => {}
                Err(error) => refused = refused.and(Err(error)),
            }
        }
        refused?;
        self.within("write the instance", self.until(|states| states.contains(&RegistrationState::Listed))).await
    }

    fn update(&mut self, instance: &Instance) -> Result<(), RegisterError> {
        self.instance = instance.clone();
        Ok(())
    }

    async fn held(&mut self) -> String {
        self.until(|states| !states.contains(&RegistrationState::Listed)).await;
        "no registry lists it".to_owned()
    }

    async fn release(&mut self) -> Result<(), RegisterError> {
        for member in &mut self.members {
            // Dropped, it is deregistered by its owner.
            member.registration = None;
        }
        let is_over = |state: &RegistrationState| *state == RegistrationState::Deregistered;
        self.within("remove the instance", self.until(|states| states.iter().all(is_over))).await
    }

    async fn undo(&mut self) -> Result<(), RegisterError> {
        self.release().await
    }
}
