#[derive(Debug)]
pub struct Status;

#[ms_rpc::service]
pub trait Goods {
    async fn find(&self, id: i64) -> Result<String, Status>;
}

fn main() {}
