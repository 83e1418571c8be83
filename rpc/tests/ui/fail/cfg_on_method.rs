#[ms_rpc::service]
pub trait Goods {
    #[cfg(unix)]
    async fn find(&self, id: i64) -> String;
}

fn main() {}
