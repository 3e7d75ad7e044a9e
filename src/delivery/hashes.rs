//! What ordering keys and clients are hashed with.

use std::hash::BuildHasher;

use siphasher::sip::SipHasher13;

/// Hashes under the secret of the store, so that nobody can choose two that are taken for one. They stay in memory, and
/// are the same at each start: what a server does can be repeated.
#[derive(Clone)]
pub(super) struct Hashes(SipHasher13);

impl Hashes {
    /// Under this secret.
    pub(super) fn new(secret: &[u8; 16]) -> Self {
        Self(SipHasher13::new_with_key(secret))
    }
}

impl BuildHasher for Hashes {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        self.0
    }
}
