//! JSON as it stands in a text: one pass checks the whole of it and notes where each value begins and ends.
//!
//! Nothing is copied and no tree is built: an [`Index`] is a flat list of places that is used again for every text, and a [`Value`]
//! is a place in it. To go over an object costs as much as it has keys, however much stands inside them. Keys that an index knows
//! are recognised as they are read: texts of one kind have the same keys in the same order, so that the next is guessed.

mod parser;
mod repeats;

use std::borrow::Cow;
use std::sync::Arc;

use self::parser::Parser;
use self::repeats::Repeats;
use crate::names::Names;

/// Containers inside each other, at most: custom data is 5 KB at most, so this is far beyond any real one.
pub const MAX_DEPTH: usize = 256;
/// Values of one text, at most: 8 MiB of places. A message of a hundred reactions has some two thousand.
pub const MAX_VALUES: usize = 1 << 19;

/// The key of objects that repeat: a user, as it was when the export was made, stands in all that it wrote.
const REPEATING: &[u8] = b"user";

/// Why a text is no JSON that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Something else should stand here.
    #[error("{expected} should stand at byte {at}")]
    Unexpected {
        /// What.
        expected: &'static str,
        /// Where, counted from 0.
        at: usize,
    },
    /// More containers inside each other than [`MAX_DEPTH`].
    #[error("more than {MAX_DEPTH} levels")]
    TooDeep,
    /// More values than [`MAX_VALUES`].
    #[error("more than {MAX_VALUES} values")]
    TooMany,
}

/// Where the values of a text are. The room is kept from text to text.
#[derive(Debug, Default)]
pub struct Index {
    places: Vec<Place>,
    /// The containers that are open where the parser is.
    open: Vec<Open>,
    names: Option<Arc<Names>>,
    /// The name under which objects stand that repeat.
    repeating: Option<usize>,
    repeats: Repeats,
    /// The name that came last after each name, in containers of even and of odd depth; at the end those that came first.
    after: Vec<[u16; 2]>,
}

/// A container that is not closed yet.
#[derive(Clone, Copy, Debug)]
struct Open {
    place: usize,
    is_object: bool,
    /// The last known key.
    last: usize,
}

/// The number of a key that was not looked up.
const NOT_LOOKED_UP: u16 = u16::MAX;
/// The number of a key that is no name.
const NO_NAME: u16 = u16::MAX - 1;

/// Whether a key is one of the names that its index knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// The name of this number.
    Name(u16),
    /// It is none of them.
    Stranger,
    /// Nobody looked: it is written with escapes, or the index knows no names.
    Unseen,
}

/// Where a value, or a key, stands in the text. What is inside a container follows it: keys and values in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    start: u32,
    end: u32,
    /// The place behind it and all that is in it.
    next: u32,
    /// Of a key: the number of its name.
    name: u16,
    has_escapes: bool,
}

/// A value in a text.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    text: &'a str,
    places: &'a [Place],
    at: usize,
}

impl Place {
    /// Moved on by bytes and by places.
    fn moved(self, bytes: u32, places: u32) -> Self {
        Self {
            start: self.start.wrapping_add(bytes),
            end: self.end.wrapping_add(bytes),
            next: self.next.wrapping_add(places),
            ..self
        }
    }
}

impl Index {
    /// An index that recognises keys of these names.
    pub fn of(names: Arc<Names>) -> Self {
        Self {
            after: vec![[NO_NAME; 2]; names.len() + 1],
            repeating: names.find(REPEATING).map(usize::from),
            names: Some(names),
            ..Self::default()
        }
    }

    /// Checks a text that is one JSON value, with space around it or not.
    pub fn parse<'a>(&'a mut self, text: &'a str) -> Result<Value<'a>, JsonError> {
        self.places.clear();
        self.open.clear();
        // A text of many values is rare: its room is given back by the next.
        self.places.shrink_to(1 << 16);
        Parser::new(self, text).parse()?;
        Ok(Value { text, places: &self.places, at: 0 })
    }
}

/// Texts are shorter than 4 GiB, which [`Parser::parse`] has seen to.
#[allow(clippy::cast_possible_truncation)]
fn short(place: usize) -> u32 {
    place as u32
}

/// What a text with valid escapes stands for; none if it has half of a surrogate pair.
fn unescape(text: &str) -> Option<String> {
    let unit = |at: usize| u16::from_str_radix(text.get(at..at + 6)?.strip_prefix("\\u")?, 16).ok();
    let mut plain = String::with_capacity(text.len());
    let mut copied = 0;
    while let Some(found) = memchr::memchr(b'\\', &text.as_bytes()[copied..]) {
        let at = copied + found;
        plain.push_str(&text[copied..at]);
        let (character, length) = match text.as_bytes().get(at + 1)? {
            b'b' => ('\u{8}', 2),
            b'f' => ('\u{c}', 2),
            b'n' => ('\n', 2),
            b'r' => ('\r', 2),
            b't' => ('\t', 2),
            b'u' => match char::from_u32(unit(at)?.into()) {
                Some(character) => (character, 6),
                None => (char::decode_utf16([unit(at)?, unit(at + 6)?]).next()?.ok()?, 12),
            },
            itself => (char::from(*itself), 2),
        };
        plain.push(character);
        copied = at + length;
    }
    plain.push_str(&text[copied..]);
    Some(plain)
}

impl<'a> Value<'a> {
    /// `null`
    pub(crate) const NULL: Value<'static> = Value {
        text: "null",
        places: &[Place { start: 0, end: 4, next: 1, name: NOT_LOOKED_UP, has_escapes: false }],
        at: 0,
    };

    /// Its JSON text, without space around it.
    #[inline]
    pub fn raw(self) -> &'a str {
        let Place { start, end, .. } = self.places[self.at];
        &self.text[start as usize..end as usize]
    }

    /// Its place, for [`Value::at`].
    pub(crate) fn place(self) -> u32 {
        short(self.at)
    }

    /// The value at this place of the same text.
    pub(crate) fn at(self, place: u32) -> Self {
        Self { at: place as usize, ..self }
    }

    #[inline]
    fn first_byte(self) -> u8 {
        self.text.as_bytes()[self.places[self.at].start as usize]
    }

    /// Whether it is `null`.
    #[inline]
    pub fn is_null(self) -> bool {
        self.first_byte() == b'n'
    }

    /// Whether it is an object.
    #[inline]
    pub fn is_object(self) -> bool {
        self.first_byte() == b'{'
    }

    /// Whether it is an array.
    #[inline]
    pub fn is_array(self) -> bool {
        self.first_byte() == b'['
    }

    /// Whether values are inside it.
    pub fn is_container(self) -> bool {
        self.is_object() || self.is_array()
    }

    /// Whether it is a text.
    #[inline]
    pub fn is_text(self) -> bool {
        self.first_byte() == b'"'
    }

    /// A text, without its escapes; none if it has half of a surrogate pair, which is no character.
    #[inline]
    pub fn text(self) -> Option<Cow<'a, str>> {
        let Place { start, end, has_escapes, .. } = self.places[self.at];
        if !self.is_text() {
            return None;
        }
        let inside = &self.text[start as usize + 1..end as usize - 1];
        if has_escapes { unescape(inside).map(Cow::Owned) } else { Some(Cow::Borrowed(inside)) }
    }

    /// Whether a key is a name that its index knows.
    #[inline]
    pub fn known(self) -> Known {
        match self.places[self.at].name {
            NOT_LOOKED_UP => Known::Unseen,
            NO_NAME => Known::Stranger,
            number => Known::Name(number),
        }
    }

    /// The text of a key. One of half a character stays as it is written.
    #[inline]
    pub fn key_text(self) -> Cow<'a, str> {
        self.text().unwrap_or_else(|| Cow::Borrowed(self.raw()))
    }

    /// The same as [`Value::entries`], with keys as they stand in the text.
    #[inline]
    pub fn pairs(self) -> Option<Pairs<'a>> {
        self.is_object().then_some(Pairs { inside: self.inside() })
    }

    /// The keys and values of an object, in their order, repeated ones included.
    #[inline]
    pub fn entries(self) -> Option<impl Iterator<Item = (Cow<'a, str>, Value<'a>)>> {
        Some(self.pairs()?.map(|(key, value)| (key.key_text(), value)))
    }

    /// The values of an array.
    pub fn elements(self) -> Option<Elements<'a>> {
        self.is_array().then_some(Elements { inside: self.inside() })
    }

    /// The value of a key of an object; the last one, if there are several.
    pub fn get(self, key: &str) -> Option<Value<'a>> {
        self.pairs()?.filter(|(name, _)| name.is_key(key)).last().map(|(_, value)| value)
    }

    #[inline]
    fn is_key(self, key: &str) -> bool {
        let Place { start, end, has_escapes, .. } = self.places[self.at];
        if has_escapes {
            return self.text().is_some_and(|name| name == key);
        }
        (end - start) as usize == key.len() + 2
            && self.text.as_bytes()[start as usize + 1..].starts_with(key.as_bytes())
    }

    #[inline]
    fn inside(self) -> Inside<'a> {
        Inside { value: Value { at: self.at + 1, ..self }, end: self.places[self.at].next as usize }
    }
}

impl std::fmt::Debug for Value<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.raw())
    }
}

/// What is left inside a container.
#[derive(Clone, Debug)]
struct Inside<'a> {
    value: Value<'a>,
    end: usize,
}

impl<'a> Inside<'a> {
    #[inline]
    fn next(&mut self) -> Option<Value<'a>> {
        let value = self.value;
        if value.at == self.end {
            return None;
        }
        self.value.at = value.places[value.at].next as usize;
        Some(value)
    }
}

/// The keys and values of an object, as they stand in the text.
#[derive(Clone, Debug)]
pub struct Pairs<'a> {
    inside: Inside<'a>,
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (Value<'a>, Value<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        Some((self.inside.next()?, self.inside.next()?))
    }
}

/// The values of an array.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    inside: Inside<'a>,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.inside.next()
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
#[allow(clippy::unwrap_used)]
mod tests;
