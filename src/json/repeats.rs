//! Objects that stand in text after text, as the author does in each message: where the values of one are is worked out once.

use xxhash_rust::xxh3::xxh3_64;

use super::{MAX_DEPTH, MAX_VALUES, Place, short};

/// Objects remembered, each where its first bytes say.
const SLOTS: usize = 512;
/// First bytes by which an object is looked for: the id of a user is among them.
const HEAD_BYTES: usize = 64;
/// What is remembered of an object at most, which bounds all of them to 2 MiB.
const MAX_BYTES: usize = 2 << 10;
const MAX_PLACES: usize = 128;

/// The objects that came last.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    slots: Vec<Repeat>,
}

#[derive(Clone, Debug, Default)]
struct Repeat {
    text: Vec<u8>,
    /// Counted from the beginning of the object, and from the first of them.
    places: Vec<Place>,
}

impl Repeats {
    /// If a remembered object stands at `at`, adds its places to those of the text: where it ends.
    pub(super) fn take(&self, bytes: &[u8], at: usize, depth: usize, places: &mut Vec<Place>) -> Option<usize> {
        let rest = &bytes[at..];
        let repeat = self.slots.get(slot(rest)?)?;
        let stands_here = !repeat.text.is_empty() && rest.starts_with(&repeat.text);
        // No object is deeper than it has places.
        let is_bounded = depth + repeat.places.len() <= MAX_DEPTH && places.len() + repeat.places.len() <= MAX_VALUES;
        if !(stands_here && is_bounded) {
            return None;
        }
        let (start, first) = (short(at), short(places.len()));
        places.extend(repeat.places.iter().map(|place| place.moved(start, first)));
        Some(at + repeat.text.len())
    }

    /// Remembers the object that begins at `start`, whose places are the last ones.
    pub(super) fn put(&mut self, object: &[u8], start: usize, places: &[Place], first: usize) {
        let places = &places[first..];
        let Some(slot) = slot(object).filter(|_| object.len() <= MAX_BYTES && places.len() <= MAX_PLACES) else {
            return;
        };
        if self.slots.is_empty() {
            self.slots.resize(SLOTS, Repeat::default());
        }
        let repeat = &mut self.slots[slot];
        repeat.text.clear();
        repeat.text.extend_from_slice(object);
        let (start, first) = (short(start).wrapping_neg(), short(first).wrapping_neg());
        repeat.places.clear();
        repeat.places.extend(places.iter().map(|place| place.moved(start, first)));
    }
}

/// Where an object that begins like this is remembered; none if it is too short to be worth it.
#[allow(clippy::cast_possible_truncation)]
fn slot(object: &[u8]) -> Option<usize> {
    Some(xxh3_64(object.get(..HEAD_BYTES)?) as usize % SLOTS)
}
