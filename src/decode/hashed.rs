//! Sets and maps whose keys are hashes already.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// A map by hashes of 64 bits.
pub(super) type HashedMap<V> = HashMap<u64, V, BuildHasherDefault<AsIs>>;
/// A set of hashes of 128 bits.
pub(super) type HashedSet = HashSet<u128, BuildHasherDefault<AsIs>>;

/// Takes a hash for its hash.
#[derive(Debug, Default)]
pub(super) struct AsIs(u64);

impl Hasher for AsIs {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    #[allow(clippy::cast_possible_truncation)]
    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
