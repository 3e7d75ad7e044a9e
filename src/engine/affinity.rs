//! Which streams are of one client, so that a stream that comes back finds its ordering keys (docs/behaviour.md,
//! section 7.7).

use std::collections::{BTreeMap, BTreeSet};

use super::input::{ClientId, ConsumerId};
use crate::limits::CONSUMERS_MAX;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Affinity {
    clients: BTreeMap<ConsumerId, ClientId>,
    streams: BTreeSet<(ClientId, ConsumerId)>,
    /// Clients without a stream, and the one that had their keys last.
    away: BTreeMap<ClientId, ConsumerId>,
    /// So many may be away before those are looked through that have no keys any more.
    away_max: usize,
}

impl Affinity {
    /// A stream of this client opens. Returns whose keys it gets.
    pub(super) fn open(&mut self, consumer: ConsumerId, client: ClientId) -> Option<ConsumerId> {
        self.clients.insert(consumer, client);
        self.streams.insert((client, consumer));
        self.away.remove(&client)
    }

    /// A consumer leaves. Returns who gets its keys, if that is known. `has_keys`: whether a consumer has any.
    pub(super) fn close(
        &mut self,
        consumer: ConsumerId,
        has_keys: impl Fn(ConsumerId) -> bool,
    ) -> Option<ConsumerId> {
        let client = self.clients.remove(&consumer)?;
        self.streams.remove(&(client, consumer));
        let all = (client, ConsumerId(0))..=(client, ConsumerId(u64::MAX));
        if let Some((_, heir)) = self.streams.range(all).next() {
            return Some(*heir);
        }
        if has_keys(consumer) {
            self.away.insert(client, consumer);
            if self.away.len() > self.away_max.max(CONSUMERS_MAX) {
                self.away.retain(|_, consumer| has_keys(*consumer));
                self.away_max = self.away.len() * 2;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn stream(number: u64) -> ConsumerId {
        ConsumerId(number)
    }

    #[test]
    fn keys_go_to_a_stream_of_the_client_that_is_there_or_comes() {
        let mut affinity = Affinity::default();
        let (one, other) = (ClientId(7), ClientId(8));
        let always = |_| true;
        for (number, client) in [(1, one), (2, other), (3, one)] {
            assert_eq!(affinity.open(stream(number), client), None);
        }
        assert_eq!(affinity.close(stream(1), always), Some(stream(3)));
        assert_eq!(affinity.close(stream(3), always), None);
        assert_eq!(affinity.close(stream(2), |_| false), None);
        assert_eq!(affinity.open(stream(4), other), None);
        assert_eq!(affinity.open(stream(5), one), Some(stream(3)));
        assert_eq!(affinity.open(stream(6), one), None);
        assert_eq!(affinity.close(stream(9), always), None, "a pull");
    }

    #[test]
    fn clients_that_do_not_come_back_are_forgotten_with_their_keys() {
        let mut affinity = Affinity::default();
        for number in 1..=2 * CONSUMERS_MAX as u64 {
            affinity.open(stream(number), ClientId(number));
            affinity.close(stream(number), |it| it.0 + 5 > number);
        }
        assert!(
            affinity.away.len() <= CONSUMERS_MAX,
            "{}",
            affinity.away.len()
        );
    }
}
