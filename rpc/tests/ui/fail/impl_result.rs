#[ms_rpc::service]
pub trait Goods {
    async fn find(&self, id: i64) -> impl Iterator<Item = String>;
}

fn main() {}
