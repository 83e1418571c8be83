#[ms_rpc::service]
pub trait Goods {
    async fn with(&self, id: i64) -> String;
}

fn main() {}
