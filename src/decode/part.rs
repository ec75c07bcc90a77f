//! Parts of an array of channels (format v1), which may come before the channel that they are of.

use std::borrow::Cow;
use std::io;

use sonic_rs::LazyValue;

use super::element::address;
use super::envelope::Kind;
use super::scan::lookup;
use super::{At, Decoder, value};
use crate::array::Part;
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
        early.drain(|number, offset, text| match sonic_rs::from_str::<LazyValue<'_>>(text) {
            Ok(value) => self.shape(value, At { number, offset, opened: 0, is_late: !is_known }),
            Err(error) => Err(io::Error::other(error)),
        })
    }

    /// Whether an entity of an array's element does not say which channel it is of, and neither has the element so far.
    pub(super) fn waits_for_channel(&self, kind: Kind, object: &LazyValue<'_>, at: At) -> bool {
        let (element, cid) = &self.element;
        let is_in_channel = matches!(kind, Kind::Message | Kind::Member | Kind::Read);
        let text = |key: &str| lookup(object, key).and_then(|value| value::text(&value).map(Cow::into_owned));
        *element > 0 && cid.is_none() && is_in_channel && !at.is_late && address(text).is_none()
    }
}
