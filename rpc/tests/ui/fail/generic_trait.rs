#[ms_rpc::service]
pub trait Goods<T> {
    async fn find(&self, id: i64) -> String;
}

fn main() {}
