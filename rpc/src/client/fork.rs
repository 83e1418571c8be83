//! One call to all instances, until one succeeds.

use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt};

use super::{
    instances::Member,
    proxy::ClientProxy,
    request::{CallRequest, EncodeArguments, not_sent},
    resolver::Resolver,
};
use crate::{Answer, Code, Outcome, Status};

/// Makes the call on all instances at once. The first success ends the others: dropping them cancels them.
pub(super) async fn fork<A: EncodeArguments>(
    proxy: &ClientProxy,
    resolver: &Arc<Resolver>,
    request: &CallRequest<'_>,
    arguments: &A,
    idempotent: bool,
) -> Result<Answer, Status> {
    if !idempotent {
        let name = request.name();
        let message = format!(
            "{name} is not idempotent, and a fork executes it on every instance: mark the method #[idempotent], or call it \
             by names with `CallOptions::idempotent`, if that does no harm"
        );
        return Err(not_sent(Code::FailedPrecondition, message));
    }
    let instances = resolver.listed(request.deadline()).await?;
    if instances.listed.slots().is_empty()
        && let Some(status) = resolver.nothing(&instances)
    {
        return Err(status);
    }
    let ids = instances.listed.slots().iter().map(|slot| instances.all[*slot as usize].instance().id());
    let requests: Vec<_> = ids.map(|id| request.to(id)).collect();
    let calls = requests.iter().map(|request| proxy.exchange(resolver, request, arguments, idempotent));
    let mut calls: FuturesUnordered<_> = calls.collect();
    let mut failed = None;
    while let Some(result) = calls.next().await {
        match result {
            Ok(answer) if answer.is_success() => return Ok(answer),
            other => failed = Some(worse(failed, other)),
        }
    }
    failed.unwrap_or_else(|| Err(request.overdue(Outcome::NotSent)))
}

/// Picks the failure that says most: the method's own error, then a status of a server, then the first of the rest.
fn worse(before: Option<Result<Answer, Status>>, new: Result<Answer, Status>) -> Result<Answer, Status> {
    let says = |result: &Result<Answer, Status>| match result {
        Ok(_) => 2,
        Err(status) => u8::from(matches!(status.outcome(), Outcome::Answered | Outcome::Refused)),
    };
    match before {
        Some(before) if says(&before) >= says(&new) => before,
        _ => new,
    }
}
