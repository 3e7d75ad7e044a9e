//! Random bytes as a value, so that what a server does can be repeated from a seed.

use std::sync::Arc;

use parking_lot::Mutex;

/// Where random bytes come from. Cheap to clone; clones share the source.
#[derive(Clone, Debug)]
pub struct Random(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Seeded(Arc<Mutex<u64>>),
}

impl Random {
    /// The operating system's.
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// The same bytes for the same seed. For simulation: they can be guessed.
    pub fn seeded(seed: u64) -> Self {
        Self(Source::Seeded(Arc::new(Mutex::new(seed))))
    }

    /// Fills `bytes`.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn fill(&self, bytes: &mut [u8]) -> Result<(), getrandom::Error> {
        match &self.0 {
            Source::System => getrandom::fill(bytes),
            Source::Seeded(state) => {
                let mut state = state.lock();
                for chunk in bytes.chunks_mut(8) {
                    chunk.copy_from_slice(&next(&mut state).to_le_bytes()[..chunk.len()]);
                }
                Ok(())
            }
        }
    }
}

/// The next number of a SplitMix64 generator.
const fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(random: &Random) -> [u8; 11] {
        let mut bytes = [0; 11];
        random.fill(&mut bytes).expect("random bytes");
        bytes
    }

    #[test]
    fn a_seed_repeats_its_bytes_and_clones_share_them() {
        let (one, same, other) = (Random::seeded(1), Random::seeded(1), Random::seeded(2));
        let first = bytes(&one);
        assert_eq!(bytes(&same), first);
        assert_ne!(bytes(&other), first);
        let second = bytes(&one.clone());
        assert_ne!(second, first);
        assert_eq!(bytes(&same), second);
        assert_ne!(bytes(&one), second);
        assert_ne!(bytes(&Random::system()), bytes(&Random::system()));
    }
}
