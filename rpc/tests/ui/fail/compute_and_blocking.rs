#[ms_rpc::service]
pub trait Goods {
    #[compute]
    #[blocking]
    async fn find(&self, id: i64) -> String;
}

fn main() {}
