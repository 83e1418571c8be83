#[ms_rpc::service(name = "my goods")]
pub trait Goods {
    async fn find(&self, id: i64) -> String;
}

fn main() {}
