#[ms_rpc::service]
pub trait Goods {
    async fn find(&self, name: impl Into<String>) -> String;
}

fn main() {}
