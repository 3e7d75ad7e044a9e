//! Who has which ordering keys, and what of these goes out next.
//!
//! A key belongs to the consumer that has leases of it. What such a consumer may have is in a lane of its own, which
//! outlives it while leases of its keys last: no one else may have it. A lane may be inherited, though.

use std::{collections::BTreeMap, mem};

use super::lane::Lane;
use crate::engine::input::ConsumerId;

#[derive(Debug, Default)]
struct Owner {
    lane: Lane<()>,
    /// Keys that it was the first to have.
    keys: usize,
    /// Who has its lane now.
    heir: Option<ConsumerId>,
    /// Of how many others it is the heir.
    legacies: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Owners(BTreeMap<ConsumerId, Owner>);

impl Owners {
    /// A key belongs to this consumer from now on.
    pub(super) fn bind(&mut self, consumer: ConsumerId) {
        self.0.entry(consumer).or_default().keys += 1;
    }

    /// A key does not belong to this owner any more, or to whom has inherited it.
    pub(super) fn unbind(&mut self, owner: ConsumerId) {
        if let Some(entry) = self.0.get_mut(&owner) {
            entry.keys -= 1;
            self.forget_unused(owner);
        }
    }

    /// Who has the keys of this owner now. What was found once is found at once.
    pub(super) fn find(&mut self, owner: ConsumerId) -> ConsumerId {
        let Some(next) = self.heir(owner) else {
            return owner;
        };
        let mut last = next;
        while let Some(heir) = self.heir(last) {
            last = heir;
        }
        if last != next {
            self.0.entry(owner).or_default().heir = Some(last);
            self.0.entry(last).or_default().legacies += 1;
            self.leave_legacy(next);
        }
        last
    }

    fn heir(&self, owner: ConsumerId) -> Option<ConsumerId> {
        self.0.get(&owner)?.heir
    }

    /// What this consumer may have and no one else.
    pub(super) fn lane(&self, consumer: ConsumerId) -> Option<&Lane<()>> {
        self.0.get(&consumer).map(|owner| &owner.lane)
    }

    /// The lane of keys that belong to this owner.
    pub(super) fn lane_mut(&mut self, owner: ConsumerId) -> &mut Lane<()> {
        let owner = self.find(owner);
        &mut self.0.entry(owner).or_default().lane
    }

    /// Whether keys belong to this consumer.
    pub(super) fn has_keys(&self, consumer: ConsumerId) -> bool {
        self.0.contains_key(&consumer)
    }

    /// All that `from` has belongs to `to` from now on, which has not left. False when that is nothing.
    pub(super) fn inherit(&mut self, from: ConsumerId, to: ConsumerId) -> bool {
        let from = self.find(from);
        if from == to {
            return false;
        }
        let Some(left) = self.0.get_mut(&from) else {
            return false;
        };
        left.heir = Some(to);
        let lane = mem::take(&mut left.lane);
        let heir = self.0.entry(to).or_default();
        heir.lane.merge(lane);
        heir.legacies += 1;
        true
    }

    fn leave_legacy(&mut self, heir: ConsumerId) {
        if let Some(entry) = self.0.get_mut(&heir) {
            entry.legacies -= 1;
            self.forget_unused(heir);
        }
    }

    fn forget_unused(&mut self, owner: ConsumerId) {
        let is_unused = |owner: &Owner| owner.keys == 0 && owner.legacies == 0;
        if self.0.get(&owner).is_some_and(is_unused)
            && let Some(Owner {
                heir: Some(heir), ..
            }) = self.0.remove(&owner)
        {
            self.leave_legacy(heir);
        }
    }
}

#[cfg(test)]
impl Owners {
    pub(super) fn lanes(&self) -> impl Iterator<Item = (ConsumerId, &Lane<()>)> {
        self.0.iter().map(|(owner, it)| (*owner, &it.lane))
    }

    pub(super) fn keys(&self) -> usize {
        self.0.values().map(|owner| owner.keys).sum()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_from_heir_to_heir_and_leave_nothing_behind() {
        let mut owners = Owners::default();
        let id = ConsumerId;
        for owner in [1, 1, 2, 4] {
            owners.bind(id(owner));
        }
        owners.lane_mut(id(1)).insert(7, false, ());
        assert!(owners.inherit(id(1), id(2)) && owners.inherit(id(2), id(3)));
        assert!(!owners.inherit(id(5), id(4)), "it has nothing");
        assert!(owners.inherit(id(3), id(4)));
        assert_eq!(owners.find(id(1)), id(4));
        let lane = owners.lane(id(4)).expect("it has inherited");
        assert_eq!(lane.first_fresh(), Some(7));
        assert_eq!(owners.find(id(2)), id(4));
        assert_eq!(owners.len(), 3, "3 had no keys of its own");
        owners.lane_mut(id(2)).take(7, false);
        for owner in [1, 2, 4, 1] {
            owners.unbind(id(owner));
        }
        assert_eq!(owners.len(), 0);
    }
}
