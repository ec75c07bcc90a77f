//! An export of version 1 taken apart while it arrives: `[{"channel": {...}, "messages": [...], "members": [...]}, ...]`.
//!
//! A channel may be one element of gigabytes, so its lists are never held: each of their items comes out by itself, with the key
//! of its list. Elements that begin otherwise come out whole. Only brackets and quotes are looked at; whether an item is JSON
//! is for whoever takes it.

use memchr::memchr2;

use crate::ndjson::{KEPT_BYTES, Line};

/// How much of an item that is too long is kept for the report.
const HEAD_BYTES: usize = 4096;

/// The longest key of an element.
const MAX_KEY_BYTES: usize = 1024;

/// A value from inside the array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// The element of the array that it is from, counted from 1.
    pub element: u64,
    /// The key that it, or the list that it is an item of, stands under; none for a whole element.
    pub key: Option<&'a str>,
    /// The value, with its number among all of them.
    pub line: Line<'a>,
}

/// Why a file is not such an array.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokenArray {
    /// A byte that may not stand where it does.
    #[error("byte {offset} of its array of channels is `{}`, where {wanted} should be", char::from(*found).escape_default())]
    Unexpected {
        /// Where it is.
        offset: u64,
        /// The byte.
        found: u8,
        /// What should be there.
        wanted: &'static str,
    },
    /// The end, before the end of the array.
    #[error("its array of channels ends in the middle of element {element}")]
    Cut {
        /// The element, counted from 1.
        element: u64,
    },
}

/// Whether a file that begins with these bytes is an array, as far as they tell.
pub fn is_array(head: &[u8]) -> bool {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    head.trim_ascii_start().first() == Some(&b'[')
}

/// Cuts chunks into [`Part`]s.
#[derive(Debug)]
pub struct ArraySplitter {
    max_item_bytes: usize,
    at: At,
    scan: Scan,
    held: Vec<u8>,
    /// Bytes of the value so far, of which `held` may have only the first.
    length: u64,
    /// Where the value begins.
    begin: u64,
    key: String,
    raw_key: Vec<u8>,
    element: u64,
    number: u64,
    offset: u64,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Start,
    Element { may_end: bool },
    Whole,
    ElementEnd,
    Key { may_end: bool },
    InKey { is_first: bool, escaped: bool },
    Colon,
    ValueStart,
    Value,
    ValueEnd,
    ItemStart { may_end: bool },
    Item,
    ItemEnd,
}

/// Where in a value the bytes so far have led.
#[derive(Clone, Copy, Debug, Default)]
struct Scan {
    depth: u32,
    in_string: bool,
    escaped: bool,
    is_scalar: bool,
}

impl Scan {
    /// How many of these bytes belong to the value, and whether it ends with them.
    fn take(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut at = 0;
        while at < bytes.len() {
            if self.escaped {
                self.escaped = false;
                at += 1;
            } else if self.in_string {
                let Some(next) = memchr2(b'"', b'\\', &bytes[at..]) else { return (bytes.len(), false) };
                at += next + 1;
                self.escaped = bytes[at - 1] == b'\\';
                self.in_string = self.escaped;
                if !self.in_string && self.depth == 0 {
                    return (at, true);
                }
            } else {
                match bytes[at] {
                    b'"' if !self.is_scalar => self.in_string = true,
                    b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                    b'}' | b']' if self.depth > 0 => {
                        self.depth -= 1;
                        if self.depth == 0 {
                            return (at + 1, true);
                        }
                    }
                    b'}' | b']' | b',' | b' ' | b'\n' | b'\r' | b'\t' if self.depth == 0 => return (at, true),
                    _ => self.is_scalar |= self.depth == 0,
                }
                at += 1;
            }
        }
        (at, false)
    }
}

impl ArraySplitter {
    /// A splitter that holds at most one item of `max_item_bytes`.
    pub fn new(max_item_bytes: usize) -> Self {
        Self {
            max_item_bytes,
            at: At::Start,
            scan: Scan::default(),
            held: Vec::new(),
            length: 0,
            begin: 0,
            key: String::new(),
            raw_key: Vec::new(),
            element: 0,
            number: 0,
            offset: 0,
        }
    }

    /// Hands every value that ends in `chunk` to `each`, and stops at the first error.
    pub fn push<E: From<BrokenArray>>(
        &mut self,
        chunk: &[u8],
        mut each: impl FnMut(Part<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = chunk;
        while let Some(&byte) = rest.first() {
            let used = match self.at {
                At::Whole | At::Value | At::Item => self.value(rest, &mut each)?,
                At::InKey { is_first, escaped } => {
                    self.key_byte(byte, is_first, escaped)?;
                    1
                }
                At::Key { may_end: true } if byte.is_ascii_whitespace() && self.length > 0 => {
                    self.hold(&[byte]);
                    1
                }
                _ if byte.is_ascii_whitespace() || (self.at == At::Start && b"\xef\xbb\xbf".contains(&byte)) => 1,
                _ => self.step(byte)?,
            };
            self.offset += used as u64;
            rest = &rest[used..];
        }
        Ok(())
    }

    /// The end of the file.
    pub fn finish(self) -> Result<(), BrokenArray> {
        if self.at == At::Start { Ok(()) } else { Err(BrokenArray::Cut { element: self.element.max(1) }) }
    }

    /// Bytes of the value that has begun.
    pub fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// A byte between values. Yields how many bytes it took: none where a value begins.
    fn step(&mut self, byte: u8) -> Result<usize, BrokenArray> {
        let (at, used) = match (self.at, byte) {
            (At::Start, b'[') => (At::Element { may_end: true }, 1),
            (At::Element { may_end: true }, b']') | (At::ElementEnd, b']') => (At::Start, 1),
            (At::Element { .. }, b'{') => {
                self.begin_element();
                self.hold(b"{");
                (At::Key { may_end: true }, 1)
            }
            (At::Element { .. }, _) if !b",]}:".contains(&byte) => {
                self.begin_element();
                self.scan = Scan::default();
                (At::Whole, 0)
            }
            (At::ElementEnd, b',') => (At::Element { may_end: false }, 1),
            (At::Key { .. }, b'"') => {
                self.raw_key.clear();
                self.raw_key.push(b'"');
                (At::InKey { is_first: self.length > 0, escaped: false }, 1)
            }
            (At::Key { may_end: true }, b'}') if self.length > 0 => {
                self.scan = Scan { depth: 1, ..Scan::default() };
                (At::Whole, 0)
            }
            (At::ValueEnd, b'}') => (At::ElementEnd, 1),
            (At::Colon, b':') => (At::ValueStart, 1),
            (At::ValueStart, b'[') if is_list(&self.key) => (At::ItemStart { may_end: true }, 1),
            (At::ItemStart { may_end: true }, b']') | (At::ItemEnd, b']') => (At::ValueEnd, 1),
            (At::ValueStart | At::ItemStart { .. }, _) if !b",]}:".contains(&byte) => {
                let at = if self.at == At::ValueStart { At::Value } else { At::Item };
                self.begin_value();
                (at, 0)
            }
            (At::ValueEnd, b',') => (At::Key { may_end: false }, 1),
            (At::ItemEnd, b',') => (At::ItemStart { may_end: false }, 1),
            (at, found) => return Err(BrokenArray::Unexpected { offset: self.offset, found, wanted: at.wanted() }),
        };
        self.at = at;
        Ok(used)
    }

    fn begin_element(&mut self) {
        self.element += 1;
        self.begin_value();
    }

    fn begin_value(&mut self) {
        self.scan = Scan::default();
        self.begin = self.offset;
        self.length = 0;
        self.held.clear();
    }

    fn key_byte(&mut self, byte: u8, is_first: bool, escaped: bool) -> Result<(), BrokenArray> {
        self.raw_key.push(byte);
        if self.raw_key.len() > MAX_KEY_BYTES {
            return Err(BrokenArray::Unexpected { offset: self.offset, found: byte, wanted: "the end of a key" });
        }
        self.at = match byte {
            _ if escaped => At::InKey { is_first, escaped: false },
            b'\\' => At::InKey { is_first, escaped: true },
            b'"' => {
                self.key = serde_json::from_slice(&self.raw_key)
                    .unwrap_or_else(|_| String::from_utf8_lossy(&self.raw_key).into_owned());
                if is_first && !is_of_channel(&self.key) {
                    let raw_key = std::mem::take(&mut self.raw_key);
                    self.hold(&raw_key);
                    self.raw_key = raw_key;
                    self.scan = Scan { depth: 1, ..Scan::default() };
                    At::Whole
                } else {
                    self.length = 0;
                    self.held.clear();
                    At::Colon
                }
            }
            _ => At::InKey { is_first, escaped: false },
        };
        Ok(())
    }

    /// Bytes of a value. Yields how many of them are its.
    fn value<E: From<BrokenArray>>(
        &mut self,
        bytes: &[u8],
        each: &mut impl FnMut(Part<'_>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let (used, ends) = self.scan.take(bytes);
        let is_all = self.length == 0 && ends && used <= self.max_item_bytes;
        if !is_all {
            self.hold(&bytes[..used]);
        }
        if ends {
            self.number += 1;
            let length = if is_all { used as u64 } else { self.length };
            let value = if is_all { &bytes[..used] } else { &self.held };
            let line = Line { number: self.number, offset: self.begin, length, bytes: value };
            let key = (self.at != At::Whole).then_some(self.key.as_str());
            each(Part { element: self.element, key, line })?;
            self.length = 0;
            self.held.clear();
            self.held.shrink_to(KEPT_BYTES);
            self.at = match self.at {
                At::Item => At::ItemEnd,
                At::Value => At::ValueEnd,
                _ => At::ElementEnd,
            };
        }
        Ok(used)
    }

    fn hold(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        if self.length <= self.max_item_bytes as u64 {
            self.held.extend_from_slice(bytes);
        } else {
            let head = HEAD_BYTES.min(self.max_item_bytes);
            let missing = head.saturating_sub(self.held.len()).min(bytes.len());
            self.held.extend_from_slice(&bytes[..missing]);
            self.held.truncate(head);
            self.held.shrink_to(head);
        }
    }
}

impl At {
    fn wanted(self) -> &'static str {
        match self {
            Self::Start => "an array, or nothing",
            Self::Element { .. } => "an element",
            Self::Key { .. } => "a key",
            Self::Colon => "a colon",
            Self::ValueStart | Self::ItemStart { .. } => "a value",
            Self::ElementEnd | Self::ItemEnd => "a comma or the end of the array",
            Self::ValueEnd => "a comma or the end of the element",
            Self::Whole | Self::InKey { .. } | Self::Value | Self::Item => "more of it",
        }
    }
}

/// Keys with which an element begins that is a channel with its lists.
fn is_of_channel(key: &str) -> bool {
    key == "channel" || is_list(key)
}

/// Keys of lists that may be of any length.
fn is_list(key: &str) -> bool {
    matches!(key, "messages" | "members" | "reads" | "read" | "reactions" | "users" | "polls")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    type Found = (u64, Option<String>, String);

    fn split(text: &[u8], step: usize, max_item_bytes: usize) -> Result<Vec<Found>, BrokenArray> {
        let mut found = Vec::new();
        let mut splitter = ArraySplitter::new(max_item_bytes);
        for chunk in text.chunks(step.max(1)) {
            splitter.push(chunk, |Part { element, key, line }| {
                let at = usize::try_from(line.offset).unwrap();
                assert_eq!(&text[at..at + line.bytes.len()], line.bytes, "an offset is wrong");
                assert_eq!(line.number, found.len() as u64 + 1);
                found.push((element, key.map(str::to_owned), String::from_utf8_lossy(line.bytes).into_owned()));
                Ok::<_, BrokenArray>(())
            })?;
        }
        splitter.finish().map(|()| found)
    }

    fn shown(text: &str) -> Vec<String> {
        let parts = split(text.as_bytes(), 3, 1 << 20).unwrap();
        parts
            .into_iter()
            .map(|(element, key, value)| format!("{element} {} {value}", key.unwrap_or_default()))
            .collect()
    }

    #[test]
    fn lists_of_a_channel_come_out_item_by_item_and_other_elements_whole() {
        assert_eq!(
            shown(
                r#" [ {"channel" : {"id":"]}"}, "messages":[ {"a":[1,{"b":2}]} ,"x" , 7],"members":[],"hidden":true,"draft":{"messages":[1]}},
                 {"messages":[{}], "channel":{}} , {"message":{"a":1}}, {}, 5, [1], {"id":1,"channel":{"x":1},"messages":[2]} ] "#
            ),
            [
                r#"1 channel {"id":"]}"}"#,
                r#"1 messages {"a":[1,{"b":2}]}"#,
                r#"1 messages "x""#,
                "1 messages 7",
                "1 hidden true",
                r#"1 draft {"messages":[1]}"#,
                "2 messages {}",
                "2 channel {}",
                r#"3  {"message":{"a":1}}"#,
                "4  {}",
                "5  5",
                "6  [1]",
                r#"7  {"id":1,"channel":{"x":1},"messages":[2]}"#,
            ]
        );
        assert_eq!(shown("[]"), [""; 0]);
        assert_eq!(shown("\u{feff}[1]\n[2]"), ["1  1", "2  2"]);
        assert_eq!(shown(r#"[{"mess\u0061ges":[1,2]}]"#), ["1 messages 1", "1 messages 2"]);
    }

    #[test]
    fn what_is_no_array_is_told_by_its_byte() {
        let error = |text: &str| split(text.as_bytes(), 2, 1 << 20).unwrap_err().to_string();
        assert_eq!(
            error("[1 2]"),
            "byte 3 of its array of channels is `2`, where a comma or the end of the array should be"
        );
        for (bad, wanted) in [
            ("{}", "an array"),
            ("[,]", "an element"),
            ("[1,]", "an element"),
            (r#"[{"channel" 1}]"#, "a colon"),
            (r#"[{"channel":}]"#, "a value"),
            (r#"[{"channel":1,}]"#, "a key"),
            (r#"[{"messages":[1,]}]"#, "a value"),
            (r#"[{"messages":[1] 2}]"#, "the end of the element"),
            ("[1]x", "or nothing"),
        ] {
            assert!(error(bad).contains(wanted), "{bad}: {}", error(bad));
        }
        for cut in ["[", "[1", "[1,", r#"[{"channel":{}"#, r#"[{"messages":[1"#, r#"[{"a"#] {
            assert!(error(cut).contains("ends in the middle of element 1") || cut == "[1,", "{cut}: {}", error(cut));
        }
        assert_eq!(split(b"", 1, 1), Ok(vec![]));
    }

    #[test]
    fn a_value_over_the_limit_is_cut_and_counted() {
        let text = format!(r#"[{{"channel":1,"messages":["{}",2]}}]"#, "x".repeat(100_000));
        for step in [1_000, 200_000] {
            let mut lengths = Vec::new();
            let mut splitter = ArraySplitter::new(5_000);
            for chunk in text.as_bytes().chunks(step) {
                splitter
                    .push(chunk, |part| {
                        lengths.push((part.line.length, part.line.bytes.len(), part.line.is_too_long()));
                        Ok::<_, BrokenArray>(())
                    })
                    .unwrap();
                assert!(splitter.held.capacity() <= 20_000);
            }
            assert_eq!(lengths, [(1, 1, false), (100_002, 4_096, true), (1, 1, false)]);
        }
    }

    fn anything() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[\\[\\]{}\",:\\\\a-z é]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let key = prop_oneof![Just("channel".to_owned()), Just("messages".to_owned()), "[a\"\\\\}]{0,3}"];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((key, inner), 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_value_comes_out_whatever_the_chunks(
            elements in prop::collection::vec(anything(), 0..5), step in 1usize..40, pretty: bool,
        ) {
            let array = Value::from(elements.clone());
            let text = if pretty { serde_json::to_string_pretty(&array) } else { serde_json::to_string(&array) }.unwrap();
            let found: Vec<(u64, Option<String>, Value)> = split(text.as_bytes(), step, 1 << 20)
                .unwrap()
                .into_iter()
                .map(|(element, key, value)| (element, key, serde_json::from_str(&value).unwrap()))
                .collect();
            let mut wanted = Vec::new();
            for (element, value) in (1..).zip(elements) {
                match value.as_object() {
                    Some(object) if object.keys().next().is_some_and(|key| is_of_channel(key)) => {
                        for (key, value) in object {
                            match value {
                                Value::Array(items) if is_list(key) => {
                                    wanted.extend(items.iter().map(|item| (element, Some(key.clone()), item.clone())));
                                }
                                value => wanted.push((element, Some(key.clone()), value.clone())),
                            }
                        }
                    }
                    _ => wanted.push((element, None, value)),
                }
            }
            prop_assert_eq!(found, wanted);
        }

        #[test]
        fn any_bytes_end_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), step in 1usize..9) {
            let mut splitter = ArraySplitter::new(64);
            for chunk in [b"[".as_slice(), &bytes].concat().chunks(step) {
                if splitter.push(chunk, |_| Ok::<_, BrokenArray>(())).is_err() {
                    return Ok(());
                }
            }
            let _ = splitter.finish();
        }
    }
}
