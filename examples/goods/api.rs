//! The goods service as both sides know it: the crate that a goods-center implements and an order-center calls.

use ms_rpc::{Code, ServiceError};
use serde::{Deserialize, Serialize};

/// What the shop sells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// 1 to 1,000.
    pub id: i64,
    /// For people.
    pub name: String,
    /// In cents.
    pub price: u64,
    /// What it is found by.
    pub tags: Vec<String>,
    /// The instance that answered.
    pub served_by: String,
}

/// Why there is no item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum GoodsError {
    /// No item has this id.
    #[error("no goods with id {0}")]
    NotFound(i64),
}

impl ServiceError for GoodsError {
    fn code(&self) -> Code {
        match self {
            Self::NotFound(_) => Code::NotFound,
        }
    }
}

/// The service.
#[ms_rpc::service(name = "goods")]
pub trait Goods {
    /// The item of this id.
    #[idempotent]
    async fn find(&self, id: i64) -> Result<Item, GoodsError>;
}

/// The examples in the documents: each one is a documentation test of this crate.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../docs/balancers.md")]
    struct Balancers;

    #[doc = include_str!("../../docs/calls.md")]
    struct Calls;

    #[doc = include_str!("../../docs/testing.md")]
    struct Testing;
}
