//! A look at the keys of an object: the values of known ones into slots, the others beside them.

use std::borrow::Cow;
use std::sync::Arc;

use super::plan::{MAX_KEYS, SlotSet};
use crate::json::{Known, Value};
use crate::names::Names;

/// The known keys of an object, each with the number of its slot.
#[derive(Debug)]
pub(super) struct Keys {
    texts: Vec<Box<str>>,
    names: Arc<Names>,
    /// By the number of the name.
    slots: Box<[Option<u8>]>,
}

impl Keys {
    /// Of an object whose keys are all among `names`.
    pub(super) fn new(names: &Arc<Names>, texts: Vec<Box<str>>) -> Self {
        let mut slots = vec![None; names.len()];
        for (slot, text) in (0..).zip(&texts) {
            let number = names.find(text.as_bytes()).expect("names hold the keys of every object");
            slots[usize::from(number)] = Some(slot);
        }
        Self { texts, names: Arc::clone(names), slots: slots.into() }
    }

    pub(super) fn find(&self, text: &str) -> Option<usize> {
        self.slot(self.names.find(text.as_bytes())?)
    }

    /// The slot of a key. What its index did not look for is looked for now.
    #[inline]
    fn slot_of(&self, key: Value<'_>) -> Option<usize> {
        match key.known() {
            Known::Name(number) => self.slot(number),
            Known::Stranger => None,
            Known::Unseen => self.find(&key.key_text()),
        }
    }

    #[inline]
    fn slot(&self, number: u16) -> Option<usize> {
        self.slots[usize::from(number)].map(usize::from)
    }

    pub(super) fn name(&self, slot: usize) -> &str {
        &self.texts[slot]
    }

    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }
}

/// What one look at an object's keys found.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    object: Value<'a>,
    /// The place of each known key's value, if it is [`Scan::present`].
    places: [u32; MAX_KEYS + 1],
    /// The slots whose value is not null.
    pub(super) present: SlotSet,
    /// The keys that are not known, in order.
    pub(super) unknown: Vec<(Cow<'a, str>, Value<'a>)>,
    /// Keys that came more than once; the last value counts, as in most readers.
    pub(super) duplicate_keys: u64,
}

impl Default for Scan<'_> {
    /// As of an object without a key.
    fn default() -> Self {
        Self { object: Value::NULL, places: [0; MAX_KEYS + 1], present: 0, unknown: Vec::new(), duplicate_keys: 0 }
    }
}

impl<'a> Scan<'a> {
    /// `None` if the value is no object.
    pub(super) fn of(keys: &Keys, object: Value<'a>) -> Option<Self> {
        let pairs = object.pairs()?;
        let mut scan = Self { object, ..Self::default() };
        let mut seen: SlotSet = 0;
        for (key, value) in pairs {
            let Some(slot) = keys.slot_of(key) else {
                scan.unknown.push((key.key_text(), value));
                continue;
            };
            let bit = 1 << slot;
            scan.duplicate_keys += u64::from(seen & bit != 0);
            seen |= bit;
            scan.places[slot] = value.place();
            scan.present = if value.is_null() { scan.present & !bit } else { scan.present | bit };
        }
        if scan.unknown.len() > 1 {
            scan.sort_unknown();
        }
        Some(scan)
    }

    fn sort_unknown(&mut self) {
        let before = self.unknown.len();
        // Stable and reversed, so that of equal keys the last one comes first and stays.
        self.unknown.reverse();
        self.unknown.sort_by(|a, b| a.0.cmp(&b.0));
        self.unknown.dedup_by(|later, first| later.0 == first.0);
        self.duplicate_keys += (before - self.unknown.len()) as u64;
    }

    /// The value of a slot, if there is one and it is not null.
    pub(super) fn present(&self, slot: usize) -> Option<Value<'a>> {
        (self.present & (1 << slot) != 0).then(|| self.object.at(self.places[slot]))
    }
}

/// A line whose every escape stands for a character; `None` if one is no escape at all.
///
/// JSON can write half of a surrogate pair, which is no character: no column can hold it, and strict readers refuse a whole
/// query for it. It becomes the six characters that wrote it.
pub(super) fn whole_characters(line: &str) -> Option<Cow<'_, str>> {
    if memchr::memmem::find(line.as_bytes(), b"\\u").is_none() {
        return Some(Cow::Borrowed(line));
    }
    let unit = |at: usize| {
        let digits = line.get(at..at + 6)?.strip_prefix("\\u")?;
        digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
    };
    let mut whole = String::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(found) = line.get(at..).and_then(|rest| memchr::memchr(b'\\', rest.as_bytes())) {
        at += found;
        if line.as_bytes().get(at + 1) != Some(&b'u') {
            at += 2;
            continue;
        }
        let first = unit(at)?;
        let is_pair =
            (0xD800..0xDC00).contains(&first) && unit(at + 6).is_some_and(|second| (0xDC00..0xE000).contains(&second));
        if is_pair {
            at += 12;
            continue;
        }
        if (0xD800..0xE000).contains(&first) {
            whole.push_str(&line[copied..at]);
            whole.push('\\');
            copied = at;
        }
        at += 6;
    }
    if copied == 0 {
        return Some(Cow::Borrowed(line));
    }
    whole.push_str(&line[copied..]);
    Some(Cow::Owned(whole))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::json::Index;

    #[test]
    fn known_keys_are_slots_and_the_last_of_a_key_counts() {
        let names = Arc::new(Names::new(["x", "c", "b", "a"]));
        let keys = Keys::new(&names, ["a", "b", "c"].map(Into::into).into());
        for mut index in [Index::default(), Index::of(names)] {
            let object = index.parse(r#"{"x":1,"b":2,"a":null,"y":3,"b":4,"x":5,"\u0061":6,"c":1,"c":null}"#).unwrap();
            let scan = Scan::of(&keys, object).unwrap();
            assert_eq!(scan.present(0).unwrap().raw(), "6");
            assert_eq!(scan.present(1).unwrap().raw(), "4");
            assert!(scan.present(2).is_none());
            let unknown: Vec<_> = scan.unknown.iter().map(|(key, value)| (key.as_ref(), value.raw())).collect();
            assert_eq!(unknown, [("x", "5"), ("y", "3")]);
            assert_eq!(scan.duplicate_keys, 4);
        }
    }

    #[test]
    fn half_a_character_becomes_what_wrote_it() {
        let whole = |line: &str| whole_characters(line).map(Cow::into_owned);
        for same in [r#"{"a":"\\ud800\n"}"#, r#"{"a":"\ud83d\ude00\u0000"}"#, "{}", r#"{"\\":"u"}"#] {
            assert_eq!(whole(same).as_deref(), Some(same));
        }
        for (line, wanted) in [
            (r#"{"a":"x\ud800"}"#, r#"{"a":"x\\ud800"}"#),
            (r#"{"\uDC00\ud800":"\\\ud83d\ud83d\ude00"}"#, r#"{"\\uDC00\\ud800":"\\\\ud83d\ud83d\ude00"}"#),
            (r#"["\ud800\n","\ud800é"]"#, r#"["\\ud800\n","\\ud800é"]"#),
        ] {
            assert_eq!(whole(line).as_deref(), Some(wanted), "{line}");
            assert!(serde_json::from_str::<serde_json::Value>(wanted).is_ok());
        }
        for broken in [r#"{"a":"\u00zz"}"#, r#"["\ud800\u12"]"#, r#"["\u12é"]"#] {
            assert_eq!(whole(broken), None, "{broken}");
        }
    }
}
