//! One pass over an object: the values of known keys into slots, the others beside them. No tree is built.

use std::borrow::Cow;

use sonic_rs::LazyValue;
use xxhash_rust::xxh3::xxh3_64;

/// The known keys of an object, each with the number of its slot.
#[derive(Debug)]
pub(super) struct Keys {
    names: Vec<Box<str>>,
    /// Open addressing, at most half full; slot number plus one, zero for free.
    table: Box<[u16]>,
}

impl Keys {
    pub(super) fn new(names: Vec<Box<str>>) -> Self {
        let mut keys = Self { table: vec![0; (names.len() * 2).next_power_of_two().max(2)].into(), names: Vec::new() };
        for name in names {
            let mut at = keys.start(&name);
            while keys.table[at] != 0 {
                at = (at + 1) & (keys.table.len() - 1);
            }
            keys.names.push(name);
            keys.table[at] = u16::try_from(keys.names.len()).unwrap_or(u16::MAX);
        }
        keys
    }

    #[allow(clippy::cast_possible_truncation)]
    fn start(&self, name: &str) -> usize {
        xxh3_64(name.as_bytes()) as usize & (self.table.len() - 1)
    }

    pub(super) fn find(&self, name: &str) -> Option<usize> {
        let mut at = self.start(name);
        loop {
            match self.table[at] {
                0 => return None,
                slot if &*self.names[usize::from(slot) - 1] == name => return Some(usize::from(slot) - 1),
                _ => at = (at + 1) & (self.table.len() - 1),
            }
        }
    }

    pub(super) fn name(&self, slot: usize) -> &str {
        &self.names[slot]
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }
}

/// What one pass found.
#[derive(Debug, Default)]
pub(super) struct Scan<'a> {
    pub(super) slots: Vec<Option<LazyValue<'a>>>,
    pub(super) unknown: Vec<(Cow<'a, str>, LazyValue<'a>)>,
    /// Keys that came more than once; the last value counts, as in most readers.
    pub(super) duplicate_keys: u64,
}

impl<'a> Scan<'a> {
    /// `None` if the value is no object.
    pub(super) fn of(keys: &Keys, object: LazyValue<'a>) -> Option<Self> {
        let mut scan = Self::nothing(keys);
        for entry in object.into_object_iter()? {
            let (key, value) = entry.ok()?;
            match keys.find(&key) {
                Some(slot) => scan.duplicate_keys += u64::from(scan.slots[slot].replace(value).is_some()),
                None => scan.unknown.push((key, value)),
            }
        }
        if scan.unknown.len() > 1 {
            scan.sort_unknown();
        }
        Some(scan)
    }

    /// As of an object without a key.
    pub(super) fn nothing(keys: &Keys) -> Self {
        Self { slots: vec![None; keys.len()], ..Self::default() }
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
    pub(super) fn present(&self, slot: usize) -> Option<&LazyValue<'a>> {
        self.slots[slot].as_ref().filter(|value| !super::value::is_null(value))
    }
}

/// The value of one key of an object.
pub(super) fn lookup<'a>(object: &LazyValue<'a>, key: &str) -> Option<LazyValue<'a>> {
    let mut found = None;
    for entry in object.clone().into_object_iter()? {
        let (name, value) = entry.ok()?;
        if name == key {
            found = Some(value);
        }
    }
    found
}

/// The elements of an array; `None` if the value is none.
pub(super) fn elements<'a>(array: &LazyValue<'a>) -> Option<Vec<LazyValue<'a>>> {
    array.clone().into_array_iter()?.collect::<Result<_, _>>().ok()
}

/// Whether the nesting of a line stays within `limit`, told without recursion.
pub(crate) fn within_depth(line: &str, limit: usize) -> bool {
    // Most lines have fewer brackets than the limit allows levels.
    if memchr::memchr2_iter(b'{', b'[', line.as_bytes()).take(limit + 1).count() <= limit {
        return true;
    }
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in line.bytes() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > limit {
                    return false;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
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

    #[test]
    fn known_keys_are_slots_and_the_last_of_a_key_counts() {
        let keys = Keys::new(["a", "b", "c"].map(Into::into).into());
        let object = sonic_rs::from_str(r#"{"x":1,"b":2,"a":null,"y":3,"b":4,"x":5,"\u0061":6}"#).unwrap();
        let scan = Scan::of(&keys, object).unwrap();
        assert_eq!(scan.present(0).unwrap().as_raw_str(), "6");
        assert_eq!(scan.present(1).unwrap().as_raw_str(), "4");
        assert!(scan.present(2).is_none());
        let unknown: Vec<_> = scan.unknown.iter().map(|(key, value)| (key.as_ref(), value.as_raw_str())).collect();
        assert_eq!(unknown, [("x", "5"), ("y", "3")]);
        assert_eq!(scan.duplicate_keys, 3);
    }

    #[test]
    fn depth_ignores_brackets_in_text() {
        assert!(within_depth(r#"{"a":"[[[[[[","b":[{"c":1}]}"#, 3));
        assert!(!within_depth(r#"{"a":[[[1]]]}"#, 3));
        assert!(within_depth(&"[]".repeat(1000), 3));
        assert!(!within_depth(&"[".repeat(1_000_000), 256));
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
