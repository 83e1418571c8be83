#[ms_rpc::service]
pub trait Goods {
    async fn find(&self, id: i64, ctx: ms_rpc::Context) -> String;
}

fn main() {}
