//! The contract of [`ms_register::MsRegister`] on every back end, and what only one of them can suffer.
//!
//! The contract is the crate `ms-register-conformance`; the lines below run it on each back end. etcd, gregister, Nacos and
//! ZooKeeper are real servers, one for each test.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "registry_conformance/authority.rs"]
mod authority;
#[path = "registry_conformance/cache.rs"]
mod cache;
#[path = "registry_conformance/election.rs"]
mod election;
#[path = "registry_conformance/embedded.rs"]
mod embedded;
#[path = "registry_conformance/ensemble.rs"]
mod ensemble;
#[path = "registry_conformance/etcd.rs"]
mod etcd;
#[path = "registry_conformance/etcd_cluster.rs"]
mod etcd_cluster;
#[path = "registry_conformance/gregister.rs"]
mod gregister;
#[path = "registry_conformance/gregister_election.rs"]
mod gregister_election;
#[path = "registry_conformance/mirror.rs"]
mod mirror;
#[path = "registry_conformance/nacos.rs"]
mod nacos;
#[path = "registry_conformance/nacos_pair.rs"]
mod nacos_pair;
#[path = "registry_conformance/normal.rs"]
mod normal;
#[path = "registry_conformance/plugs.rs"]
mod plugs;
#[path = "registry_conformance/shop.rs"]
mod shop;
#[path = "registry_conformance/union.rs"]
mod union;
#[path = "registry_conformance/wild.rs"]
mod wild;
#[path = "registry_conformance/zookeeper.rs"]
mod zookeeper;

use ms_register_conformance::{elections, registry, tests, untidy};

// This layout holds no metadata, and whole weights only: tests with those are left out, and `normal` has its own.
tests!(
    on_master_normal,
    crate::normal::NormalFixture,
    an_unknown_service_is_an_empty_list,
    a_watch_follows_what_owners_do,
    a_dropped_registration_vanishes,
    an_id_is_held_once,
    instances_of_one_process_are_apart,
    services_are_apart,
    services_are_named,
    names_of_services_are_followed,
    an_update_leaves_no_gap,
    close_deregisters_everything,
    what_peers_cannot_dial_is_refused,
    garbage_is_skipped_with_one_warning,
    a_registry_that_is_down_is_an_error,
    a_watch_keeps_its_list_over_an_outage,
    all_come_back_after_the_loss_of_all_data,
);
registry!(on_memory, crate::embedded::MemoryFixture);
registry!(on_etcd, crate::etcd::EtcdFixture);
registry!(on_gregister, crate::gregister::GregisterFixture);
registry!(on_nacos, crate::nacos::NacosFixture);
registry!(on_union, crate::union::UnionFixture);
registry!(on_zookeeper, crate::zookeeper::ZookeeperFixture);

elections!(elections_in_memory, crate::embedded::MemoryFixture);
elections!(elections_in_etcd, crate::etcd::EtcdFixture);
elections!(elections_in_gregister, crate::gregister::GregisterFixture);
elections!(elections_in_zookeeper, crate::zookeeper::ZookeeperFixture);
elections!(elections_in_master_normal, crate::normal::NormalFixture);

// Nothing but instances can be written into `memory://` and gregister.
untidy!(garbage_in_etcd, crate::etcd::EtcdFixture);
untidy!(garbage_in_nacos, crate::nacos::NacosFixture);
untidy!(garbage_in_zookeeper, crate::zookeeper::ZookeeperFixture);
