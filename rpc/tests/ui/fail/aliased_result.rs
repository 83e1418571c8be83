type Res<T> = Result<T, String>;

#[ms_rpc::service]
pub trait Goods {
    async fn find(&self, id: i64) -> Res<String>;
}

fn main() {}
