//! From a service to code.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote};
use syn::{Ident, Path};

use crate::parse::{Execution, Method, Output, Service};

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
    let Service { visibility, ident, name, krate, .. } = service;
    let client = client_ident(service);
    let descriptor = descriptor(service);
    let methods = service.methods.iter().enumerate().map(|place| client_method(krate, place));
    let about = format!("Calls the service `{name}`, defined by [`{ident}`]. Cheap to clone.");
    quote! {
        #[doc = #about]
        #[derive(Clone, Debug)]
        #visibility struct #client {
            stub: #krate::Stub,
        }

        #[allow(dead_code)]
        impl #client {
            /// The service's default name and its methods.
            #visibility const DESCRIPTOR: #krate::Descriptor = #descriptor;

            /// The service under its default name.
            #visibility fn new(channel: impl ::core::convert::Into<#krate::Channel>) -> Self {
                Self::named(Self::DESCRIPTOR.name, channel)
            }

            /// The service under another name, such as one of several versions.
            #visibility fn named(
                name: impl ::core::convert::AsRef<str>,
                channel: impl ::core::convert::Into<#krate::Channel>,
            ) -> Self {
                Self { stub: #krate::Stub::new(channel, name) }
            }

            /// The same with other options for its calls.
            #[must_use]
            #visibility fn with(&self, options: #krate::CallOptions) -> Self {
                Self { stub: self.stub.with(options) }
            }

            #(#methods)*
        }

        impl #krate::TypedClient for #client {
            fn stub(&self) -> &#krate::Stub {
                &self.stub
            }

            fn from_stub(stub: #krate::Stub) -> Self {
                Self { stub }
            }
        }
    }
}

fn client_method(krate: &Path, (place, method): (usize, &Method)) -> TokenStream {
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
        Output::Plain => (quote! { ::core::result::Result<#returned, #krate::Status> }, quote! { call_plain }),
        Output::Fallible { value, error } => {
            (quote! { ::core::result::Result<#value, #krate::CallError<#error>> }, quote! { call })
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
    let Service { visibility, ident, name, krate, .. } = service;
    let (client, server) = (client_ident(service), format_ident!("{}Server", ident));
    let methods = service.methods.iter().enumerate().map(|place| server_method(service, place));
    let request = local("request");
    let about = format!("Serves an implementation of [`{ident}`] as the service `{name}`.");
    quote! {
        #[doc = #about]
        #[derive(Debug)]
        #visibility struct #server<T> {
            service: #krate::__private::Sharded<T>,
        }

        #[allow(dead_code)]
        impl<T: #ident> #server<T> {
            /// Serves `service`.
            #visibility fn new(service: T) -> Self {
                Self::shared(::std::sync::Arc::new(service))
            }

            /// Serves a service that is used elsewhere too.
            #visibility fn shared(service: ::std::sync::Arc<T>) -> Self {
                Self { service: #krate::__private::Sharded::new(service) }
            }
        }

        impl<T: #ident> #krate::Service for #server<T> {
            fn descriptor(&self) -> &'static #krate::Descriptor {
                &#client::DESCRIPTOR
            }

            fn call(&self, #request: #krate::Request<'_>) -> #krate::Reply {
                match #request.method() {
                    #(#methods)*
                    _ => #krate::Status::new(#krate::Code::Unimplemented, "no such method").into(),
                }
            }
        }
    }
}

fn server_method(service: &Service, (place, method): (usize, &Method)) -> TokenStream {
    let Service { ident: service, krate, .. } = service;
    let serde = quote! { #krate::__private::serde }.to_string().replace(' ', "");
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
            #[derive(#krate::__private::serde::Deserialize)]
            #[serde(crate = #serde, deny_unknown_fields)]
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
    let Service { name, krate, .. } = service;
    let methods = service.methods.iter().map(|method| {
        let name = plain_name(&method.ident);
        let arguments = method.arguments.iter().map(|(name, _)| plain_name(name));
        let idempotent = method.idempotent;
        let execution = match method.execution {
            Execution::Inline => quote! { Inline },
            Execution::Compute => quote! { Compute },
            Execution::Blocking => quote! { Blocking },
        };
        quote! {
            #krate::Method {
                name: #name,
                arguments: &[#(#arguments),*],
                idempotent: #idempotent,
                execution: #krate::Execution::#execution,
            }
        }
    });
    quote! { #krate::Descriptor { name: #name, methods: &[#(#methods),*] } }
}

fn client_ident(service: &Service) -> Ident {
    format_ident!("{}Client", service.ident)
}

/// Without `r#`.
fn plain_name(ident: &Ident) -> String {
    let name = ident.to_string();
    name.strip_prefix("r#").map(str::to_owned).unwrap_or(name)
}
