#[ms_rpc::service]
pub trait Goods {
    async fn find(&self, id: i64) -> std::io::Result<String>;
}

fn main() {}
