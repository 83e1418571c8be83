//! From a service to code.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote};
use syn::Ident;

use crate::parse::{Method, Output, Service};

pub(crate) fn service(service: &Service) -> TokenStream {
    let parts = [service_trait(service), client(service), server(service)];
    quote! { #(#parts)* }
}

fn service_trait(service: &Service) -> TokenStream {
    let Service { visibility, ident, attributes, .. } = service;
    let methods = service.methods.iter().map(|method| {
        let Method { ident, docs, attributes, context, arguments, returned, .. } = method;
        let inputs = context.iter().chain(arguments).map(|(name, kind)| quote! { #name: #kind });
        quote! {
            #(#docs)*
            #(#attributes)*
            fn #ident(&self #(, #inputs)*)
                -> impl ::core::future::Future<Output = #returned> + ::core::marker::Send;
        }
    });
    quote! {
        #(#attributes)*
        #visibility trait #ident: ::core::marker::Send + ::core::marker::Sync + 'static {
            #(#methods)*
        }
    }
}

fn client(service: &Service) -> TokenStream {
    let Service { visibility, ident, name, .. } = service;
    let client = client_ident(service);
    let descriptor = descriptor(service);
    let methods = service.methods.iter().enumerate().map(client_method);
    let about = format!("Calls the service `{name}`, defined by [`{ident}`]. Cheap to clone.");
    quote! {
        #[doc = #about]
        #[derive(Clone, Debug)]
        #visibility struct #client {
            stub: ::ms_rpc::Stub,
        }

        #[allow(dead_code)]
        impl #client {
            /// The service's default name and its methods.
            #visibility const DESCRIPTOR: ::ms_rpc::Descriptor = #descriptor;

            /// The service under its default name.
            #visibility fn new(channel: impl ::core::convert::Into<::ms_rpc::AnyChannel>) -> Self {
                Self::named(Self::DESCRIPTOR.name, channel)
            }

            /// The service under another name, such as one of several versions.
            #visibility fn named(
                name: impl ::core::convert::AsRef<str>,
                channel: impl ::core::convert::Into<::ms_rpc::AnyChannel>,
            ) -> Self {
                Self { stub: ::ms_rpc::Stub::new(channel, name) }
            }

            /// The same with other options for its calls.
            #[must_use]
            #visibility fn with(&self, options: ::ms_rpc::CallOptions) -> Self {
                Self { stub: self.stub.with(options) }
            }

            #(#methods)*
        }

        impl ::ms_rpc::TypedClient for #client {
            fn stub(&self) -> &::ms_rpc::Stub {
                &self.stub
            }

            fn from_stub(stub: ::ms_rpc::Stub) -> Self {
                Self { stub }
            }
        }
    }
}

fn client_method((place, method): (usize, &Method)) -> TokenStream {
    let Method { ident, docs, arguments, output, returned, .. } = method;
    let inputs = arguments.iter().map(|(name, kind)| quote! { #name: #kind });
    // One form for no arguments: an empty list, in every codec.
    let values = match &arguments[..] {
        [] => quote! { &[(); 0] },
        _ => {
            let names = arguments.iter().map(|(name, _)| name);
            quote! { &(#(&#names,)*) }
        }
    };
    let (result, call) = match output {
        Output::Plain => (quote! { ::core::result::Result<#returned, ::ms_rpc::Status> }, quote! { call_plain }),
        Output::Fallible { value, error } => {
            (quote! { ::core::result::Result<#value, ::ms_rpc::CallError<#error>> }, quote! { call })
        }
    };
    let docs = if docs.is_empty() {
        quote! { #[allow(missing_docs)] }
    } else {
        quote! { #(#docs)* }
    };
    quote! {
        #docs
        pub async fn #ident(&self #(, #inputs)*) -> #result {
            self.stub.#call(&Self::DESCRIPTOR.methods[#place], #values).await
        }
    }
}

fn server(service: &Service) -> TokenStream {
    let Service { visibility, ident, name, .. } = service;
    let (client, server) = (client_ident(service), format_ident!("{}Server", ident));
    let methods = service.methods.iter().enumerate().map(|place| server_method(ident, place));
    let request = local("request");
    let about = format!("Serves an implementation of [`{ident}`] as the service `{name}`.");
    quote! {
        #[doc = #about]
        #[derive(Debug)]
        #visibility struct #server<T> {
            service: ::ms_rpc::__private::Sharded<T>,
        }

        #[allow(dead_code)]
        impl<T: #ident> #server<T> {
            /// Serves `service`.
            #visibility fn new(service: T) -> Self {
                Self::shared(::std::sync::Arc::new(service))
            }

            /// Serves a service that is used elsewhere too.
            #visibility fn shared(service: ::std::sync::Arc<T>) -> Self {
                Self { service: ::ms_rpc::__private::Sharded::new(service) }
            }
        }

        impl<T: #ident> ::ms_rpc::Service for #server<T> {
            fn descriptor(&self) -> &'static ::ms_rpc::Descriptor {
                &#client::DESCRIPTOR
            }

            fn call(&self, #request: ::ms_rpc::Request<'_>) -> ::ms_rpc::Reply {
                match #request.method() {
                    #(#methods)*
                    _ => ::ms_rpc::Status::new(::ms_rpc::Code::Unimplemented, "no such method").into(),
                }
            }
        }
    }
}

fn server_method(service: &Ident, (place, method): (usize, &Method)) -> TokenStream {
    let Method { ident, context, arguments, output, .. } = method;
    let names: Vec<_> = arguments.iter().map(|(name, _)| name).collect();
    let kinds = arguments.iter().map(|(_, kind)| kind);
    // Names of its own, whatever the arguments are called.
    let (request, call_context, implementation) = (local("request"), local("context"), local("service"));
    let take_context = context.as_ref().map(|_| quote! { let #call_context = #request.context().clone(); });
    let context = context.as_ref().map(|_| quote! { #call_context, });
    let reply = match output {
        Output::Plain => quote! { reply },
        Output::Fallible { .. } => quote! { reply_result },
    };
    quote! {
        #place => {
            #[derive(::ms_rpc::__private::serde::Deserialize)]
            #[serde(crate = "::ms_rpc::__private::serde", deny_unknown_fields)]
            struct __Arguments {
                #(#names: #kinds,)*
            }
            let __Arguments { #(#names),* } = match #request.arguments() {
                ::core::result::Result::Ok(arguments) => arguments,
                ::core::result::Result::Err(status) => return status.into(),
            };
            #take_context
            let #implementation = self.service.share();
            #request.#reply(async move { <T as #service>::#ident(&**#implementation, #context #(#names),*).await })
        }
    }
}

/// A variable that the user's names do not meet.
fn local(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}

fn descriptor(service: &Service) -> TokenStream {
    let name = &service.name;
    let methods = service.methods.iter().map(|method| {
        let name = plain_name(&method.ident);
        let arguments = method.arguments.iter().map(|(name, _)| plain_name(name));
        let (idempotent, compute) = (method.idempotent, method.compute);
        quote! {
            ::ms_rpc::Method {
                name: #name,
                arguments: &[#(#arguments),*],
                idempotent: #idempotent,
                compute: #compute,
            }
        }
    });
    quote! { ::ms_rpc::Descriptor { name: #name, methods: &[#(#methods),*] } }
}

fn client_ident(service: &Service) -> Ident {
    format_ident!("{}Client", service.ident)
}

/// Without `r#`.
fn plain_name(ident: &Ident) -> String {
    let name = ident.to_string();
    name.strip_prefix("r#").map(str::to_owned).unwrap_or(name)
}
