//! Numbers of connections: of all clients, and of each address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Bounds of connections.
#[derive(Debug)]
pub(crate) struct Admission {
    counts: Mutex<Counts>,
    most: usize,
    most_per_address: usize,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection that counts until this is dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    admission: Arc<Admission>,
    address: IpAddr,
}

impl Admission {
    pub(crate) fn new(most: usize, most_per_address: usize) -> Arc<Self> {
        Arc::new(Self { counts: Mutex::default(), most, most_per_address })
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection, unless there is no room for it: then the reason.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Admitted, &'static str> {
        let mut counts = self.lock();
        if counts.all >= self.most {
            return Err("the gate is full");
        }
        let of_address = counts.by_address.entry(address).or_default();
        if *of_address >= self.most_per_address {
            return Err("too many connections from one address");
        }
        *of_address += 1;
        counts.all += 1;
        Ok(Admitted { admission: self.clone(), address })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut counts = self.admission.lock();
        counts.all -= 1;
        if let Some(of_address) = counts.by_address.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                counts.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_bounds_hold_and_room_comes_back() {
        let admission = Admission::new(3, 2);
        let [a, b]: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        let first = admission.admit(a).unwrap();
        let _second = admission.admit(a).unwrap();
        assert_eq!(admission.admit(a).unwrap_err(), "too many connections from one address");
        let _third = admission.admit(b).unwrap();
        assert_eq!(admission.admit(b).unwrap_err(), "the gate is full");
        drop(first);
        let _again = admission.admit(a).unwrap();
        assert_eq!(admission.lock().by_address.len(), 2);
    }
}
