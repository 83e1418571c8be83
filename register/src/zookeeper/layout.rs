//! Place and form of the instances: the two layouts behind one face. Pure.

use std::{sync::Arc, time::SystemTime};

use super::stored::{Stored, check_step};
use super::{
    ZookeeperConfig, ZookeeperLayout,
    stored::{curator, normal},
};
use crate::{Found, Instance, ServiceName};

/// The form and the place of all instances of one registry client.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    form: ZookeeperLayout,
    /// An absolute path without a slash at its end.
    base: Arc<str>,
}

/// Place where the candidates of a service contend.
#[derive(Clone, Debug)]
pub(super) enum Contest {
    /// In a queue of nodes under this one. It lies beside the base: what is under that, others take for services.
    Queue(String),
    /// For one node, whose path this is.
    Node(String),
}

impl Layout {
    pub(super) fn of(config: &ZookeeperConfig) -> Self {
        Self { form: config.layout, base: format!("/{}", config.base.trim_matches('/')).into() }
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// The parent of the service's instances.
    pub(super) fn directory(&self, service: &ServiceName) -> String {
        format!("{}/{service}", self.base)
    }

    /// The node of this instance; `None` where ZooKeeper chooses its name.
    pub(super) fn node(&self, service: &ServiceName, id: &str) -> Option<String> {
        match self.form {
            ZookeeperLayout::Curator(_) => Some(format!("{}/{service}/{id}", self.base)),
            ZookeeperLayout::MasterNormal | ZookeeperLayout::MasterNormalBroker => None,
        }
    }

    /// Checks that the layout can hold this instance. The error says why not.
    pub(super) fn check(&self, instance: &Instance) -> Result<(), String> {
        match self.form {
            ZookeeperLayout::Curator(_) => check_step(instance.id()).map_err(|reason| format!("its id: {reason}")),
            ZookeeperLayout::MasterNormal | ZookeeperLayout::MasterNormalBroker => normal::check(instance),
        }
    }

    pub(super) fn contest(&self, service: &ServiceName) -> Contest {
        match self.form {
            ZookeeperLayout::Curator(_) => Contest::Queue(format!("{}@election/{service}", self.base)),
            ZookeeperLayout::MasterNormal | ZookeeperLayout::MasterNormalBroker => {
                Contest::Node(format!("{}/{service}/{}", self.base, normal::MASTER))
            }
        }
    }

    /// Reads the data of a candidate; its id, where the data does not hold it. The error says why it is none.
    pub(super) fn candidate(&self, id: &str, data: &[u8]) -> Result<Instance, String> {
        match self.form {
            ZookeeperLayout::Curator(_) => match curator::decode(id, data)? {
                Stored::Instance(instance) => Ok(instance),
                Stored::Nothing => Err("it is disabled".to_owned()),
            },
            ZookeeperLayout::MasterNormal | ZookeeperLayout::MasterNormalBroker => normal::read(data),
        }
    }

    pub(super) fn encode(&self, service: &ServiceName, instance: &Instance, now: SystemTime) -> Vec<u8> {
        match self.form {
            ZookeeperLayout::Curator(payload) => curator::encode(payload, service, instance, now),
            ZookeeperLayout::MasterNormal | ZookeeperLayout::MasterNormalBroker => normal::encode(instance),
        }
    }

    /// The data of a candidate, which may not be registered.
    pub(super) fn encode_candidate(&self, service: &ServiceName, instance: &Instance, now: SystemTime) -> Vec<u8> {
        match self.form {
            ZookeeperLayout::Curator(_) => self.encode(service, instance, now),
            ZookeeperLayout::MasterNormal | ZookeeperLayout::MasterNormalBroker => normal::encode_candidate(instance),
        }
    }

    /// Reads the child `name` of a service's node. The error says why it is no instance.
    pub(super) fn decode(&self, name: &str, data: &[u8]) -> Result<Stored, String> {
        match self.form {
            ZookeeperLayout::Curator(_) => curator::decode(name, data),
            ZookeeperLayout::MasterNormal => normal::decode(name, data),
            ZookeeperLayout::MasterNormalBroker => normal::decode_behind_broker(name, data),
        }
    }

    /// The list that these nodes make, which come in the order of their names.
    pub(super) fn listed<'a>(&self, nodes: impl Iterator<Item = (&'a str, Found)>) -> Vec<Found> {
        match self.form {
            ZookeeperLayout::Curator(_) => nodes.map(|(_, found)| found).collect(),
            ZookeeperLayout::MasterNormal => normal::listed(nodes),
            ZookeeperLayout::MasterNormalBroker => normal::listed_by_code(nodes),
        }
    }
}
