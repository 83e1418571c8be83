//! The goods-center: an RPC server that lists itself in a registry.

use std::sync::Arc;

use goods_api::{Goods, GoodsError, GoodsServer, Item};
use ms_register::MsRegister;
use ms_rpc::{Server, ServerError, tls::Tls};

use crate::args::CenterArgs;

/// Its goods: ids 1 to 1,000.
#[derive(Debug)]
struct Shop {
    served_by: String,
}

impl Goods for Shop {
    async fn find(&self, id: i64) -> Result<Item, GoodsError> {
        if !(1..=1000).contains(&id) {
            return Err(GoodsError::NotFound(id));
        }
        Ok(Item {
            id,
            name: format!("goods no. {id}"),
            price: 100 + id.unsigned_abs(),
            tags: vec!["new".to_owned(), "red".to_owned(), format!("shelf-{}", id % 10)],
            served_by: self.served_by.clone(),
        })
    }
}

/// A server that is ready to start.
pub(crate) async fn server(
    args: &CenterArgs,
    registry: Arc<dyn MsRegister>,
    tls: Option<&Tls>,
) -> Result<Server, ServerError> {
    let server = Server::bind(&format!("{}:{}", args.host, args.port)).await?;
    let shop = Shop { served_by: server.address().to_string() };
    let server = server.register_with(registry).weight(args.weight).serve(GoodsServer::new(shop));
    let server = match tls {
        Some(tls) => server.tls(tls),
        None => server,
    };
    let server = match &args.advertise {
        Some(address) => server.advertise(address),
        None => server,
    };
    Ok(match args.rate_limit() {
        Some(limit) => server.limit(limit),
        None => server,
    })
}
