#[ms_rpc::service]
pub trait Goods {
    async fn find(&mut self, id: i64) -> String;
}

fn main() {}
