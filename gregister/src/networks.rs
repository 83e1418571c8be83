//! Networks that a node may dial.

use std::{net::IpAddr, str::FromStr, sync::Arc};

use ipnet::IpNet;

/// Networks, such as `10.0.0.0/8,192.168.1.7`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Networks(Arc<[IpNet]>);

impl Networks {
    pub(crate) fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// The loopback networks.
impl Default for Networks {
    fn default() -> Self {
        let networks = [
            IpNet::new_assert(IpAddr::from([127, 0, 0, 0]), 8),
            IpNet::new_assert(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1_u16]), 128),
        ];
        Self(networks.into())
    }
}

impl FromStr for Networks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = |part: &str| {
            let part = part.trim();
            let network = part.parse().or_else(|_| part.parse::<IpAddr>().map(IpNet::from));
            network.map_err(|_| format!("{part:?} is no network such as 10.0.0.0/8, and no address"))
        };
        text.split(',').map(parse).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_what_they_say() {
        let networks: Networks = "10.0.0.0/8, 192.168.1.7,fd00::/8".parse().unwrap();
        for (address, inside) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("192.168.1.7", true),
            ("192.168.1.8", false),
            ("127.0.0.1", false),
            ("fd12::1", true),
            ("::ffff:10.0.0.1", true),
            ("::ffff:11.0.0.1", false),
        ] {
            assert_eq!(networks.contain(address.parse().unwrap()), inside, "{address}");
        }
        assert!(Networks::default().contain("127.9.9.9".parse().unwrap()));
        assert!(Networks::default().contain("::1".parse().unwrap()));
        assert!(!Networks::default().contain("10.0.0.1".parse().unwrap()));
        for bad in ["", "10.0.0.0/33", "ten", "10.0.0.0/8,"] {
            assert!(bad.parse::<Networks>().is_err(), "{bad}");
        }
    }
}
