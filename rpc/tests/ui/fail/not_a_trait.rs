#[ms_rpc::service]
pub struct Goods;

fn main() {}
