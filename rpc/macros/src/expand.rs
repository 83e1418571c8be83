//! From a service to code.

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};
use quote::{format_ident, quote, quote_spanned};
use syn::{Ident, Path, Type, spanned::Spanned};

use crate::parse::{Execution, Method, Output, Service, trailing_options};

pub(crate) fn service(service: &Service) -> TokenStream {
    let parts = [service_trait(service), client(service), server(service), checks(service)];
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
            #visibility fn new(channel: impl ::core::convert::Into<#krate::AnyChannel>) -> Self {
                Self::named(Self::DESCRIPTOR.name, channel)
            }

            /// The service under another name, such as one of several versions.
            #visibility fn named(
                name: impl ::core::convert::AsRef<str>,
                channel: impl ::core::convert::Into<#krate::AnyChannel>,
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
            quote! { &(#(#krate::__private::Sent(&#names),)*) }
        }
    };
    let (result, call) = match output {
        Output::Plain => (quote! { ::core::result::Result<#returned, #krate::Status> }, quote! { call_plain }),
        Output::Refusable { value, .. } => {
            (quote! { ::core::result::Result<#value, #krate::Status> }, quote! { call_plain })
        }
        Output::Fallible { value, error } => {
            (quote! { ::core::result::Result<#value, #krate::CallError<#error>> }, quote! { call })
        }
    };
    let docs = if docs.is_empty() {
        quote! { #[allow(missing_docs)] }
    } else {
        quote! { #(#docs)* }
    };
    let bounds = bounds(krate, method);
    quote! {
        #docs
        #[allow(trivial_bounds)]
        pub async fn #ident(&self #(, #inputs)*) -> #result
        where
            #(#bounds,)*
        {
            self.stub.#call(&Self::DESCRIPTOR.methods[#place], #values).await.map(#krate::__private::Carried::take)
        }
    }
}

/// Bounds of a method's types. As bounds where they are used, they are reported once each, at the type in the trait;
/// the code behind them takes them for granted, and asks serde's traits only of `Carried` values.
fn bounds(krate: &Path, method: &Method) -> Vec<TokenStream> {
    let value = |kind: &Type| {
        let bound = respanned(quote! { #krate::__private::Value }, kind.span());
        quote! { #kind: #bound }
    };
    let mut bounds: Vec<_> = method.arguments.iter().map(|(_, kind)| value(kind)).collect();
    match &method.output {
        Output::Plain => bounds.push(value(&method.returned)),
        Output::Refusable { value: kind, status } => {
            bounds.push(value(kind));
            let bound = respanned(quote! { #krate::__private::IsStatus }, status.span());
            bounds.push(quote! { #status: #bound });
        }
        Output::Fallible { value: kind, error } => {
            bounds.push(value(kind));
            let bound = respanned(quote! { #krate::ServiceError }, error.span());
            bounds.push(quote! { #error: #bound });
        }
    }
    bounds
}

/// The same tokens, which errors show at this place.
fn respanned(tokens: TokenStream, span: Span) -> TokenStream {
    let at_span = |mut token: TokenTree| {
        token.set_span(span.resolved_at(token.span()));
        token
    };
    tokens.into_iter().map(at_span).collect()
}

/// Assertions, when the program is compiled, that a plain value is no alias of `Result`: names alone do not show it.
fn checks(service: &Service) -> TokenStream {
    let krate = &service.krate;
    let checks = service.methods.iter().filter_map(|method| match &method.output {
        Output::Plain => {
            let kind = &method.returned;
            let message = "the type of a method that may fail must be seen to be a `Result`: write `Result<Value, Error>` \
                           in place of its alias";
            Some(quote_spanned! { kind.span()=>
                const _: () = {
                    use #krate::__private::Fallback as _;
                    ::core::assert!(!<#krate::__private::Probe<#kind>>::IS_RESULT, #message)
                };
            })
        }
        Output::Refusable { .. } | Output::Fallible { .. } => None,
    });
    quote! { #(#checks)* }
}

fn server(service: &Service) -> TokenStream {
    let Service { visibility, ident, name, krate, .. } = service;
    let (client, server) = (client_ident(service), format_ident!("{}Server", ident));
    let methods = service.methods.iter().enumerate().map(|place| server_method(service, place));
    let bounds: Vec<_> = service.methods.iter().flat_map(|method| bounds(krate, method)).collect();
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

        #[allow(trivial_bounds)]
        impl<T: #ident> #krate::Service for #server<T>
        where
            #(#bounds,)*
        {
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
    let kinds: Vec<_> = arguments.iter().map(|(_, kind)| kind).collect();
    let generics: Vec<_> = (0..arguments.len()).map(|place| format_ident!("__A{place}")).collect();
    // Names of its own, whatever the arguments are called.
    let (request, call_context, implementation) = (local("request"), local("context"), local("service"));
    let call_arguments = local("arguments");
    let take_context = context.as_ref().map(|_| quote! { let #call_context = #request.context().clone(); });
    let context = context.as_ref().map(|_| quote! { #call_context, });
    let method = quote! { <T as #service>::#ident(&**#implementation, #context #(#names.0),*).await };
    let (reply, method) = match output {
        Output::Plain => (quote! { reply }, quote! { #krate::__private::Carried(#method) }),
        Output::Refusable { .. } => (quote! { reply_status }, quote! { #method.map(#krate::__private::Carried) }),
        Output::Fallible { .. } => (quote! { reply_result }, quote! { #method.map(#krate::__private::Carried) }),
    };
    // An older caller knows fewer arguments: those at the end that are an `Option`.
    let shorter = (1..=trailing_options(arguments)).map(|missing| {
        let sent = arguments.len() - missing;
        let (sent_names, sent_kinds, absent) = (&names[..sent], &kinds[..sent], &names[sent..]);
        let (pattern, kind) = match sent {
            0 => (quote! { [] }, quote! { [(); 0] }),
            _ => (quote! { (#(#sent_names,)*) }, quote! { (#(#krate::__private::Carried<#sent_kinds>,)*) }),
        };
        quote! {
            #missing => #request.arguments::<#kind>().map(|#pattern| __Arguments {
                #(#sent_names,)*
                #(#absent: #krate::__private::Carried(::core::option::Option::None),)*
            }),
        }
    });
    quote! {
        #place => {
            #[derive(#krate::__private::serde::Deserialize)]
            #[serde(crate = #serde, deny_unknown_fields)]
            struct __Arguments<#(#generics),*> {
                #(#names: #generics,)*
            }
            let #call_arguments: ::core::result::Result<__Arguments<#(#krate::__private::Carried<#kinds>),*>, _> = match #request.missing() {
                #(#shorter)*
                _ => #request.arguments(),
            };
            let __Arguments { #(#names),* } = match #call_arguments {
                ::core::result::Result::Ok(arguments) => arguments,
                ::core::result::Result::Err(status) => return status.into(),
            };
            #take_context
            let #implementation = self.service.share();
            #request.#reply(async move { #method })
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
        let signature = signature(krate, method);
        quote! {
            #krate::Method {
                name: #name,
                arguments: &[#(#arguments),*],
                idempotent: #idempotent,
                execution: #krate::Execution::#execution,
                signature: #signature,
            }
        }
    });
    quote! {{
        #[allow(unused_imports)]
        use #krate::__private::Fallback as _;
        #krate::Descriptor { name: #name, methods: &[#(#methods),*] }
    }}
}

/// The definition of a method for the comparison between the two sides.
fn signature(krate: &Path, method: &Method) -> TokenStream {
    let optional = trailing_options(&method.arguments);
    let text = written(method, 0);
    let texts = (0..=optional).map(|missing| written(method, missing));
    let probe = |path: String, kind: &Type| quote! { (#path, <#krate::__private::Probe<#kind>>::TRACE) };
    let arguments = method.arguments.iter().map(|(name, kind)| probe(plain_name(name), kind));
    let results = match &method.output {
        Output::Plain => vec![probe("the result".to_owned(), &method.returned)],
        Output::Refusable { value, .. } => vec![probe("the result".to_owned(), value)],
        Output::Fallible { value, error } => {
            vec![probe("the result".to_owned(), value), probe("the error".to_owned(), error)]
        }
    };
    quote! {
        #krate::Signature {
            text: #text,
            hashes: &[#(#krate::__private::hash(#texts)),*],
            shape: || {
                static SHAPE: ::std::sync::LazyLock<#krate::__private::Shape> = ::std::sync::LazyLock::new(|| {
                    #krate::__private::Shape::new(&[#(#arguments),*], &[#(#results),*], #optional)
                });
                &SHAPE
            },
        }
    }
}

/// The method as its author wrote it, without context, with uniform spaces; without `missing` arguments at the end.
fn written(method: &Method, missing: usize) -> String {
    let sent = &method.arguments[..method.arguments.len() - missing];
    let arguments: Vec<_> = sent.iter().map(|(name, kind)| format!("{}: {}", plain_name(name), text(kind))).collect();
    let returned = match text(&method.returned) {
        unit if unit == "()" => String::new(),
        returned => format!(" -> {returned}"),
    };
    format!("{}({}){returned}", plain_name(&method.ident), arguments.join(", "))
}

/// A type with spaces where people write them.
fn text(kind: &Type) -> String {
    let mut text = String::new();
    append(quote! { #kind }, &mut text);
    text.replace(", >", ">")
}

fn append(tokens: TokenStream, text: &mut String) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::None => ("", ""),
                };
                text.push_str(open);
                append(group.stream(), text);
                text.truncate(text.trim_end().len());
                text.push_str(close);
            }
            TokenTree::Punct(punct) => match punct.as_char() {
                mark @ (',' | ';') => text.extend([mark, ' ']),
                mark @ ('+' | '=' | '-') => text.extend([' ', mark]),
                mark => text.push(mark),
            },
            word => {
                let word = word.to_string();
                if text.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '+' | '=')) {
                    text.push(' ');
                }
                text.push_str(&word);
            }
        }
    }
}

fn client_ident(service: &Service) -> Ident {
    format_ident!("{}Client", service.ident)
}

/// Without `r#`.
fn plain_name(ident: &Ident) -> String {
    let name = ident.to_string();
    name.strip_prefix("r#").map(str::to_owned).unwrap_or(name)
}
