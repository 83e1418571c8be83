use std::{collections::BTreeMap, fmt, net::IpAddr, str::FromStr, sync::Arc};

use crate::RegisterError;

/// The name of a service: 1 to 128 characters of `[A-Za-z0-9._:-]`.
///
/// Names that begin with `ms.` belong to the framework (`ms.describe`): servers do not register them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName(Arc<str>);

impl ServiceName {
    /// Checks `name`.
    ///
    /// # Errors
    /// [`RegisterError::InvalidName`] says which rule is broken.
    pub fn new(name: impl AsRef<str>) -> Result<Self, RegisterError> {
        let name = name.as_ref();
        check_name(name).map_err(|reason| RegisterError::InvalidName { name: name.to_owned(), reason })?;
        Ok(Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns true if the framework owns this name.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with("ms.")
    }
}

impl FromStr for ServiceName {
    type Err = RegisterError;

    fn from_str(name: &str) -> Result<Self, RegisterError> {
        Self::new(name)
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One running server of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    id: Arc<str>,
    host: Arc<str>,
    port: u16,
    weight: f64,
    metadata: BTreeMap<String, String>,
}

impl Instance {
    /// The weight of an instance that says nothing about it.
    pub const DEFAULT_WEIGHT: f64 = 1.0;

    /// An instance at `host:port` (a name or an address without brackets), with that as its id, weight 1 and no
    /// metadata.
    pub fn new(host: impl AsRef<str>, port: u16) -> Self {
        let host = host.as_ref();
        Self {
            id: format!("{host}:{port}").into(),
            host: host.into(),
            port,
            weight: Self::DEFAULT_WEIGHT,
            metadata: BTreeMap::new(),
        }
    }

    /// Parses `host:port` or `[v6]:port`.
    ///
    /// # Errors
    /// [`RegisterError::InvalidInstance`] when there is no port or no host.
    pub fn from_address(address: &str) -> Result<Self, RegisterError> {
        let invalid = || RegisterError::InvalidInstance {
            instance: address.to_owned(),
            reason: "an address is `host:port`, or `[v6 address]:port`".to_owned(),
        };
        let (host, port) = address.rsplit_once(':').ok_or_else(invalid)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or_else(invalid)?,
            None if host.contains(':') => return Err(invalid()),
            None => host,
        };
        let port = port.parse().map_err(|_| invalid())?;
        if host.is_empty() || host.contains(['[', ']']) || port == 0 {
            return Err(invalid());
        }
        Ok(Self::new(host, port))
    }

    /// Replaces the id. It must be unique among the instances of the service.
    #[must_use]
    pub fn with_id(mut self, id: impl AsRef<str>) -> Self {
        self.id = id.as_ref().into();
        self
    }

    /// Replaces the weight: the share of calls relative to the other instances.
    #[must_use]
    pub fn with_weight(mut self, weight: f64) -> Self {
        self.weight = weight;
        self
    }

    /// Adds one pair of metadata. The keys `weight` and those that begin with `ms.` are taken.
    #[must_use]
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Unique among the instances of its service.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A host name or an IP address (IPv6 without brackets).
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`, as it can be dialled; an IPv6 address stands in brackets.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The share of calls relative to the other instances; 0 (only others can write it) is never picked.
    pub fn weight(&self) -> f64 {
        self.weight
    }

    /// The instance's own words about itself.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Checks that this instance may be published.
    ///
    /// # Errors
    /// [`RegisterError::InvalidInstance`] for an illegal id, a host that peers cannot dial (`0.0.0.0`, `::`), port 0,
    /// a weight that is not above 0 and finite, or a metadata key that is taken.
    pub fn check(&self) -> Result<(), RegisterError> {
        self.broken_rule()
            .map_or(Ok(()), |reason| Err(RegisterError::InvalidInstance { instance: self.id.to_string(), reason }))
    }

    /// Returns true if the host is an address such as `0.0.0.0`: each machine takes it for itself.
    pub(crate) fn is_unspecified(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_unspecified())
    }

    fn broken_rule(&self) -> Option<String> {
        if let Err(reason) = check_name(&self.id) {
            return Some(format!("its id: {reason}"));
        }
        if self.host.is_empty() {
            return Some("it has no host".to_owned());
        }
        if self.is_unspecified() {
            return Some(format!(
                "peers cannot dial {}: advertise an address of this machine that they can reach",
                self.host
            ));
        }
        if self.port == 0 {
            return Some("its port is 0: give the port that the server listens on".to_owned());
        }
        if !(self.weight.is_finite() && self.weight > 0.0) {
            return Some(format!(
                "its weight is {}: give a number above 0, or deregister it to take it out of service",
                self.weight
            ));
        }
        let is_taken = |(key, value): &(&String, &String)| match key.as_str() {
            "weight" => true,
            "ms.tls" => !["required", "permissive"].contains(&value.as_str()),
            key => key.starts_with("ms."),
        };
        let (taken, _) = self.metadata.iter().find(is_taken)?;
        Some(format!("the metadata key `{taken}` is taken: use another, or `with_weight`"))
    }
}

fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("it is empty".to_owned());
    }
    if name.len() > 128 {
        return Err(format!("it has {} bytes, at most 128 are allowed", name.len()));
    }
    // Clients of HTTP and file systems take them out of paths (RFC 3986, section 5.2.4).
    if matches!(name, "." | "..") {
        return Err("it names a folder: use at least one letter or digit".to_owned());
    }
    match name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-'))) {
        Some(c) => Err(format!("it has {c:?}, only letters, digits and . _ : - are allowed")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule() {
        for good in ["goods", "goods.v2", "a", "A-b_c:d", &"x".repeat(128)] {
            assert_eq!(ServiceName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a/b", "../x", "goods ", "é", &"x".repeat(129)] {
            assert!(ServiceName::new(bad).is_err(), "{bad:?}");
        }
        assert!(ServiceName::new("ms.describe").unwrap().is_reserved());
    }

    #[test]
    fn addresses_parse_and_print() {
        for (text, host) in [("127.0.0.1:80", "127.0.0.1"), ("[::1]:80", "::1"), ("goods.local:80", "goods.local")] {
            let instance = Instance::from_address(text).unwrap();
            assert_eq!((instance.host(), instance.port(), instance.address().as_str()), (host, 80, text));
            instance.check().unwrap();
        }
        for bad in ["", "host", ":80", "::1:80", "host:0", "host:99999", "[::1:80", "[[::1]:80", "[[::1]]:80", "a]:80"]
        {
            assert!(Instance::from_address(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_peers_cannot_use_is_refused() {
        let good = Instance::new("10.0.0.1", 80);
        for bad in [
            Instance::new("0.0.0.0", 80),
            Instance::new("::", 80).with_id("x"),
            Instance::new("", 80),
            Instance::new("10.0.0.1", 0),
            good.clone().with_id("a/b"),
            good.clone().with_weight(0.0),
            good.clone().with_weight(-1.0),
            good.clone().with_weight(f64::NAN),
            good.clone().with_weight(f64::INFINITY),
            good.clone().with_metadata("weight", "2"),
            good.clone().with_metadata("ms.id", "2"),
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
        good.check().unwrap();
    }
}
