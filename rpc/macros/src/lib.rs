//! The attribute macro of ms-rpc. Use it as `ms_rpc::service`.

mod expand;
mod parse;

use proc_macro::TokenStream;

/// Turns a trait into a service: a client, a server, and a description.
///
/// For `#[ms_rpc::service(name = "goods")] pub trait Goods { .. }`:
/// - the trait's methods return `Send` futures; implement them with `async fn`;
/// - `GoodsServer::new(implementation)` is what `Server::serve` takes;
/// - `GoodsClient::new(channel)` has the same methods. A method that returns `Result<T, E>` gives `Result<T, CallError<E>>`, where
///   `E: ServiceError`; a method that returns a plain `T` gives `Result<T, Status>`.
///
/// Arguments and results are owned types that are `Serialize + DeserializeOwned + Send + 'static`. A first argument
/// `ctx: Context` is the call's context and is not sent. `name` defaults to the trait's name in snake case; `crate = path` is the
/// path of ms-rpc where that is not a dependency under its own name, such as `crate = my_crate::ms_rpc`.
///
/// On methods: `#[idempotent]` - executing it twice does no harm, so it may be retried when nobody knows whether it was
/// executed; `#[compute]` - it computes long (over 200 us) and runs on as many threads as there are cores; `#[blocking]` - it
/// blocks its thread (files, a synchronous driver) and runs on threads that may sleep.
#[proc_macro_attribute]
pub fn service(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let parsed = parse::service(attribute.into(), item.into());
    parsed.map(|service| expand::service(&service)).unwrap_or_else(|error| error.into_compile_error()).into()
}
