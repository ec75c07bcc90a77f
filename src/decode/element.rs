//! A line taken apart: the entities in it, and what stands beside them.

use std::borrow::Cow;
use std::io;

use crate::json::Value;

use super::envelope::{Element, Kind, MAX_ENVELOPES, Shape, classify};
use super::{At, Decoder};
use crate::kinds::BESIDE;

/// The keys that name a channel from outside.
const ADDRESS: [&str; 3] = ["cid", "channel_type", "channel_id"];

impl Decoder {
    pub(super) fn shape(&mut self, value: Value<'_>, at: At) -> io::Result<()> {
        match classify(value) {
            Shape::Entity(kind, object) => {
                if self.waits_for_channel(kind, object, at) {
                    return self.early.push(at.number, at.offset, value.raw(), self.temp_dir.as_deref());
                }
                let (element, cid) = std::mem::take(&mut self.element);
                let cid = if kind == Kind::Channel && element > 0 { self.cid_of_channel(object).or(cid) } else { cid };
                let taken = self.entity(kind, object, cid.as_deref(), at);
                self.element = (element, cid);
                taken
            }
            Shape::Many(values) => values.into_iter().try_for_each(|value| self.shape(value, at)),
            Shape::Element(element) => self.element(element, at),
            Shape::Unknown(kind) => {
                self.unclassified(at, kind.as_deref().unwrap_or("unknown"), value.raw());
                Ok(())
            }
        }
    }

    fn element(&mut self, element: Element<'_>, at: At) -> io::Result<()> {
        let Element { channel, parts, rest } = element;
        let cid = match channel {
            Some(channel) => self.cid_of_channel(channel),
            None => address(|key| rest.iter().find(|(name, _)| name == key).and_then(|(_, value)| value.text())),
        };
        let is_told = cid.as_deref().is_some_and(|cid| repeats_address(&rest, cid, &parts));
        if let Some(channel) = channel {
            self.entity(Kind::Channel, channel, None, at)?;
        }
        for (kind, part) in parts {
            match part.elements() {
                Some(objects) => {
                    for object in objects {
                        self.entity(kind, object, cid.as_deref(), at)?;
                    }
                }
                None => self.entity(kind, part, cid.as_deref(), at)?,
            }
        }
        for (key, value) in rest.iter().filter(|(key, _)| !(is_told && ADDRESS.contains(&key.as_ref()))) {
            let line = format!("{{{}:{}}}", serde_json::Value::from(key.as_ref()), value.raw());
            self.unclassified(at, &format!("{BESIDE}{key}"), &line);
        }
        Ok(())
    }

    pub(super) fn cid_of_channel(&self, channel: Value<'_>) -> Option<String> {
        let text = |key| channel.get(key).and_then(Value::text).map(Cow::into_owned);
        text("cid").or_else(|| Some(format!("{}:{}", text("type")?, text("id")?)))
    }

    /// An object that lacks what it should have. It may be an envelope that stands in another.
    pub(super) fn incomplete(
        &mut self,
        kind: Kind,
        object: Value<'_>,
        cid: Option<&str>,
        at: At,
        (reason, detail): &(&'static str, String),
    ) -> io::Result<()> {
        let raw = object.raw();
        let is_inside = |value: Value<'_>| value.raw().len() < raw.len();
        let may_open = at.opened < MAX_ENVELOPES;
        let inside = At { opened: at.opened + 1, ..at };
        match classify(object) {
            Shape::Entity(inner, value) if may_open && inner == kind && is_inside(value) => {
                self.uncount(kind);
                self.entity(kind, value, cid, inside)
            }
            Shape::Element(element)
                if may_open
                    && ((kind == Kind::Channel && element.channel.is_some())
                        || matches!(element.parts.as_slice(), [(inner, _)] if *inner == kind)) =>
            {
                self.uncount(kind);
                self.element(element, inside)
            }
            _ => {
                self.reject(at, reason, detail, raw, Some(kind.dataset()));
                Ok(())
            }
        }
    }

    /// It is not an entity, but has one in it that will be counted.
    fn uncount(&mut self, kind: Kind) {
        if let Some(lines) = self.tally.lines.get_mut(kind.dataset()) {
            *lines -= 1;
            if *lines == 0 {
                self.tally.lines.remove(kind.dataset());
            }
        }
    }
}

/// Whether the address beside entities is what their rows say anyhow: none of them has another.
fn repeats_address(rest: &[(Cow<'_, str>, Value<'_>)], cid: &str, parts: &[(Kind, Value<'_>)]) -> bool {
    let (channel_type, channel_id) = cid.split_once(':').unwrap_or_default();
    let mut beside = rest.iter().filter(|(key, _)| ADDRESS.contains(&key.as_ref())).peekable();
    let of_cid = |key: &str| match key {
        "cid" => cid,
        "channel_type" => channel_type,
        _ => channel_id,
    };
    let agrees = |object: Value<'_>| {
        let own = address(|key| object.get(key).and_then(Value::text));
        own.is_none_or(|own| own == cid)
    };
    beside.peek().is_some()
        && beside.all(|(key, value)| value.text().is_some_and(|text| text == of_cid(key)))
        && parts.iter().all(|(kind, part)| {
            matches!(kind, Kind::Message | Kind::Member | Kind::Read)
                && part.elements().map_or_else(|| agrees(*part), |mut objects| objects.all(agrees))
        })
}

/// A channel as entities name it that are in one.
pub(super) fn address<S: AsRef<str> + Into<String>>(text: impl Fn(&str) -> Option<S>) -> Option<String> {
    text("cid")
        .map(Into::into)
        .or_else(|| Some(format!("{}:{}", text("channel_type")?.as_ref(), text("channel_id")?.as_ref())))
}
