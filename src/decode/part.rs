//! Parts of an array of channels (format v1), which may come before the channel that they are of.

use std::io;

use super::element::address;
use super::envelope::Kind;
use super::{At, Decoder};
use crate::array::{ArraySplitter, BrokenArray, Part};
use crate::json::{Index, JsonError, Value};
use crate::ndjson::Line;

impl Decoder {
    /// Takes a part of an array of channels: an item of a list is like a line of one key, in the channel of its element. What comes
    /// before the channel, and does not say itself which it is of, waits for it.
    pub fn part(&mut self, part: Part<'_>) -> io::Result<()> {
        if self.element.0 != part.element {
            self.take_early()?;
            self.element = (part.element, None);
        }
        self.keyed(part)?;
        if self.element.1.is_some() { self.take_early() } else { Ok(()) }
    }

    fn keyed(&mut self, Part { key, line, .. }: Part<'_>) -> io::Result<()> {
        let Some(key) = key.filter(|_| !line.is_too_long()) else { return self.line(line) };
        if line.bytes == b"null" {
            return Ok(());
        }
        let mut keyed = std::mem::take(&mut self.keyed);
        keyed.clear();
        keyed.push(b'{');
        keyed.extend_from_slice(serde_json::Value::from(key).to_string().as_bytes());
        keyed.push(b':');
        keyed.extend_from_slice(line.bytes);
        keyed.push(b'}');
        let taken = self.line(Line { length: keyed.len() as u64, bytes: &keyed, ..line });
        self.keyed = keyed;
        taken
    }

    /// Takes what has waited for the channel of the element. If none came, it is of none.
    pub(super) fn take_early(&mut self) -> io::Result<()> {
        if self.early.is_empty() {
            return Ok(());
        }
        let mut early = std::mem::take(&mut self.early);
        let is_known = self.element.1.is_some();
        let mut index = Index::default();
        early.drain(|number, offset, text| match index.parse(text) {
            Ok(value) => self.shape(value, At { number, offset, opened: 0, is_late: !is_known }),
            Err(error) => Err(io::Error::other(error)),
        })
    }

    /// Takes a line of more values than are looked at together. One that holds a channel is like an element of an array; of
    /// any other nothing is taken.
    pub(super) fn take_apart(&mut self, line: Line<'_>, text: &str) -> io::Result<()> {
        if self.is_taken_apart {
            return self.too_many_values(line, text);
        }
        self.is_taken_apart = true;
        let mut splitter = ArraySplitter::new(text.len());
        let mut take = |Part { key, line: part, .. }: Part<'_>| {
            let key = Some(key.ok_or(NotTaken::Whole)?);
            let line = Line { number: line.number, offset: line.offset + part.offset.saturating_sub(1), ..part };
            self.part(Part { element: line.number, key, line }).map_err(NotTaken::Io)
        };
        let taken = ["[", text, "]"].iter().try_for_each(|piece| splitter.push(piece.as_bytes(), &mut take));
        let taken = taken.and_then(|()| splitter.finish().map_err(NotTaken::from));
        self.take_early()?;
        self.element = (0, None);
        self.is_taken_apart = false;
        match taken {
            Ok(()) => Ok(()),
            Err(NotTaken::Io(error)) => Err(error),
            Err(NotTaken::Whole) => self.too_many_values(line, text),
        }
    }

    fn too_many_values(&mut self, line: Line<'_>, text: &str) -> io::Result<()> {
        let at = At { number: line.number, offset: line.offset, ..At::default() };
        self.reject_text(at, line, text, "too_many_values", &JsonError::TooMany.to_string());
        Ok(())
    }

    /// Whether an entity of an array's element does not say which channel it is of, and neither has the element so far.
    pub(super) fn waits_for_channel(&self, kind: Kind, object: Value<'_>, at: At) -> bool {
        let (element, cid) = &self.element;
        let is_in_channel = matches!(kind, Kind::Message | Kind::Member | Kind::Read);
        let text = |key: &str| object.get(key).and_then(Value::text);
        *element > 0 && cid.is_none() && is_in_channel && !at.is_late && address(text).is_none()
    }
}

/// Why a line was not taken apart.
enum NotTaken {
    /// It holds no channel, or is broken.
    Whole,
    Io(io::Error),
}

impl From<BrokenArray> for NotTaken {
    fn from(_: BrokenArray) -> Self {
        Self::Whole
    }
}
