#[ms_rpc::service]
pub trait Goods {
    const LIMIT: u32 = 5;
}

fn main() {}
