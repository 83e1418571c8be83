#[ms_rpc::service]
pub trait Goods {
    async unsafe fn find(&self, id: i64) -> String;
}

fn main() {}
