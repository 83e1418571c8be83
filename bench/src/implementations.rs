//! What is measured. To add an implementation: write its file, implement [`Peer`] there, and add its line to [`ALL`].

mod raw;
mod tarpc;
mod tonic;

use std::{future::Future, net::SocketAddr, pin::Pin};

use tokio::net::TcpListener;

use crate::{
    drive::{self, Plan},
    peer::{Failure, Peer},
};

/// Every implementation, in the order of the tables. The first one is the ceiling that the others are compared to.
pub(crate) const ALL: &[Implementation] = &[
    Implementation::of::<raw::Raw>(),
    Implementation::of::<raw::RawItem>(),
    Implementation::of::<tarpc::Tarpc>(),
    Implementation::of::<tonic::Tonic>(),
];

/// One implementation, with its type erased; what it runs is still compiled for that type alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Implementation {
    pub(crate) name: &'static str,
    pub(crate) package: &'static str,
    /// Serves until the process ends.
    pub(crate) serve: fn(TcpListener) -> Running,
    /// Connects to the address, makes the calls of the plan and reports them on stdout.
    pub(crate) drive: fn(SocketAddr, Plan) -> Running,
}

/// A server or a driver at work.
pub(crate) type Running = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

impl Implementation {
    const fn of<P: Peer>() -> Self {
        Self {
            name: P::NAME,
            package: P::PACKAGE,
            serve: |listener| Box::pin(P::serve(listener)),
            drive: |address, plan| Box::pin(drive::run::<P>(address, plan)),
        }
    }

    /// The implementation of that name.
    pub(crate) fn named(name: &str) -> Result<Self, Failure> {
        ALL.iter().find(|known| known.name == name).copied().ok_or_else(|| {
            let known: Vec<_> = ALL.iter().map(|known| known.name).collect();
            format!("no implementation is named `{name}`; there are {}", known.join(", ")).into()
        })
    }
}
