#[ms_rpc::service]
pub trait Goods {
    type Item;
}

fn main() {}
