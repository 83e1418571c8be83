#[ms_rpc::service]
pub trait Goods {
    async fn find(&self, #[cfg(unix)] id: i64) -> String;
}

fn main() {}
