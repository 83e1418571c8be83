//! One suite for every back end: what [`ms_register::MsRegister`] promises holds wherever the instances are kept.
//!
//! The suite is written once (`suite`), against what a back end's test has to offer (`Fixture`); the lines below run it
//! on each. etcd, gregister, Nacos and ZooKeeper are real servers, one for each test.

// The bodies of the suite are no test functions themselves, so the exception for tests does not reach them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "registry_conformance/election.rs"]
mod election;
#[path = "registry_conformance/embedded.rs"]
mod embedded;
#[path = "registry_conformance/etcd.rs"]
mod etcd;
#[path = "registry_conformance/fixture.rs"]
mod fixture;
#[path = "registry_conformance/gregister.rs"]
mod gregister;
#[path = "registry_conformance/gregister_election.rs"]
mod gregister_election;
#[path = "registry_conformance/mirror.rs"]
mod mirror;
#[path = "registry_conformance/nacos.rs"]
mod nacos;
#[path = "registry_conformance/normal.rs"]
mod normal;
#[path = "registry_conformance/outage.rs"]
mod outage;
#[path = "registry_conformance/suite.rs"]
mod suite;
#[path = "registry_conformance/warnings.rs"]
mod warnings;
#[path = "registry_conformance/zookeeper.rs"]
mod zookeeper;

macro_rules! conformance {
    ($backend:ident, $fixture:ty, $($area:ident :: { $($test:ident),+ $(,)? }),+ $(,)?) => {
        mod $backend {
            $($(
                #[tokio::test]
                async fn $test() {
                    let fixture = <$fixture as crate::fixture::Fixture>::start().await;
                    crate::$area::$test(fixture).await;
                }
            )+)+
        }
    };
}

macro_rules! conformance_on {
    ($backend:ident, $fixture:ty) => {
        conformance!(
            $backend,
            $fixture,
            suite::{
                an_unknown_service_is_an_empty_list,
                an_instance_survives_the_round_trip,
                a_watch_follows_what_strangers_do,
                a_watch_follows_what_owners_do,
                a_dropped_registration_vanishes,
                an_id_is_held_once,
                instances_of_one_process_are_apart,
                services_are_apart,
                close_deregisters_everything,
                what_peers_cannot_dial_is_refused,
            },
            outage::{
                a_registry_that_is_down_is_an_error,
                a_watch_keeps_its_list_over_an_outage,
                all_come_back_after_the_loss_of_all_data,
            },
        );
    };
}

// This layout holds no metadata, and whole weights only: what speaks of those is left out, and `normal` has its own.
conformance!(
    on_master_normal,
    crate::normal::NormalFixture,
    suite::{
        an_unknown_service_is_an_empty_list,
        a_watch_follows_what_owners_do,
        a_dropped_registration_vanishes,
        an_id_is_held_once,
        instances_of_one_process_are_apart,
        services_are_apart,
        close_deregisters_everything,
        what_peers_cannot_dial_is_refused,
        garbage_is_skipped_with_one_warning,
    },
    outage::{
        a_registry_that_is_down_is_an_error,
        a_watch_keeps_its_list_over_an_outage,
        all_come_back_after_the_loss_of_all_data,
    },
);
conformance_on!(on_memory, crate::embedded::MemoryFixture);
conformance_on!(on_etcd, crate::etcd::EtcdFixture);
conformance_on!(on_gregister, crate::gregister::GregisterFixture);
conformance_on!(on_nacos, crate::nacos::NacosFixture);
conformance_on!(on_zookeeper, crate::zookeeper::ZookeeperFixture);

macro_rules! elections_on {
    ($backend:ident, $fixture:ty) => {
        conformance!(
            $backend,
            $fixture,
            election::{
                a_second_candidate_waits_until_the_first_resigns,
                a_cancelled_campaign_leaves_nothing_behind,
                a_dropped_leadership_is_resigned,
                services_have_their_own_masters,
                a_registry_that_is_down_elects_nobody,
                the_loss_of_all_data_ends_a_term,
            },
        );
    };
}

elections_on!(elections_in_memory, crate::embedded::MemoryFixture);
elections_on!(elections_in_etcd, crate::etcd::EtcdFixture);
elections_on!(elections_in_gregister, crate::gregister::GregisterFixture);
elections_on!(elections_in_zookeeper, crate::zookeeper::ZookeeperFixture);
elections_on!(elections_in_master_normal, crate::normal::NormalFixture);

conformance!(etcd_in_gregister, crate::etcd::EtcdFixture, mirror::{ it_is_shown_in_the_old_form_read_only });
conformance!(gregister_in_gregister, crate::gregister::GregisterFixture, mirror::{ it_is_shown_in_the_old_form_read_only });
conformance!(nacos_in_gregister, crate::nacos::NacosFixture, mirror::{ it_is_shown_in_the_old_form_read_only });
conformance!(zookeeper_in_gregister, crate::zookeeper::ZookeeperFixture, mirror::{ it_is_shown_in_the_old_form_read_only });

// Nothing but instances can be written into `memory://` and gregister.
conformance!(garbage_in_etcd, crate::etcd::EtcdFixture, suite::{ garbage_is_skipped_with_one_warning });
conformance!(garbage_in_nacos, crate::nacos::NacosFixture, suite::{ garbage_is_skipped_with_one_warning });
conformance!(garbage_in_zookeeper, crate::zookeeper::ZookeeperFixture, suite::{ garbage_is_skipped_with_one_warning });
