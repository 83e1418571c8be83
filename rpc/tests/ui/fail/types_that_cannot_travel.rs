pub struct Item;

#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Wrong;

#[ms_rpc::service]
pub trait Goods {
    async fn add(&self, item: Item) -> u32;
    async fn find(&self, id: i64) -> Item;
    async fn sell(&self, id: i64, count: Option<u32>) -> Result<u32, Wrong>;
}

fn main() {}
