//! How many connections there may be, and which of them has to go when there are too many: one that has not shown yet
//! which protocol it speaks. Clients say that at once, so the oldest of these is the least likely to be one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use super::refusing::{Cause, Refusing};
use crate::limits::{
    CONNECTIONS_MAX, DESCRIPTORS_RESERVED, SILENT_PER_ADDRESS_MAX, SILENT_PER_ADDRESS_SHARE,
};

/// The connections of all listeners.
#[derive(Debug)]
pub(super) struct Admission {
    slots: Arc<Semaphore>,
    connections_max: usize,
    pub(super) silent_per_address_max: usize,
    silent: Mutex<Silent>,
    refusing: Refusing,
}

/// Those whose protocol is not known yet, in the order in which they came.
#[derive(Debug, Default)]
struct Silent {
    last_number: u64,
    by_number: BTreeMap<u64, (IpAddr, CancellationToken)>,
    by_address: HashMap<IpAddr, BTreeSet<u64>>,
}

impl Admission {
    /// For a process that may have so many descriptors.
    pub(super) fn new(descriptors: u64) -> Self {
        let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
        let reserved = DESCRIPTORS_RESERVED.min(descriptors / 2);
        Self::of(CONNECTIONS_MAX.min(descriptors - reserved).max(1))
    }

    fn of(connections_max: usize) -> Self {
        let share = (connections_max / SILENT_PER_ADDRESS_SHARE).max(1);
        Self {
            slots: Arc::new(Semaphore::new(connections_max)),
            connections_max,
            silent_per_address_max: SILENT_PER_ADDRESS_MAX.min(share),
            silent: Mutex::default(),
            refusing: Refusing::default(),
        }
    }

    /// Whether connections are refused, for the log.
    pub(super) fn refusing(&self) -> &Refusing {
        &self.refusing
    }

    /// Takes a connection of `address` in, once there is room for one more.
    pub(super) async fn admit(self: &Arc<Self>, address: IpAddr) -> Admitted {
        let slot = if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            slot
        } else {
            self.refusing.refused(&Cause::Full(self.connections_max));
            self.silent.lock().close_oldest(None);
            let slot = Arc::clone(&self.slots).acquire_owned().await;
            slot.expect("the semaphore is never closed")
        };
        let address = counted_as(address);
        let closed = CancellationToken::new();
        let mut silent = self.silent.lock();
        let of_address = silent.by_address.get(&address).map_or(0, BTreeSet::len);
        if of_address >= self.silent_per_address_max {
            self.refusing.refused(&Cause::Address(address, of_address));
            silent.close_oldest(Some(address));
        }
        let number = silent.add(address, closed.clone());
        drop(silent);
        Admitted {
            slot,
            silent: StillSilent {
                admission: Arc::clone(self),
                number,
                closed,
            },
        }
    }

    /// Gives a descriptor back, if there is one to spare: the machine has none for a new connection.
    pub(super) fn machine_refuses(&self, error: &io::Error) {
        self.refusing.refused(&Cause::Machine(error));
        self.silent.lock().close_oldest(None);
    }
}

/// An attacker has as many addresses of IPv6 as its network has, so all of one network count as one.
fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

impl Silent {
    fn add(&mut self, address: IpAddr, closed: CancellationToken) -> u64 {
        self.last_number += 1;
        let number = self.last_number;
        self.by_number.insert(number, (address, closed));
        self.by_address.entry(address).or_default().insert(number);
        number
    }

    fn remove(&mut self, number: u64) -> Option<CancellationToken> {
        let (address, closed) = self.by_number.remove(&number)?;
        if let Some(numbers) = self.by_address.get_mut(&address) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.by_address.remove(&address);
            }
        }
        Some(closed)
    }

    /// Closes the oldest one, of that address or of all.
    fn close_oldest(&mut self, address: Option<IpAddr>) {
        let oldest = match address {
            Some(address) => self.by_address.get(&address).and_then(BTreeSet::first),
            None => self.by_number.keys().next(),
        };
        if let Some(&number) = oldest
            && let Some(closed) = self.remove(number)
        {
            closed.cancel();
        }
    }
}

/// A connection that may be there. It counts until the slot is dropped.
pub(super) struct Admitted {
    pub(super) slot: OwnedSemaphorePermit,
    /// To be dropped once the connection's protocol is known.
    pub(super) silent: StillSilent,
}

/// A connection whose protocol is not known yet.
pub(super) struct StillSilent {
    admission: Arc<Admission>,
    number: u64,
    closed: CancellationToken,
}

impl StillSilent {
    /// Waits until it has to make room for another connection.
    pub(super) fn closed(&self) -> WaitForCancellationFuture<'_> {
        self.closed.cancelled()
    }
}

impl Drop for StillSilent {
    fn drop(&mut self) {
        self.admission.silent.lock().remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn admit(admission: &Arc<Admission>, from: &str) -> Admitted {
        let admitted = admission.admit(address(from)).now_or_never();
        admitted.expect("there is room")
    }

    fn is_closed(admitted: &Admitted) -> bool {
        admitted.silent.closed().now_or_never().is_some()
    }

    #[test]
    fn descriptors_bound_the_connections() {
        assert_eq!(Admission::new(1024).connections_max, 768);
        assert_eq!(Admission::new(300).connections_max, 150);
        assert_eq!(Admission::new(1_000_000).connections_max, CONNECTIONS_MAX);
        assert_eq!(Admission::new(u64::MAX).connections_max, CONNECTIONS_MAX);
        assert_eq!(Admission::new(0).connections_max, 1);
    }

    #[test]
    fn the_oldest_silent_connection_of_an_address_goes_when_it_has_too_many() {
        let admission = Arc::new(Admission::of(8));
        let other = admit(&admission, "10.0.0.2");
        let speaking = admit(&admission, "10.0.0.1");
        let Admitted { slot, silent } = speaking;
        drop(silent);
        let first = admit(&admission, "10.0.0.1");
        let second = admit(&admission, "::ffff:10.0.0.1");
        assert!(!is_closed(&first) && !admission.refusing.is_refusing());
        let third = admit(&admission, "10.0.0.1");
        assert!(is_closed(&first) && admission.refusing.is_refusing());
        let fourth = admit(&admission, "10.0.0.1");
        assert!(is_closed(&second), "each makes room for one");
        for open in [&third, &fourth, &other] {
            assert!(!is_closed(open));
        }
        drop(slot);
    }

    #[test]
    fn all_addresses_of_a_network_count_as_one() {
        let admission = Arc::new(Admission::of(4));
        let first = admit(&admission, "2001:db8::1");
        let other = admit(&admission, "2001:db8:0:1::1");
        let _second = admit(&admission, "2001:db8::2:3");
        assert!(is_closed(&first) && !is_closed(&other));
    }

    #[test]
    fn where_there_are_too_many_the_oldest_silent_one_makes_room() {
        let admission = Arc::new(Admission::of(4));
        let mut speaking = Vec::new();
        for host in 1..=2 {
            let Admitted { slot, silent } = admit(&admission, &format!("10.0.0.{host}"));
            drop(silent);
            speaking.push(slot);
        }
        let third = admit(&admission, "10.0.0.3");
        let fourth = admit(&admission, "10.0.0.4");
        let fifth = admission.admit(address("10.0.0.5"));
        let mut fifth = std::pin::pin!(fifth);
        assert!(fifth.as_mut().now_or_never().is_none(), "none has left yet");
        assert!(is_closed(&third) && !is_closed(&fourth));
        drop(third);
        let fifth = fifth.now_or_never().expect("there is room");
        // Those that speak are not closed: a further one waits for one of them.
        drop((fifth.silent, fourth.silent));
        let mut sixth = std::pin::pin!(admission.admit(address("10.0.0.6")));
        assert!(sixth.as_mut().now_or_never().is_none());
        speaking.pop();
        assert!(sixth.now_or_never().is_some());
        drop((fifth.slot, fourth.slot));
    }
}
