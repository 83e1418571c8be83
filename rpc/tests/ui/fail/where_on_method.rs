#[ms_rpc::service]
pub trait Goods {
    async fn find(&self, id: i64) -> String
    where
        Self: Sized;
}

fn main() {}
