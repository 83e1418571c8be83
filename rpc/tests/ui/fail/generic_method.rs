#[ms_rpc::service]
pub trait Goods {
    async fn find<T>(&self, id: T) -> String;
}

fn main() {}
