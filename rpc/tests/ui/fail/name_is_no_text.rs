#[ms_rpc::service(name = goods)]
pub trait Goods {
    async fn find(&self, id: i64) -> String;
}

fn main() {}
