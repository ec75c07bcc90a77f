//! JSON as it stands in a text: one pass checks the whole of it and notes where each value begins and ends.
//!
//! Nothing is copied and no tree is built: an [`Index`] is a flat list of places that is used again for every text, and a [`Value`]
//! is a place in it. To go over an object costs as much as it has keys, however much stands inside them. Keys that an index knows
//! are recognised as they are read: texts of one kind have the same keys in the same order, so that the next is guessed.

mod repeats;

use std::borrow::Cow;
use std::sync::Arc;

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
        Parser { index: self, bytes: text.as_bytes(), at: 0 }.parse()?;
        Ok(Value { text, places: &self.places, at: 0 })
    }
}

struct Parser<'p> {
    index: &'p mut Index,
    bytes: &'p [u8],
    at: usize,
}

impl Parser<'_> {
    fn parse(mut self) -> Result<(), JsonError> {
        u32::try_from(self.bytes.len()).map_err(|_| JsonError::TooMany)?;
        loop {
            self.skip_space();
            match self.peek() {
                Some(b'"') => self.text()?,
                Some(b'{') if self.repeated() => {}
                Some(open @ (b'{' | b'[')) => {
                    self.open(open == b'{')?;
                    self.skip_space();
                    if self.peek() == Some(open + 2) {
                        self.close();
                    } else if open == b'{' {
                        self.key()?;
                        continue;
                    } else {
                        continue;
                    }
                }
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.word("true")?,
                Some(b'f') => self.word("false")?,
                Some(b'n') => self.word("null")?,
                _ => return Err(self.expected("a value")),
            }
            if !self.goes_on()? {
                return Ok(());
            }
        }
    }

    /// After a value: closes what ends with it; whether another one follows.
    fn goes_on(&mut self) -> Result<bool, JsonError> {
        loop {
            self.skip_space();
            let Some(&Open { is_object, .. }) = self.index.open.last() else {
                return if self.at == self.bytes.len() { Ok(false) } else { Err(self.expected("the end")) };
            };
            match (is_object, self.peek()) {
                (true, Some(b'}')) | (false, Some(b']')) => self.close(),
                (true, Some(b',')) => {
                    self.at += 1;
                    self.skip_space();
                    self.key()?;
                    return Ok(true);
                }
                (false, Some(b',')) => {
                    self.at += 1;
                    return Ok(true);
                }
                (true, _) => return Err(self.expected("`,` or `}`")),
                (false, _) => return Err(self.expected("`,` or `]`")),
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn expected(&self, expected: &'static str) -> JsonError {
        JsonError::Unexpected { expected, at: self.at }
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.peek() {
            self.at += 1;
        }
    }

    /// Notes what began at `start` and ends here.
    fn note(&mut self, start: usize, name: u16, has_escapes: bool) -> Result<(), JsonError> {
        let next = self.index.places.len() + 1;
        if next > MAX_VALUES {
            return Err(JsonError::TooMany);
        }
        let (start, end, next) = (short(start), short(self.at), short(next));
        self.index.places.push(Place { start, end, next, name, has_escapes });
        Ok(())
    }

    fn open(&mut self, is_object: bool) -> Result<(), JsonError> {
        if self.index.open.len() == MAX_DEPTH {
            return Err(JsonError::TooDeep);
        }
        let first = self.index.after.len().saturating_sub(1);
        self.index.open.push(Open { place: self.index.places.len(), is_object, last: first });
        self.at += 1;
        self.note(self.at - 1, NOT_LOOKED_UP, false)
    }

    fn close(&mut self) {
        self.at += 1;
        let next = short(self.index.places.len());
        if let Some(Open { place: first, is_object, .. }) = self.index.open.pop() {
            let place = &mut self.index.places[first];
            (place.end, place.next) = (short(self.at), next);
            if is_object && self.may_repeat() {
                let start = self.index.places[first].start as usize;
                let Index { repeats, places, .. } = &mut *self.index;
                repeats.put(&self.bytes[start..self.at], start, places, first);
            }
        }
    }

    /// Whether the value at hand stands under the key of objects that repeat.
    fn may_repeat(&self) -> bool {
        self.index.open.last().is_some_and(|open| Some(open.last) == self.index.repeating)
    }

    /// Takes an object that stood in an earlier text, if it stands here again.
    fn repeated(&mut self) -> bool {
        if !self.may_repeat() {
            return false;
        }
        let Index { repeats, places, open, .. } = &mut *self.index;
        let end = repeats.take(self.bytes, self.at, open.len(), places);
        self.at = end.unwrap_or(self.at);
        end.is_some()
    }

    fn key(&mut self) -> Result<(), JsonError> {
        if self.peek() != Some(b'"') {
            return Err(self.expected("a key"));
        }
        if !self.guessed_key()? {
            self.text()?;
            self.look_up_key();
        }
        self.skip_space();
        if self.peek() != Some(b':') {
            return Err(self.expected("`:`"));
        }
        self.at += 1;
        Ok(())
    }

    /// Takes the key that came here last time, if it stands here again.
    fn guessed_key(&mut self) -> Result<bool, JsonError> {
        let Index { open, names, after, .. } = &mut *self.index;
        let depth = open.len();
        let (Some(names), Some(open)) = (names, open.last_mut()) else { return Ok(false) };
        let number = after[open.last][depth & 1];
        // What was found in a text needs no escape in another.
        let Some(quoted) = names.quoted(number).filter(|quoted| self.bytes[self.at..].starts_with(quoted)) else {
            return Ok(false);
        };
        open.last = usize::from(number);
        let start = self.at;
        self.at += quoted.len();
        self.note(start, number, false)?;
        Ok(true)
    }

    /// Numbers the key that was noted last.
    fn look_up_key(&mut self) {
        let Index { places, open, names, after, .. } = &mut *self.index;
        let depth = open.len();
        let (Some(place), Some(open)) = (places.last_mut(), open.last_mut()) else { return };
        let Some(names) = names.as_ref().filter(|_| !place.has_escapes) else { return };
        match names.find(&self.bytes[place.start as usize + 1..place.end as usize - 1]) {
            Some(number) => {
                place.name = number;
                after[open.last][depth & 1] = number;
                open.last = usize::from(number);
            }
            None => place.name = NO_NAME,
        }
    }

    fn text(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        let mut has_escapes = false;
        self.at += 1;
        loop {
            self.at = special(self.bytes, self.at);
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    has_escapes = true;
                    self.escape()?;
                }
                Some(_) => return Err(self.expected("a character that needs no escape")),
                None => return Err(self.expected("the end of a text")),
            }
        }
        self.at += 1;
        self.note(start, NOT_LOOKED_UP, has_escapes)
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        let length = match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u')
                if self
                    .bytes
                    .get(self.at + 2..self.at + 6)
                    .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) =>
            {
                6
            }
            _ => return Err(self.expected("an escape")),
        };
        self.at += length;
        Ok(())
    }

    fn number(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        self.note(start, NOT_LOOKED_UP, false)
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start { Err(self.expected("a digit")) } else { Ok(()) }
    }

    fn word(&mut self, word: &'static str) -> Result<(), JsonError> {
        let start = self.at;
        if !self.bytes[start..].starts_with(word.as_bytes()) {
            return Err(self.expected("a value"));
        }
        self.at += word.len();
        self.note(start, NOT_LOOKED_UP, false)
    }
}

/// Texts are shorter than 4 GiB, which [`Parser::parse`] has seen to.
#[allow(clippy::cast_possible_truncation)]
fn short(place: usize) -> u32 {
    place as u32
}

/// Where the next quote, backslash or control character is, or the end. Eight bytes at a time.
#[inline]
fn special(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES << 7;
    // Of the high bits that are set the lowest is right; those above it may be set by borrows.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    while let Some(&eight) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let word = u64::from_le_bytes(eight);
        let controls = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let found = zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\'))) | controls;
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(rest.len())
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
