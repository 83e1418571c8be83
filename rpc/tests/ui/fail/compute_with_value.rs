#[ms_rpc::service]
pub trait Goods {
    #[compute = 5]
    async fn find(&self, id: i64) -> String;
}

fn main() {}
