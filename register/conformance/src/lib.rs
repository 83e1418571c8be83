//! The contract of [`ms_register::MsRegister`] as tests, which every back end runs against a real registry.
//!
//! A back end's test says how to start, hurt and write to its registry ([`Fixture`]), and one line for each part of the contract
//! makes the tests:
//!
//! ```ignore
//! struct MyFixture(..);
//! impl ms_register_conformance::Fixture for MyFixture { .. }
//!
//! ms_register_conformance::registry!(my_registry, MyFixture);
//! ms_register_conformance::elections!(my_elections, MyFixture); // if it has elections
//! ms_register_conformance::untidy!(my_garbage, MyFixture);      // if others can write anything into it
//! ```
//!
//! [`tests!`] takes the tests one by one, for a registry that cannot hold everything.

// Bodies of tests: a broken promise is a panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

pub mod candidates;
mod election;
mod fixture;
mod outage;
mod suite;
mod warnings;

pub use fixture::{Fixture, Untidy, ids, service, within};
pub use warnings::Warnings;

/// Each test of the contract, by its name.
pub mod contract {
    pub use crate::{election::*, outage::*, suite::*};
}

/// Runs one test on a runtime of this thread.
///
/// # Panics
/// There is no runtime to be had, and whatever the test panics for.
pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a tokio runtime").block_on(test);
}

/// A module of tests by name: `tests!(module, Fixture, a_dropped_registration_vanishes, an_id_is_held_once)`.
#[macro_export]
macro_rules! tests {
    ($module:ident, $fixture:ty, $($test:ident),+ $(,)?) => {
        mod $module {
            #[allow(unused_imports, reason = "the fixture's path may be a full one")]
            use super::*;

            $(
                #[test]
                fn $test() {
                    $crate::run(async {
                        let fixture = <$fixture as $crate::Fixture>::start().await;
                        $crate::contract::$test(fixture).await;
                    });
                }
            )+
        }
    };
}

/// The promises of every registry that can be written to.
#[macro_export]
macro_rules! registry {
    ($module:ident, $fixture:ty) => {
        $crate::tests!(
            $module,
            $fixture,
            an_unknown_service_is_an_empty_list,
            an_instance_survives_the_round_trip,
            a_watch_follows_what_strangers_do,
            a_watch_follows_what_owners_do,
            a_dropped_registration_vanishes,
            an_id_is_held_once,
            instances_of_one_process_are_apart,
            services_are_apart,
            services_are_named,
            names_of_services_are_followed,
            an_update_leaves_no_gap,
            an_update_survives_a_loss,
            close_deregisters_everything,
            what_peers_cannot_dial_is_refused,
            a_registry_that_is_down_is_an_error,
            a_watch_keeps_its_list_over_an_outage,
            all_come_back_after_the_loss_of_all_data,
        );
    };
}

/// The promises of every registry with elections.
#[macro_export]
macro_rules! elections {
    ($module:ident, $fixture:ty) => {
        $crate::tests!(
            $module,
            $fixture,
            a_second_candidate_waits_until_the_first_resigns,
            a_cancelled_campaign_leaves_nothing_behind,
            a_dropped_leadership_is_resigned,
            services_have_their_own_masters,
            a_registry_that_is_down_elects_nobody,
            the_loss_of_all_data_ends_a_term,
        );
    };
}

/// The promises of every registry in which others may write what is no instance, for an [`Untidy`] fixture.
#[macro_export]
macro_rules! untidy {
    ($module:ident, $fixture:ty) => {
        $crate::tests!($module, $fixture, garbage_is_skipped_with_one_warning);
    };
}
