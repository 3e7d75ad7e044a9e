//! Puts the next message of a key where those find it who may have it.

use super::{Ordered, keys::Offer};
use crate::engine::input::{ConsumerId, LoadedMessage, OrderingKey};

impl Ordered {
    /// Offers the next message of a key to whom may have it, after something of the key has changed.
    pub(super) fn place(&mut self, key: OrderingKey) {
        self.note_head(key);
        let is_holding = self.is_holding();
        let Some(entry) = self.keys.get_mut(key) else {
            return;
        };
        let next = if is_holding { None } else { entry.next_offer() };
        let owner = entry.owner;
        if !entry.is_leased() {
            entry.owner = None;
        }
        let is_unbound = owner.is_some() && !entry.is_leased();
        let is_unsettled = entry.is_unsettled();
        let before = entry.offer;
        if before != next {
            if let Some(before) = before {
                entry.offer = None;
                self.withdraw(owner, before);
            }
            if let Some(next) = next {
                let offer = self.offer(key, owner, next);
                if let Some(entry) = self.keys.get_mut(key) {
                    entry.offer = Some(offer);
                }
            }
        }
        if let Some(owner) = owner.filter(|_| is_unbound) {
            self.owners.unbind(owner);
        }
        if is_unsettled {
            self.keys.settle(key);
        }
    }

    /// Puts a message where those find it who may have it. Returns how it is offered.
    pub(super) fn offer(
        &mut self,
        key: OrderingKey,
        owner: Option<ConsumerId>,
        mut offer: Offer,
    ) -> Offer {
        let Offer {
            offset, is_again, ..
        } = offer;
        if let Some(owner) = owner.filter(|_| !offer.is_free) {
            let heir = self.owners.find(owner);
            let lane = self.owners.lane_mut(heir);
            if offer.is_loaded {
                lane.insert(offset, is_again, ());
                self.offered.push(heir);
            } else {
                lane.insert_unread(offset, is_again);
                self.to_read.insert(heir);
            }
            return offer;
        }
        let body = self.parked.remove(offset);
        if let Some(message) = body.filter(|_| !is_again || !self.is_full_of_again()) {
            self.put_free(message, is_again);
            return offer;
        }
        offer.is_loaded = false;
        if let Some(open) = self.keys.open_mut(key, offset) {
            open.is_loaded = false;
        }
        self.free.insert_unread(offset, is_again);
        offer
    }

    /// Takes an offer back. A body that anybody could have had is parked.
    pub(super) fn withdraw(&mut self, owner: Option<ConsumerId>, offer: Offer) {
        let Offer {
            offset, is_again, ..
        } = offer;
        match owner.filter(|_| !offer.is_free) {
            Some(owner) => {
                let lane = self.owners.lane_mut(owner);
                if offer.is_loaded {
                    lane.take(offset, is_again);
                } else {
                    lane.take_unread(offset);
                }
            }
            None if offer.is_loaded => {
                if let Some(message) = self.take_free(offset, is_again) {
                    self.parked.insert(message);
                }
            }
            None => {
                self.free.take_unread(offset);
            }
        }
    }

    /// Takes the offer of this message back, if there is one.
    pub(super) fn withdraw_if(&mut self, key: OrderingKey, offset: u64) {
        if let Some(entry) = self.keys.get_mut(key)
            && let Some(offer) = entry.offer.filter(|offer| offer.offset == offset)
        {
            let owner = entry.owner;
            entry.offer = None;
            self.withdraw(owner, offer);
        }
    }

    /// Offers a message without a key.
    pub(super) fn offer_free(&mut self, message: LoadedMessage, is_again: bool) {
        if is_again && self.is_full_of_again() {
            self.free.insert_unread(message.offset, is_again);
        } else {
            self.put_free(message, is_again);
        }
    }

    pub(super) fn put_free(&mut self, message: LoadedMessage, is_again: bool) {
        let bytes = message.body.len();
        self.free_bytes += bytes;
        self.again_bytes += if is_again { bytes } else { 0 };
        self.free.insert(message.offset, is_again, message);
    }

    pub(super) fn take_free(&mut self, offset: u64, is_again: bool) -> Option<LoadedMessage> {
        let message = self.free.take(offset, is_again)?;
        let bytes = message.body.len();
        self.free_bytes -= bytes;
        self.again_bytes -= if is_again { bytes } else { 0 };
        Some(message)
    }
}
