#[ms_rpc::service]
pub trait Goods
where
    Self: Clone,
{
    async fn find(&self, id: i64) -> String;
}

fn main() {}
