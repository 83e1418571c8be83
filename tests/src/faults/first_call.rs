use tokio::{runtime::Handle, task::spawn_blocking};

use super::scene::{client, listed_by_hand};
use crate::{Failure, NodeOptions, NodeProgram, Row};

/// How many start at the same moment.
const AT_ONCE: usize = 20;

/// So many clients start, and each makes a call at once.
///
/// # Errors
/// What broke in the harness.
pub async fn clients_start(program: &NodeProgram, clients: usize) -> Result<Row, Failure> {
    let nodes = [program.start(NodeOptions::default()).await?];
    let registry = listed_by_hand(&nodes).await?;
    let (mut failed, mut reason) = (0, None);
    for _ in 0..clients / AT_ONCE {
        let shops = (0..AT_ONCE).map(|_| client(&registry)).collect::<Result<Vec<_>, _>>()?;
        let calls = (0u64..).zip(shops).map(|(number, shop)| {
            // Not one of the runtime's workers, like a program's `main`: its tasks start on other threads at once.
            spawn_blocking(move || Handle::current().block_on(shop.find(number)))
        });
        for call in futures_util::future::try_join_all(calls).await? {
            if let Err(status) = call {
                failed += 1;
                reason.get_or_insert(status);
            }
        }
    }
    let mut row = Row::new(format!("{clients} clients start, and each makes a call"));
    row.count("failed first calls", failed, 0);
    reason.into_iter().for_each(|status| row.note(format!("the first failure: {status}")));
    Ok(row)
}
