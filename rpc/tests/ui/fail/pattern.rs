#[ms_rpc::service]
pub trait Goods {
    async fn find(&self, (id, count): (i64, u32)) -> String;
}

fn main() {}
