//! How many connections each address holds, so that one client cannot take all places.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mastio_authority::limits::network;

/// The open connections of a listener by network: an IPv6 client has a whole /64.
#[derive(Debug)]
pub(crate) struct Crowd {
    most: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// A place that a connection holds until this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    crowd: Arc<Crowd>,
    network: IpAddr,
}

impl Crowd {
    /// At most `most` connections for each.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, open: Mutex::default() })
    }

    /// A place for one more connection from `address`, if there is one.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let network = network(address);
        let mut open = self.open();
        let count = open.entry(network).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place { crowd: Arc::clone(self), network })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.crowd.open();
        if let Some(count) = open.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_its_places_and_gets_them_back() {
        let crowd = Crowd::new(2);
        let admit = |address: &str| crowd.admit(address.parse().unwrap());
        let (one, two) = (admit("2001:db8::1"), admit("2001:db8::ffff:1"));
        assert!(one.is_some() && two.is_some());
        assert!(admit("2001:db8::2").is_none(), "the same /64");
        assert!(admit("2001:db8:0:1::1").is_some() && admit("198.51.100.7").is_some());
        drop(one);
        assert!(admit("2001:db8::2").is_some());
        let mapped = (admit("::ffff:203.0.113.1"), admit("203.0.113.1"));
        assert!(admit("203.0.113.1").is_none(), "an address has one form");
        drop(two);
        drop(mapped);
        assert!(crowd.open().is_empty(), "nothing is kept of who is gone");
    }
}
