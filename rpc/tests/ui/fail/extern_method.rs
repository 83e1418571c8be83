#[ms_rpc::service]
pub trait Goods {
    async extern "C" fn find(&self, id: i64) -> String;
}

fn main() {}
