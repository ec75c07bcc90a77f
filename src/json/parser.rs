//! One pass over a text, which checks it and notes its values.

use super::{Index, JsonError, MAX_DEPTH, MAX_VALUES, NO_NAME, NOT_LOOKED_UP, Open, Place, short};

/// A text on its way into an index.
pub(super) struct Parser<'p> {
    index: &'p mut Index,
    bytes: &'p [u8],
    at: usize,
}

impl<'p> Parser<'p> {
    pub(super) fn new(index: &'p mut Index, text: &'p str) -> Self {
        Self { index, bytes: text.as_bytes(), at: 0 }
    }

    /// Notes every value of the text, which is to be one.
    pub(super) fn parse(mut self) -> Result<(), JsonError> {
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

/// Where the next quote, backslash or control character is, or the end. Eight bytes at a time.
#[inline]
pub(super) fn special(bytes: &[u8], mut at: usize) -> usize {
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
