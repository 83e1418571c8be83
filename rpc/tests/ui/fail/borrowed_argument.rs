#[ms_rpc::service]
pub trait Goods {
    async fn find(&self, name: &str) -> String;
}

fn main() {}
