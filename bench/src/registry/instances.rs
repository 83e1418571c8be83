//! The process whose instances are listed.

use std::{num::NonZeroUsize, time::Instant};

use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use ms_register::Instance;

use super::{AT_A_TIME, service};
use crate::{peer::Failure, process};

/// Where, and how many.
#[derive(Args, Debug)]
pub(crate) struct Instances {
    url: String,
    services: usize,
    instances: usize,
}

/// Arguments of this process.
pub(super) fn arguments(url: &str, services: usize, instances: usize) -> Vec<String> {
    ["registry-instances", url, &services.to_string(), &instances.to_string()].map(str::to_owned).into()
}

/// Registers all of them, says how many seconds it took, and keeps them listed until its stdin ends.
pub(crate) fn serve(all: &Instances) -> Result<(), Failure> {
    process::allow_many_sockets()?;
    process::runtime(NonZeroUsize::MIN)?.block_on(async {
        let registry = ms_register::connect(&all.url).await?;
        let began = Instant::now();
        let numbers = (0..all.services).flat_map(|service| (0..all.instances).map(move |number| (service, number)));
        let register = |(number, instance): (usize, usize)| {
            let registry = registry.clone();
            async move {
                let port = u16::try_from(10_000 + instance)?;
                let host = format!("10.{}.{}.1", number / 256, number % 256);
                let registered = registry.register(&service(number)?, Instance::new(host, port)).await?;
                Ok::<_, Failure>(registered)
            }
        };
        let registered: Vec<_> = stream::iter(numbers).map(register).buffer_unordered(AT_A_TIME).try_collect().await?;
        println!("{}", began.elapsed().as_secs_f64());
        process::stdin_ends().await?;
        drop(registered);
        Ok(())
    })
}
