//! Reactions on lines of their own: they belong where their message is, which may come later in the file.

use std::io;
use std::sync::Arc;

use super::context::Surroundings;
use super::envelope::Kind;
use super::table::Place;
use super::{At, Decoder, REACTIONS, Route, message_key};
use crate::json::Value;

impl Decoder {
    /// A reaction on a line of its own. Until its message is known, it waits; at the end of the file it waits no more.
    pub(super) fn reaction(&mut self, object: Value<'_>, at: At, is_last_chance: bool) -> io::Result<()> {
        let raw = object.raw();
        let message_id = object.get("message_id");
        let Some(message_id) = message_id.and_then(Value::text) else {
            let lack = match message_id.filter(|value| !value.is_null()) {
                Some(value) => ("wrong_type", format!("`message_id` is {}", value.raw())),
                None => ("missing_field", "no `message_id`".to_owned()),
            };
            return self.incomplete(Kind::Reaction, object, None, at, &lack);
        };
        let Some((created_at_us, cid)) = self.messages.get(message_key(&message_id)) else {
            if is_last_chance && self.task.users.is_some() {
                return self.reaction_alone(object, &message_id, at);
            }
            if is_last_chance {
                self.reject(at, "unknown_message", &message_id, raw, Some("reactions"));
                return Ok(());
            }
            return self.waiting.push(at.number, at.offset, raw, self.temp_dir.as_deref());
        };
        let cid = self.cids[cid as usize].clone();
        let task = Arc::clone(&self.task);
        if task.users.is_none() && task.superseded.contains(&cid) {
            return Ok(());
        }
        let Route::Cell(cell) = task.routes.route(created_at_us) else { return Ok(()) };
        let place = Place { cell, partition: task.routes.partition(cell, Some(&cid)).into() };
        let around = Surroundings {
            cid: Some(&cid),
            message_id: Some(&message_id),
            message_created_at_us: Some(created_at_us),
            owner: task.owner(),
            ..task.surroundings()
        };
        match self.row(REACTIONS, object, &around, &place) {
            Ok(()) => {
                let plan = &self.plan.tables[REACTIONS].object;
                self.cut_reactions.reaction(message_key(&message_id), plan, object);
            }
            Err((reason, detail)) => self.reject(at, reason, &detail, raw, Some("reactions")),
        }
        Ok(())
    }

    /// A reaction of an exported user to a message of another, which is not in the file.
    fn reaction_alone(&mut self, object: Value<'_>, message_id: &str, at: At) -> io::Result<()> {
        let task = Arc::clone(&self.task);
        let around = Surroundings { message_id: Some(message_id), owner: task.owner(), ..task.surroundings() };
        let place = self.snapshot.clone();
        if let Err((reason, detail)) = self.row(REACTIONS, object, &around, &place) {
            self.reject(at, reason, &detail, object.raw(), Some("reactions"));
        }
        Ok(())
    }
}
