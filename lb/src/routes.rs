//! Rules with the instances behind them: pickers that follow the registry, and watches of masters.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use ms_register::{Instance, MasterWatch, MsRegister, RegisterError};
use ms_rpc::{EjectionConfig, Outcome, Pick, Picker, Status};

use crate::{
    meter::Meter,
    rule::{Choice, KeySource, Rule},
};

/// Time for the first list of a registry, when a request comes before it.
const FIRST_LIST: Duration = Duration::from_secs(1);

/// Rules in their order, and what they lead to. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Routes(Arc<[Route]>);

/// A rule, and the instances of its service.
#[derive(Debug)]
pub(crate) struct Route {
    rule: Rule,
    members: Members,
    meter: Meter,
}

#[derive(Clone, Debug)]
enum Members {
    Balanced(Picker),
    Master(MasterWatch),
}

/// Routes that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum RoutesError {
    /// The registry has no elections, so no rule can ask for the master.
    #[error("rule {index}, for the master of `{service}`: {error}")]
    NoElections {
        /// Number of the rule, from 0 on.
        index: usize,
        /// Its service.
        service: String,
        /// Reason that the registry gives.
        error: RegisterError,
    },
    /// A picker cannot be made.
    #[error(transparent)]
    Picker(#[from] Status),
}

impl Routes {
    /// Routes of these rules, over the services of a registry, which are followed from now on. Needs a tokio runtime. Rules for one
    /// service with one balancer share what is known of its instances.
    ///
    /// # Errors
    /// A rule for a master over a registry that elects none; no runtime.
    pub fn new(
        registry: &Arc<dyn MsRegister>,
        rules: Vec<Rule>,
        ejection: &EjectionConfig,
    ) -> Result<Self, RoutesError> {
        let mut known: HashMap<_, Members> = HashMap::new();
        let mut routes = Vec::with_capacity(rules.len());
        for (index, rule) in rules.into_iter().enumerate() {
            let balancing = match &rule.choice {
                Choice::Master => None,
                Choice::Balanced(balancing, _) => Some(balancing.clone()),
            };
            let key = (rule.service.clone(), balancing);
            let members = match (known.get(&key), &key.1) {
                (Some(members), _) => members.clone(),
                (None, Some(balancing)) => {
                    let (registry, service) = (registry.clone(), rule.service.as_str());
                    let picker = Picker::with_ejection(registry, service, balancing.clone(), *ejection)?;
                    Members::Balanced(picker)
                }
                (None, None) => {
                    let election = registry.election().map_err(|error| RoutesError::NoElections {
                        index,
                        service: rule.service.to_string(),
                        error,
                    })?;
                    Members::Master(election.observe(&rule.service))
                }
            };
            known.insert(key, members.clone());
            let meter = Meter::new(rule.service.as_str());
            routes.push(Route { rule, members, meter });
        }
        Ok(Self(routes.into()))
    }

    /// Waits until each registry has told of each service, at most for this long.
    pub async fn settle(&self, within: Duration) {
        let deadline = Instant::now() + within;
        for route in self.0.iter() {
            if let Members::Balanced(picker) = &route.members {
                // An error: no instance is listed yet.
                let _ = picker.wait_ready(deadline.saturating_duration_since(Instant::now())).await;
            }
        }
    }

    /// The first route whose rule matches.
    pub(crate) fn find(&self, text: &str) -> Option<&Route> {
        self.0.iter().find(|route| route.rule.matches(text))
    }
}

impl Route {
    pub(crate) fn service(&self) -> &str {
        self.rule.service.as_str()
    }

    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Key that the balancer hashes, if it does.
    pub(crate) fn key(&self) -> &KeySource {
        match &self.rule.choice {
            Choice::Balanced(_, key) => key,
            Choice::Master => &KeySource::None,
        }
    }

    /// Chooses an instance, without waiting; one of `avoid` only if there is no other.
    pub(crate) fn choose_now(&self, key: Option<&[u8]>, avoid: &[&str]) -> Result<Chosen, String> {
        match &self.members {
            Members::Balanced(picker) => {
                let pick = picker.pick(key, avoid).map_err(|status| status.message().to_owned())?;
                Ok(Chosen::Picked(pick))
            }
            Members::Master(watch) => {
                let known = watch.current();
                match known.master() {
                    Some(master) => Ok(Chosen::Master(master.instance.clone())),
                    None => Err(format!("`{}` has no master", self.service())),
                }
            }
        }
    }

    /// Chooses an instance, without waiting; one that the registry does not list any more only if it lists no other.
    pub(crate) fn choose_listed(&self, key: Option<&[u8]>) -> Result<Chosen, String> {
        let mut unlisted = Vec::<String>::new();
        loop {
            let avoid: Vec<_> = unlisted.iter().map(String::as_str).collect();
            match self.choose_now(key, &avoid)? {
                Chosen::Picked(pick) if !pick.is_listed() && !avoid.contains(&pick.id()) => {
                    unlisted.push(pick.id().to_owned());
                }
                chosen => return Ok(chosen),
            }
        }
    }

    /// As [`choose_now`](Self::choose_now), but waits for the registry's first list.
    pub(crate) async fn choose(&self, key: Option<&[u8]>, avoid: &[String]) -> Result<Chosen, String> {
        let avoid: Vec<_> = avoid.iter().map(String::as_str).collect();
        match (self.choose_now(key, &avoid), &self.members) {
            (Err(_), Members::Balanced(picker)) => {
                picker.wait_ready(FIRST_LIST).await.map_err(|status| status.message().to_owned())?;
                self.choose_now(key, &avoid)
            }
            (chosen, _) => chosen,
        }
    }

    /// Address of an instance that serves; an error if it lists none under the rule's key.
    pub(crate) fn address<'a>(&self, instance: &'a Instance) -> Result<Cow<'a, str>, String> {
        let Some(key) = &self.rule.address_from else { return Ok(Cow::Owned(instance.address())) };
        match instance.metadata().get(key) {
            Some(address) => Ok(Cow::Borrowed(address)),
            None => Err(format!("`{}` {} lists no `{key}`", self.service(), instance.id())),
        }
    }
}

/// A chosen instance, which is busy until it is finished or dropped.
#[derive(Debug)]
pub(crate) enum Chosen {
    Picked(Pick),
    Master(Instance),
}

impl Chosen {
    pub(crate) fn instance(&self) -> &Instance {
        match self {
            Self::Picked(pick) => pick,
            Self::Master(instance) => instance,
        }
    }

    /// Reports how the request ended.
    pub(crate) fn finish(self, outcome: Outcome, took: Duration) {
        match self {
            Self::Picked(pick) => pick.finish(outcome, took),
            // There is no other to prefer.
            Self::Master(_) => {}
        }
    }
}
