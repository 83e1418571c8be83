#[ms_rpc::service]
pub trait Goods {
    async fn find(id: i64) -> String;
}

fn main() {}
