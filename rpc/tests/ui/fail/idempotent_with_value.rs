#[ms_rpc::service]
pub trait Goods {
    #[idempotent(true)]
    async fn find(&self, id: i64) -> String;
}

fn main() {}
