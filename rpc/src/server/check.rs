//! Checks of a server before it starts.

use std::{collections::HashSet, sync::Arc};

use ms_register::ServiceName;

use super::{Server, ServerError};
use crate::Service;

impl Server {
    /// Checks names and limits; returns the services to register.
    pub(crate) fn check(&self) -> Result<Vec<ServiceName>, ServerError> {
        self.limits.check()?;
        self.encodings.check().map_err(ServerError::Encoding)?;
        #[cfg(feature = "tls")]
        self.check_tls()?;
        self.check_protocols()?;
        self.check_services()
    }

    fn check_services(&self) -> Result<Vec<ServiceName>, ServerError> {
        let mut seen = HashSet::new();
        let check = |(name, service): &(String, Arc<dyn Service>)| {
            let invalid = |reason: &str| ServerError::Service { name: name.clone(), reason: reason.to_owned() };
            let checked = ServiceName::new(name)?;
            if checked.is_reserved() {
                return Err(invalid("names that begin with `ms.` belong to the framework: choose another"));
            }
            if !seen.insert(name.clone()) {
                return Err(invalid("it is served twice: give one of them another name with `serve_as`"));
            }
            let mut methods = HashSet::new();
            match service.descriptor().methods.iter().find(|method| !methods.insert(method.name)) {
                Some(method) => Err(invalid(&format!("its method `{}` is there twice", method.name))),
                None => Ok(checked),
            }
        };
        let names = self.services.iter().map(check).collect::<Result<_, _>>()?;
        self.check_limits()?;
        self.check_security()?;
        Ok(names)
    }

    /// A limit on a misspelt name would be no limit.
    fn check_limits(&self) -> Result<(), ServerError> {
        let served = |service: &str| self.services.iter().find(|(name, _)| name == service).map(|(_, served)| served);
        let invalid = |name: &str, reason: String| Err(ServerError::Service { name: name.to_owned(), reason });
        for service in self.rates.services.keys() {
            if served(service).is_none() {
                return invalid(service, "it has a rate limit and is not served: correct the name".to_owned());
            }
        }
        for (service, method) in self.rates.methods.keys() {
            let methods = served(service).map(|served| served.descriptor().methods).unwrap_or_default();
            if !methods.iter().any(|known| known.name == method) {
                return invalid(
                    service,
                    format!("`{method}` has a rate limit and is no method of it: correct the name"),
                );
            }
        }
        Ok(())
    }
}
