#[ms_rpc::service]
pub unsafe trait Goods {
    async fn find(&self, id: i64) -> String;
}

fn main() {}
