//! The built-in service `ms.describe`: names, methods and signatures of a server's services, for callers by names.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Descriptor, Service};

/// Description of a service, as it is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceDescription {
    /// The name it is served under.
    pub name: String,
    /// Its methods.
    pub methods: Vec<MethodDescription>,
}

/// Description of a method.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MethodDescription {
    /// Unique in its service.
    pub name: String,
    /// The names of its arguments, in order.
    pub arguments: Vec<String>,
    /// True if executing it twice does no harm.
    pub idempotent: bool,
}

/// The methods of `ms.describe`.
#[ms_rpc::service(name = "ms.describe")]
pub trait Describe {
    /// Every service of this server, by name.
    #[idempotent]
    async fn services(&self) -> Vec<ServiceDescription>;

    /// The service of this name.
    #[idempotent]
    async fn service(&self, name: String) -> Option<ServiceDescription>;

    /// The methods of the service of this name as they are written, such as `find(id: i64) -> Result<Item, GoodsError>`, in
    /// the order of its description; empty texts for methods whose definition is not known.
    #[idempotent]
    async fn signatures(&self, name: String) -> Option<Vec<String>>;
}

/// `ms.describe` for these services.
pub(crate) fn service(services: &[(String, Arc<dyn Service>)]) -> (String, Arc<dyn Service>) {
    let mut described: Vec<_> =
        services.iter().map(|(name, service)| (describe(name, &**service), service.descriptor())).collect();
    described.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    let service = DescribeServer::new(Described(described));
    (service.descriptor().name.to_owned(), Arc::new(service))
}

fn describe(name: &str, service: &dyn Service) -> ServiceDescription {
    let methods = service.descriptor().methods.iter().map(|method| MethodDescription {
        name: method.name.to_owned(),
        arguments: method.arguments.iter().map(|&argument| argument.to_owned()).collect(),
        idempotent: method.idempotent,
    });
    ServiceDescription { name: name.to_owned(), methods: methods.collect() }
}

struct Described(Vec<(ServiceDescription, &'static Descriptor)>);

impl Describe for Described {
    async fn services(&self) -> Vec<ServiceDescription> {
        self.0.iter().map(|(service, _)| service.clone()).collect()
    }

    async fn service(&self, name: String) -> Option<ServiceDescription> {
        self.0.iter().find(|(service, _)| service.name == name).map(|(service, _)| service.clone())
    }

    async fn signatures(&self, name: String) -> Option<Vec<String>> {
        let (_, descriptor) = self.0.iter().find(|(service, _)| service.name == name)?;
        Some(descriptor.methods.iter().map(|method| method.signature.text().to_owned()).collect())
    }
}
