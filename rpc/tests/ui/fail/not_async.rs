#[ms_rpc::service]
pub trait Goods {
    fn find(&self, id: i64) -> String;
}

fn main() {}
