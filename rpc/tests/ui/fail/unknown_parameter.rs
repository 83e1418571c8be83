#[ms_rpc::service(nam = "goods")]
pub trait Goods {
    async fn find(&self, id: i64) -> String;
}

fn main() {}
