#[ms_rpc::service]
pub trait Goods {
    async fn find(&self, mut id: i64) -> String;
}

fn main() {}
