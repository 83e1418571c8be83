use std::{io, time::Duration};

use crate::Server;

/// Which registry a scenario runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registry {
    /// etcd.
    Etcd,
    /// gregister.
    Gregister,
    /// Nacos, as rnacos.
    Nacos,
    /// ZooKeeper.
    Zookeeper,
}

impl Registry {
    /// Starts one.
    pub(super) async fn start(self) -> io::Result<Server> {
        match self {
            Self::Etcd => Server::etcd().await,
            Self::Gregister => Server::gregister().await,
            Self::Nacos => Server::nacos().await,
            Self::Zookeeper => Server::zookeeper().await,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Gregister => "gregister",
            Self::Nacos => "Nacos",
            Self::Zookeeper => "ZooKeeper",
        }
    }

    /// After an outage of unknown length, what is new is called within this time. The client of Nacos waits up to 64 s
    /// between two tries to connect.
    pub(super) fn lists_new_within(self) -> Duration {
        match self {
            Self::Etcd | Self::Gregister => Duration::from_secs(5),
            Self::Nacos => Duration::from_secs(64 + 5),
            Self::Zookeeper => Duration::from_secs(5),
        }
    }

    /// After a short outage, all is listed again within this time. The client of ZooKeeper doubles its pauses while its session
    /// lasts.
    pub(super) fn lists_again_within(self) -> Duration {
        match self {
            Self::Etcd | Self::Gregister => Duration::from_secs(5),
            Self::Nacos => Duration::from_secs(20),
            Self::Zookeeper => Duration::from_secs(8),
        }
    }
}
