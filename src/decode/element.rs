//! A line taken apart: the entities in it, and what stands beside them.

use std::borrow::Cow;
use std::io;

use sonic_rs::LazyValue;

use super::envelope::{Element, Kind, MAX_ENVELOPES, Shape, classify};
use super::scan::{elements, lookup};
use super::{At, Decoder, value};
use crate::kinds::BESIDE;

/// The keys that name a channel from outside.
const ADDRESS: [&str; 3] = ["cid", "channel_type", "channel_id"];

impl Decoder {
    pub(super) fn shape(&mut self, value: LazyValue<'_>, at: At) -> io::Result<()> {
        let raw = value.clone();
        match classify(value) {
            Shape::Entity(kind, object) => {
                if self.waits_for_channel(kind, &object, at) {
                    return self.early.push(at.number, at.offset, raw.as_raw_str(), self.temp_dir.as_deref());
                }
                let (element, cid) = std::mem::take(&mut self.element);
                let cid = if kind == Kind::Channel && element > 0 { self.cid_of_channel(&object).or(cid) } else { cid };
                let taken = self.entity(kind, object, cid.as_deref(), at);
                self.element = (element, cid);
                taken
            }
            Shape::Many(values) => values.into_iter().try_for_each(|value| self.shape(value, at)),
            Shape::Element(element) => self.element(element, at),
            Shape::Unknown(kind) => {
                self.unclassified(at, kind.as_deref().unwrap_or("unknown"), raw.as_raw_str());
                Ok(())
            }
        }
    }

    fn element(&mut self, element: Element<'_>, at: At) -> io::Result<()> {
        let Element { channel, parts, rest } = element;
        let cid = match &channel {
            Some(channel) => self.cid_of_channel(channel),
            None => address(|key| rest.iter().find(|(name, _)| name == key).and_then(|(_, value)| value::text(value))),
        };
        let is_told = cid.as_deref().is_some_and(|cid| repeats_address(&rest, cid, &parts));
        if let Some(channel) = channel {
            self.entity(Kind::Channel, channel, None, at)?;
        }
        for (kind, part) in parts {
            for object in elements(&part).unwrap_or_else(|| vec![part]) {
                self.entity(kind, object, cid.as_deref(), at)?;
            }
        }
        for (key, value) in rest.iter().filter(|(key, _)| !(is_told && ADDRESS.contains(&key.as_ref()))) {
            let line = format!("{{{}:{}}}", serde_json::Value::from(key.as_ref()), value.as_raw_str());
            self.unclassified(at, &format!("{BESIDE}{key}"), &line);
        }
        Ok(())
    }

    pub(super) fn cid_of_channel(&self, channel: &LazyValue<'_>) -> Option<String> {
        let text = |key| lookup(channel, key).and_then(|value| value::text(&value).map(Cow::into_owned));
        text("cid").or_else(|| Some(format!("{}:{}", text("type")?, text("id")?)))
    }

    /// An object that lacks what it should have. It may be an envelope that stands in another.
    pub(super) fn incomplete(
        &mut self,
        kind: Kind,
        object: LazyValue<'_>,
        cid: Option<&str>,
        at: At,
        (reason, detail): &(&'static str, String),
    ) -> io::Result<()> {
        let raw = object.clone();
        let raw = raw.as_raw_str();
        let is_inside = |value: &LazyValue<'_>| value.as_raw_str().len() < raw.len();
        let may_open = at.opened < MAX_ENVELOPES;
        let inside = At { opened: at.opened + 1, ..at };
        match classify(object) {
            Shape::Entity(inner, value) if may_open && inner == kind && is_inside(&value) => {
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
fn repeats_address(rest: &[(Cow<'_, str>, LazyValue<'_>)], cid: &str, parts: &[(Kind, LazyValue<'_>)]) -> bool {
    let (channel_type, channel_id) = cid.split_once(':').unwrap_or_default();
    let mut beside = rest.iter().filter(|(key, _)| ADDRESS.contains(&key.as_ref())).peekable();
    let of_cid = |key: &str| match key {
        "cid" => cid,
        "channel_type" => channel_type,
        _ => channel_id,
    };
    let agrees = |object: &LazyValue<'_>| {
        let own = address(|key| lookup(object, key).and_then(|value| value::text(&value).map(Cow::into_owned)));
        own.is_none_or(|own| own == cid)
    };
    beside.peek().is_some()
        && beside.all(|(key, value)| value::text(value).is_some_and(|text| text == of_cid(key)))
        && parts.iter().all(|(kind, part)| {
            matches!(kind, Kind::Message | Kind::Member | Kind::Read)
                && elements(part).map_or_else(|| agrees(part), |objects| objects.iter().all(agrees))
        })
}

/// A channel as entities name it that are in one.
pub(super) fn address<S: AsRef<str> + Into<String>>(text: impl Fn(&str) -> Option<S>) -> Option<String> {
    text("cid")
        .map(Into::into)
        .or_else(|| Some(format!("{}:{}", text("channel_type")?.as_ref(), text("channel_id")?.as_ref())))
}
