//! From the user's trait to what it means; whatever cannot be a service is an error at its place.

use proc_macro2::{Span, TokenStream};
use syn::{
    Attribute, Error, FnArg, GenericArgument, Generics, Ident, Item, LitStr, Pat, Path, PathArguments, Receiver,
    ReceiverKind, Result, ReturnType, Safety, TraitItem, TraitItemFn, Type, Visibility, parse::Parser, parse_quote,
    spanned::Spanned,
};

/// A trait that is a service.
pub(crate) struct Service {
    pub(crate) visibility: Visibility,
    pub(crate) ident: Ident,
    /// The name on the wire.
    pub(crate) name: String,
    /// Path of the crate ms-rpc.
    pub(crate) krate: Path,
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) methods: Vec<Method>,
}

pub(crate) struct Method {
    pub(crate) ident: Ident,
    pub(crate) docs: Vec<Attribute>,
    pub(crate) attributes: Vec<Attribute>,
    /// The name of the context's argument.
    pub(crate) context: Option<(Ident, Type)>,
    pub(crate) arguments: Vec<(Ident, Type)>,
    pub(crate) output: Output,
    /// The type as it stands in the trait.
    pub(crate) returned: Type,
    pub(crate) idempotent: bool,
    pub(crate) execution: Execution,
}

/// Threads that a method runs on, by the name of the variant of `ms_rpc::Execution`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Execution {
    Inline,
    Compute,
    Blocking,
}

pub(crate) enum Output {
    Plain,
    /// `Result<value, Status>`.
    Refusable {
        value: Box<Type>,
        status: Box<Type>,
    },
    Fallible {
        value: Box<Type>,
        error: Box<Type>,
    },
}

/// Names that the generated client needs for itself.
const TAKEN: [&str; 3] = ["new", "named", "with"];

/// Most arguments that serde's tuples hold.
const MOST_ARGUMENTS: usize = 16;

pub(crate) fn service(attribute: TokenStream, item: TokenStream) -> Result<Service> {
    let item = match syn::parse2(item)? {
        Item::Trait(item) => item,
        other => return Err(Error::new(other.span(), "a service is a trait: write `pub trait Goods { .. }`")),
    };
    let (name, krate) = parameters(attribute, &item.ident)?;
    if let Some(span) = generics(&item.generics) {
        return Err(Error::new(span, "a service has no generics: its types must be known on both sides"));
    }
    if let Some(unsafety) = item.unsafety {
        return Err(Error::new(unsafety.span(), "a service is not unsafe: remove `unsafe`"));
    }
    if !item.supertraits.is_empty() {
        let message = "a service has no supertraits: `Send + Sync + 'static` are added, remove them";
        return Err(Error::new(item.supertraits.span(), message));
    }
    let methods = item.items.into_iter().map(method).collect::<Result<Vec<_>>>()?;
    Ok(Service { visibility: item.vis, ident: item.ident, name, krate, attributes: item.attrs, methods })
}

/// The service's name and the path of the crate, from `name = ".."` and `crate = ..`.
fn parameters(attribute: TokenStream, ident: &Ident) -> Result<(String, Path)> {
    let (mut name, mut krate): (Option<LitStr>, Option<Path>) = (None, None);
    let parser = syn::meta::parser(|meta| {
        if meta.path.is_ident("name") {
            if name.is_some() {
                return Err(meta.error("the service has a name already: write `name = ..` once"));
            }
            let value = meta.value().and_then(|value| value.parse());
            name = Some(value.map_err(|error| Error::new(error.span(), "write the name as text: `name = \"goods\"`"))?);
            return Ok(());
        }
        if meta.path.is_ident("crate") {
            let value = meta.value().and_then(|value| value.call(Path::parse_mod_style));
            let message = "write the crate's path: `crate = my_crate::ms_rpc`";
            krate = Some(value.map_err(|error| Error::new(error.span(), message))?);
            return Ok(());
        }
        Err(meta
            .error("unknown parameter: write `#[service(name = \"goods\")]`, or `crate = path` for the crate ms-rpc"))
    });
    parser.parse2(attribute)?;
    let krate = krate.unwrap_or_else(|| parse_quote!(::ms_rpc));
    let Some(name) = name else { return Ok((snake_case(&ident.to_string()), krate)) };
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-');
    let text = name.value();
    if text.is_empty() || text.len() > 128 || !text.chars().all(legal) {
        return Err(Error::new(name.span(), "a service name has 1 to 128 letters, digits and . _ : -"));
    }
    Ok((text, krate))
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
    }
    snake
}

fn method(item: TraitItem) -> Result<Method> {
    let TraitItem::Fn(function) = item else {
        return Err(Error::new(item.span(), "a service has only methods: write `async fn name(&self, ..) -> ..;`"));
    };
    check_signature(&function)?;
    let signature = function.sig;
    let (mut docs, mut attributes) = (Vec::new(), Vec::new());
    let (mut idempotent, mut execution) = (false, Execution::Inline);
    for attribute in function.attrs {
        let path = attribute.path();
        if path.is_ident("idempotent") {
            without_value(&attribute)?;
            idempotent = true;
        } else if path.is_ident("compute") || path.is_ident("blocking") {
            without_value(&attribute)?;
            let wanted = if path.is_ident("compute") { Execution::Compute } else { Execution::Blocking };
            if execution != Execution::Inline && execution != wanted {
                let message = "a method either computes or blocks: write `#[compute]` or `#[blocking]`";
                return Err(Error::new(attribute.span(), message));
            }
            execution = wanted;
        } else if path.is_ident("cfg") || path.is_ident("cfg_attr") {
            let message = "a service has the same methods on both sides: put `#[cfg]` on the whole trait";
            return Err(Error::new(attribute.span(), message));
        } else if path.is_ident("doc") {
            docs.push(attribute);
        } else {
            attributes.push(attribute);
        }
    }
    let mut arguments = signature.inputs.into_iter().skip(1).map(argument).collect::<Result<Vec<_>>>()?;
    let context = arguments.first().is_some_and(|(_, kind)| is_context(kind)).then(|| arguments.remove(0));
    if let Some((_, kind)) = arguments.iter().find(|(_, kind)| is_context(kind)) {
        return Err(Error::new(kind.span(), "the context comes first: `(&self, ctx: Context, ..)`"));
    }
    if let Some((ident, _)) = arguments.get(MOST_ARGUMENTS) {
        return Err(Error::new(ident.span(), "a method has at most 16 arguments: put them into a struct"));
    }
    let returned = match signature.output {
        ReturnType::Default => parse_quote!(()),
        ReturnType::Type(_, returned) => *returned,
    };
    let output = output(&returned)?;
    Ok(Method { ident: signature.ident, docs, attributes, context, arguments, output, returned, idempotent, execution })
}

fn without_value(attribute: &Attribute) -> Result<()> {
    match attribute.meta.require_path_only() {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::new(
            error.span(),
            "it says all by its name: write `#[idempotent]`, `#[compute]` or `#[blocking]` alone",
        )),
    }
}

fn check_signature(function: &TraitItemFn) -> Result<()> {
    let signature = &function.sig;
    if signature.asyncness.is_none() {
        return Err(Error::new(signature.fn_token.span, "a service method is async: write `async fn`"));
    }
    if let Some(body) = &function.default {
        return Err(Error::new(body.span(), "a service method has no body: end it with `;` and implement the trait"));
    }
    let safety = (!matches!(signature.safety, Safety::Default)).then(|| signature.safety.span());
    let words = [signature.constness.as_ref().map(Spanned::span), safety, signature.abi.as_ref().map(Spanned::span)];
    if let Some(span) = words.into_iter().flatten().next() {
        return Err(Error::new(span, "a service method is called over the network: write `async fn` and no more"));
    }
    if let Some(span) = generics(&signature.generics) {
        let message = "a service method has no generics: its types must be known on both sides";
        return Err(Error::new(span, message));
    }
    match signature.inputs.first() {
        Some(FnArg::Receiver(receiver)) if is_shared_self(receiver) => {}
        Some(FnArg::Receiver(receiver)) => {
            return Err(Error::new(receiver.span(), "many calls run at once: take `&self`"));
        }
        _ => return Err(Error::new(signature.ident.span(), "a service method takes `&self` first")),
    }
    if TAKEN.contains(&signature.ident.to_string().as_str()) {
        let message =
            format!("the generated client has a function `{}` of its own: choose another name", signature.ident);
        return Err(Error::new(signature.ident.span(), message));
    }
    Ok(())
}

/// Where generics or their bounds stand, if there are any.
fn generics(generics: &Generics) -> Option<Span> {
    let parameters = (!generics.params.is_empty()).then(|| generics.span());
    parameters.or_else(|| generics.where_clause.as_ref().map(Spanned::span))
}

fn is_shared_self(receiver: &Receiver) -> bool {
    matches!(receiver.kind, ReceiverKind::Reference(_, None, None))
}

fn argument(argument: FnArg) -> Result<(Ident, Type)> {
    let FnArg::Typed(argument) = argument else {
        return Err(Error::new(argument.span(), "`self` comes first"));
    };
    if let Some(attribute) = argument.attrs.first() {
        return Err(Error::new(attribute.span(), "an argument has no attributes: remove it, or put it on its type"));
    }
    let Pat::Ident(pattern) = &*argument.pat else {
        return Err(Error::new(argument.pat.span(), "an argument has a plain name: callers by names see it"));
    };
    if pattern.by_ref.is_some() || pattern.mutability.is_some() || pattern.subpat.is_some() {
        return Err(Error::new(pattern.span(), "an argument has a plain name: write `name: Type`"));
    }
    match &*argument.ty {
        Type::Reference(reference) => {
            let message =
                "arguments are owned, they come over the network: write `String` for `&str`, `Vec<T>` for `&[T]`";
            Err(Error::new(reference.span(), message))
        }
        Type::ImplTrait(anything) => {
            Err(Error::new(anything.span(), "an argument has one type: both sides must know it"))
        }
        kind => Ok((pattern.ident.clone(), kind.clone())),
    }
}

fn is_context(kind: &Type) -> bool {
    is_named(kind, "Context")
}

/// The last part of the type's path is this name, without arguments.
fn is_named(kind: &Type, name: &str) -> bool {
    let Type::Path(path) = kind else { return false };
    path.path.segments.last().is_some_and(|last| last.ident == name && last.arguments.is_empty())
}

/// Number of arguments at the end whose type is an `Option`.
pub(crate) fn trailing_options(arguments: &[(Ident, Type)]) -> usize {
    let is_option = |kind: &Type| {
        let Type::Path(path) = kind else { return false };
        path.path.segments.last().is_some_and(|last| last.ident == "Option" && !last.arguments.is_empty())
    };
    arguments.iter().rev().take_while(|(_, kind)| is_option(kind)).count()
}

fn output(whole: &Type) -> Result<Output> {
    match whole {
        Type::Reference(reference) => {
            return Err(Error::new(reference.span(), "results are owned, they go over the network: return a value"));
        }
        Type::ImplTrait(anything) => {
            let message = "a method returns one value of a named type: streams are not supported";
            return Err(Error::new(anything.span(), message));
        }
        _ => {}
    }
    let Type::Path(path) = whole else { return Ok(Output::Plain) };
    let Some(last) = path.path.segments.last().filter(|last| last.ident == "Result") else {
        return Ok(Output::Plain);
    };
    let types: Vec<Type> = match &last.arguments {
        PathArguments::AngleBracketed(list) => list.args.iter().filter_map(only_type).collect(),
        _ => Vec::new(),
    };
    match <[Type; 2]>::try_from(types) {
        Ok([value, error]) if is_named(&error, "Status") => {
            Ok(Output::Refusable { value: Box::new(value), status: Box::new(error) })
        }
        Ok([value, error]) => Ok(Output::Fallible { value: Box::new(value), error: Box::new(error) }),
        Err(_) => {
            Err(Error::new(last.span(), "both types of the result must be seen here: write `Result<Value, Error>`"))
        }
    }
}

fn only_type(argument: &GenericArgument) -> Option<Type> {
    match argument {
        GenericArgument::Type(kind) => Some(kind.clone()),
        _ => None,
    }
}
