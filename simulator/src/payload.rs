//! Entities as Stream writes them: in export files and in API responses.

mod poll;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use serde_json::{Value, json};

use crate::entity::{Channel, Custom, Member, Message, MessageKind, Reaction, User};
use crate::object::{Object, json};
use crate::switches::{Address, CustomPlace, DeletedType, TimestampForm, UserForm};

/// The conventions of one file or one response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    pub(crate) timestamps: TimestampForm,
    pub(crate) custom: CustomPlace,
    pub(crate) users: UserForm,
    pub(crate) address: Address,
    /// Every field that the specification calls required is there, as API responses have it. Export files leave many out.
    pub(crate) complete: bool,
    /// Deleted messages lose their text.
    pub(crate) clear_deleted_text: bool,
    /// Deleted messages have the type `deleted`.
    pub(crate) deleted_type: DeletedType,
}

impl Style {
    /// API responses of the legacy paths.
    pub(crate) const LEGACY: Self = Self {
        timestamps: TimestampForm::Rfc3339,
        custom: CustomPlace::Inlined,
        users: UserForm::Object,
        address: Address::Cid,
        complete: true,
        clear_deleted_text: false,
        deleted_type: DeletedType::Deleted,
    };
    /// API responses under `/api/v2`.
    pub(crate) const V2: Self =
        Self { timestamps: TimestampForm::Nanoseconds, custom: CustomPlace::Nested, ..Self::LEGACY };
}

const ATTACHMENT_FIELDS: [&str; 21] = [
    "type",
    "title",
    "title_link",
    "text",
    "pretext",
    "fallback",
    "color",
    "image_url",
    "thumb_url",
    "asset_url",
    "og_scrape_url",
    "author_name",
    "author_link",
    "author_icon",
    "footer",
    "footer_icon",
    "original_width",
    "original_height",
    "actions",
    "fields",
    "giphy",
];

/// What a message shows of the rest of its channel.
#[derive(Default)]
pub(crate) struct Threads<'a> {
    messages: HashMap<&'a str, &'a Message>,
    threads: HashMap<&'a str, Thread<'a>>,
}

#[derive(Default)]
struct Thread<'a> {
    reply_count: u32,
    deleted_reply_count: u32,
    participants: Vec<&'a str>,
}

impl<'a> Threads<'a> {
    pub(crate) fn of(channel: &'a Channel) -> Self {
        let mut threads: HashMap<&str, Thread<'_>> = HashMap::new();
        let mut messages = HashMap::with_capacity(channel.messages.len());
        for message in &channel.messages {
            messages.insert(message.id.as_str(), message);
            let Some(parent_id) = message.parent_id.as_deref() else { continue };
            let thread = threads.entry(parent_id).or_default();
            if message.deleted_at.is_some() {
                thread.deleted_reply_count += 1;
            } else {
                thread.reply_count += 1;
            }
            if let Some(user_id) = message.user_id.as_deref()
                && !thread.participants.contains(&user_id)
            {
                thread.participants.push(user_id);
            }
        }
        Self { messages, threads }
    }
}

/// Writes entities in one style. User objects are written once and copied.
pub(crate) struct Payload<'a> {
    pub(crate) style: Style,
    users: &'a BTreeMap<String, User>,
    written_users: RefCell<HashMap<String, Rc<[u8]>>>,
}

impl<'a> Payload<'a> {
    pub(crate) fn new(style: Style, users: &'a BTreeMap<String, User>) -> Self {
        Self { style, users, written_users: RefCell::default() }
    }

    fn open<'o>(&self, out: &'o mut Vec<u8>) -> Object<'o> {
        Object::open(out, self.style.timestamps)
    }

    /// The user as an object; `null` for a user that is gone.
    pub(crate) fn user(&self, out: &mut Vec<u8>, id: &str) {
        let written = self.written_users.borrow().get(id).cloned();
        let written = written.unwrap_or_else(|| {
            let mut written = Vec::new();
            match self.users.get(id) {
                Some(user) => self.write_user(&mut written, user),
                None => written.extend_from_slice(b"null"),
            }
            let written: Rc<[u8]> = written.into();
            self.written_users.borrow_mut().insert(id.to_owned(), Rc::clone(&written));
            written
        });
        out.extend_from_slice(&written);
    }

    fn write_user(&self, out: &mut Vec<u8>, user: &User) {
        let mut o = self.open(out);
        o.value("id", &user.id);
        o.value("role", &user.role);
        o.time("created_at", user.created_at);
        o.time("updated_at", user.updated_at);
        o.time_if("last_active", user.last_active);
        o.time_if("last_engaged_at", user.last_active.map(crate::clock::floor_us));
        o.time_if("deleted_at", user.deleted_at);
        o.value("banned", &user.banned);
        o.value("online", &user.online);
        o.value("name", &user.name);
        o.value("image", &user.image);
        if self.style.complete {
            o.value("language", &user.language);
            o.value("shadow_banned", &false);
            o.value("invisible", &false);
            o.value("blocked_user_ids", &[""; 0]);
        } else if !user.language.is_empty() {
            o.value("language", &user.language);
        }
        if self.style.complete || !user.teams.is_empty() {
            o.value("teams", &user.teams);
            o.value("teams_role", &user.teams_role);
        }
        if let Some(settings) = &user.privacy_settings {
            o.value("privacy_settings", settings);
        }
        self.custom(&mut o, &user.custom);
        o.close();
    }

    fn custom(&self, o: &mut Object<'_>, custom: &Custom) {
        if self.style.custom != CustomPlace::Nested {
            for (key, value) in custom {
                o.value(key, value);
            }
        }
        if self.style.custom != CustomPlace::Inlined && (self.style.complete || !custom.is_empty()) {
            o.value("custom", custom);
        }
    }

    /// A user under `key`, as an object or as its id.
    fn user_field(&self, o: &mut Object<'_>, key: &str, id: Option<&str>) {
        match (id, self.style.users) {
            (None, _) => o.null(key),
            (Some(id), UserForm::Id) => o.value(key, id),
            (Some(id), UserForm::Object) => self.user(o.key(key), id),
        }
    }

    fn user_list<'i>(&self, o: &mut Object<'_>, key: &str, ids: impl IntoIterator<Item = &'i str>) {
        match self.style.users {
            UserForm::Id => o.array(key, ids, json),
            UserForm::Object => o.array(key, ids, |out, id| self.user(out, id)),
        }
    }

    fn address(&self, o: &mut Object<'_>, channel: &Channel) {
        match self.style.address {
            Address::Cid => o.value("cid", &channel.cid()),
            Address::TypeId => {
                o.value("channel_type", &channel.channel_type);
                o.value("channel_id", &channel.id);
            }
        }
    }

    pub(crate) fn channel(&self, out: &mut Vec<u8>, channel: &Channel) {
        let mut o = self.open(out);
        o.value("id", &channel.id);
        o.value("type", &channel.channel_type);
        o.value("cid", &channel.cid());
        o.time_if("last_message_at", channel.last_message_at);
        o.time("created_at", channel.created_at);
        o.time("updated_at", channel.updated_at);
        o.time_if("deleted_at", channel.deleted_at);
        o.time_if("truncated_at", channel.truncated_at);
        if let Some(id) = &channel.truncated_by_id {
            self.user_field(&mut o, "truncated_by", Some(id));
        }
        self.user_field(&mut o, "created_by", channel.created_by_id.as_deref());
        o.value("frozen", &channel.frozen);
        o.value("disabled", &channel.disabled);
        o.value("member_count", &channel.members.len());
        if !channel.team.is_empty() {
            o.value("team", &channel.team);
        }
        if channel.cooldown > 0 {
            o.value("cooldown", &channel.cooldown);
        }
        if !channel.filter_tags.is_empty() {
            o.value("filter_tags", &channel.filter_tags);
        }
        o.value("auto_translation_language", "");
        o.object("config", |config| self.config(config, channel));
        self.custom(&mut o, &channel.custom);
        o.close();
    }

    fn config(&self, o: &mut Object<'_>, channel: &Channel) {
        o.time("created_at", "2021-03-04T09:15:02.123456789Z".parse().unwrap_or_default());
        o.time("updated_at", "2025-11-18T13:01:44.910111213Z".parse().unwrap_or_default());
        o.value("name", &channel.channel_type);
        let on = [
            "typing_events",
            "read_events",
            "connect_events",
            "search",
            "reactions",
            "replies",
            "quotes",
            "mutes",
            "uploads",
        ];
        for name in on.into_iter().chain([
            "url_enrichment",
            "custom_events",
            "polls",
            "shared_locations",
            "user_message_reminders",
        ]) {
            o.value(name, &true);
        }
        let off = ["push_notifications", "reminders", "mark_messages_pending", "skip_last_msg_update_for_system_msgs"];
        for name in off.into_iter().chain(["count_messages", "delivery_events"]) {
            o.value(name, &false);
        }
        o.value("push_level", "all");
        o.value("message_retention", "infinite");
        o.value("max_message_length", &5_000);
        o.value("automod", "disabled");
        o.value("automod_behavior", "flag");
        o.value("blocklist_behavior", "flag");
        if self.style.complete {
            let command = |name: &str| json!({"name": name, "description": name, "args": "", "set": "fun_set"});
            o.value("commands", &[command("giphy"), command("mute")]);
        } else {
            let threshold = json!({"flag": 0.5, "block": 0.9});
            o.value("automod_thresholds", &json!({"explicit": threshold, "spam": threshold, "toxic": threshold}));
            o.value("commands", &["giphy", "mute"]);
        }
    }

    /// A member; `alone` members stand outside of their channel and name it.
    pub(crate) fn member(&self, out: &mut Vec<u8>, channel: &Channel, member: &Member, alone: bool) {
        let mut o = self.open(out);
        if alone {
            self.address(&mut o, channel);
        }
        o.value("user_id", &member.user_id);
        self.user_field(&mut o, "user", Some(&member.user_id));
        o.value("status", "member");
        o.time("created_at", member.created_at);
        o.time("updated_at", member.updated_at);
        o.value("banned", &member.banned);
        o.value("shadow_banned", &false);
        if self.style.complete {
            o.time_if("archived_at", member.archived_at);
            o.time_if("pinned_at", member.pinned_at);
        } else {
            o.time_or_null("archived_at", member.archived_at);
            o.time_or_null("pinned_at", member.pinned_at);
        }
        if let Some(at) = member.invite_accepted_at {
            o.value("invited", &true);
            o.time("invite_accepted_at", at);
        }
        o.value("role", &member.role);
        o.value("channel_role", &member.channel_role);
        o.value("notifications_muted", &member.notifications_muted);
        self.custom(&mut o, &member.custom);
        o.close();
    }

    pub(crate) fn read(&self, out: &mut Vec<u8>, channel: &Channel, member: &Member, alone: bool) {
        let last_read = member.last_read.unwrap_or(member.created_at);
        let unread = channel.messages.iter().rev().take_while(|message| message.created_at > last_read).count();
        let last = channel.messages.iter().rev().find(|message| message.created_at <= last_read);
        let mut o = self.open(out);
        if alone {
            self.address(&mut o, channel);
        }
        self.user_field(&mut o, "user", Some(&member.user_id));
        o.time("last_read", last_read);
        o.value("unread_messages", &unread);
        if let Some(message) = last {
            o.value("last_read_message_id", &message.id);
        }
        o.close();
    }

    pub(crate) fn reaction(&self, out: &mut Vec<u8>, message_id: &str, reaction: &Reaction) {
        let mut o = self.open(out);
        o.value("message_id", message_id);
        o.value("user_id", &reaction.user_id);
        self.user_field(&mut o, "user", Some(&reaction.user_id));
        o.value("type", &reaction.reaction_type);
        o.value("score", &reaction.score);
        o.time("created_at", reaction.created_at);
        o.time("updated_at", reaction.updated_at);
        self.custom(&mut o, &reaction.custom);
        o.close();
    }

    pub(crate) fn message(&self, out: &mut Vec<u8>, channel: &Channel, threads: &Threads<'_>, message: &Message) {
        self.message_and_quote(out, channel, threads, message, true);
    }

    fn message_and_quote(
        &self,
        out: &mut Vec<u8>,
        channel: &Channel,
        threads: &Threads<'_>,
        message: &Message,
        outer: bool,
    ) {
        // Real payloads mix absent keys, nulls and empty strings; which of them follows from the id, so it never changes.
        let flavour = message.id.bytes().fold(0u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte)) % 6;
        let cleared = self.style.clear_deleted_text && message.deleted_at.is_some();
        let text = if cleared { "" } else { message.text.as_str() };
        let mut o = self.open(out);
        o.value("id", &message.id);
        o.value("text", text);
        let html = if text.is_empty() || flavour == 0 { String::new() } else { format!("<p>{}</p>\n", escape(text)) };
        o.value("html", &html);
        o.value("type", message_type(message, self.style.deleted_type));
        self.user_field(&mut o, "user", message.user_id.as_deref());
        if let Some(member) = channel.members.iter().find(|member| Some(&member.user_id) == message.user_id.as_ref())
            && flavour == 1
        {
            o.object("member", |o| {
                o.value("channel_role", &member.channel_role);
                o.value("notifications_muted", &member.notifications_muted);
            });
        }
        o.array("attachments", &message.attachments, |out, attachment| self.attachment(out, attachment));
        o.array("latest_reactions", message.latest_reactions(), |out, reaction| {
            self.reaction(out, &message.id, reaction);
        });
        o.value("own_reactions", &[""; 0]);
        self.reaction_summary(&mut o, message, flavour);
        let thread = threads.threads.get(message.id.as_str());
        o.value("reply_count", &thread.map_or(0, |thread| thread.reply_count));
        o.value("deleted_reply_count", &thread.map_or(0, |thread| thread.deleted_reply_count));
        if let Some(thread) = thread {
            self.user_list(&mut o, "thread_participants", thread.participants.iter().copied());
        }
        match &message.parent_id {
            Some(parent_id) => {
                o.value("parent_id", parent_id);
                o.value("show_in_channel", &message.show_in_channel);
            }
            None if flavour == 2 => o.value("parent_id", ""),
            None => {}
        }
        match &message.quoted_message_id {
            Some(quoted_id) => {
                o.value("quoted_message_id", quoted_id);
                match threads.messages.get(quoted_id.as_str()) {
                    Some(quoted) if outer => {
                        self.message_and_quote(o.key("quoted_message"), channel, threads, quoted, false);
                    }
                    _ => o.null("quoted_message"),
                }
            }
            None if flavour == 2 => {
                o.value("quoted_message_id", "");
                if !self.style.complete {
                    o.null("quoted_message");
                }
            }
            None => {}
        }
        self.address(&mut o, channel);
        o.time("created_at", message.created_at);
        o.time("updated_at", message.updated_at);
        o.time_if("deleted_at", message.deleted_at);
        o.time_if("message_text_updated_at", message.message_text_updated_at);
        o.value("shadowed", &message.shadowed);
        match self.style.users {
            UserForm::Object => {
                self.user_list(&mut o, "mentioned_users", message.mentioned_user_ids.iter().map(String::as_str));
            }
            UserForm::Id => o.value("mentioned_users_ids", &message.mentioned_user_ids),
        }
        o.value("silent", &message.silent);
        self.pin(&mut o, message);
        self.rare(&mut o, &channel.cid(), message, flavour);
        self.custom(&mut o, &message.custom);
        o.close();
    }

    /// An attachment; keys that the specification does not know are app-defined.
    fn attachment(&self, out: &mut Vec<u8>, attachment: &Value) {
        let Value::Object(fields) = attachment else { return json(out, attachment) };
        let mut o = self.open(out);
        let mut custom = Custom::new();
        for (key, value) in fields {
            if ATTACHMENT_FIELDS.contains(&key.as_str()) {
                o.value(key, value);
            } else {
                custom.insert(key.clone(), value.clone());
            }
        }
        self.custom(&mut o, &custom);
        o.close();
    }

    fn reaction_summary(&self, o: &mut Object<'_>, message: &Message, flavour: u8) {
        let mut groups: BTreeMap<&str, Vec<&Reaction>> = BTreeMap::new();
        for reaction in &message.reactions {
            groups.entry(&reaction.reaction_type).or_default().push(reaction);
        }
        if groups.is_empty() {
            // The user export of real apps shows null counts beside empty scores.
            let counts: &[u8] = if flavour == 3 && !self.style.complete { b"null" } else { b"{}" };
            o.raw("reaction_counts", counts);
            o.raw("reaction_scores", b"{}");
            if !self.style.complete {
                o.null("reaction_groups");
            }
            return;
        }
        let score = |reactions: &[&Reaction]| reactions.iter().map(|reaction| reaction.score).sum::<i64>();
        o.object("reaction_counts", |o| groups.iter().for_each(|(kind, group)| o.value(kind, &group.len())));
        o.object("reaction_scores", |o| groups.iter().for_each(|(kind, group)| o.value(kind, &score(group))));
        o.object("reaction_groups", |o| {
            for (kind, group) in &groups {
                o.object(kind, |o| {
                    let times = || group.iter().map(|reaction| reaction.created_at);
                    o.value("count", &group.len());
                    o.value("sum_scores", &score(group));
                    o.time("first_reaction_at", times().min().unwrap_or_default());
                    o.time("last_reaction_at", times().max().unwrap_or_default());
                    if self.style.complete || flavour.is_multiple_of(2) {
                        o.array("latest_reactions_by", group.iter().rev().take(5), |out, reaction| {
                            let mut o = self.open(out);
                            o.value("user_id", &reaction.user_id);
                            o.time("created_at", reaction.created_at);
                            self.user_field(&mut o, "user", Some(&reaction.user_id));
                            o.close();
                        });
                    }
                });
            }
        });
    }

    fn pin(&self, o: &mut Object<'_>, message: &Message) {
        o.value("pinned", &message.pinned_at.is_some());
        if self.style.complete && message.pinned_at.is_none() {
            return;
        }
        o.time_or_null("pinned_at", message.pinned_at);
        match self.style.users {
            UserForm::Object => self.user_field(o, "pinned_by", message.pinned_by_id.as_deref()),
            UserForm::Id => o.value("pinned_by_id", &message.pinned_by_id),
        }
        o.time_or_null("pin_expires", message.pin_expires);
    }

    fn rare(&self, o: &mut Object<'_>, cid: &str, message: &Message, flavour: u8) {
        if self.style.complete || !message.restricted_visibility.is_empty() {
            o.value("restricted_visibility", &message.restricted_visibility);
        }
        if self.style.complete || message.mentioned_here {
            o.value("mentioned_channel", &false);
            o.value("mentioned_here", &message.mentioned_here);
        }
        if !message.mentioned_roles.is_empty() {
            o.value("mentioned_roles", &message.mentioned_roles);
        }
        if let Some(command) = &message.command {
            o.value("command", command);
        }
        let objects =
            [("i18n", &message.i18n), ("moderation", &message.moderation), ("image_labels", &message.image_labels)];
        for (key, value) in objects {
            if let Some(value) = value {
                o.value(key, value);
            }
        }
        if let Some(location) = &message.shared_location {
            o.object("shared_location", |o| {
                o.value("message_id", &message.id);
                o.value("user_id", &message.user_id);
                o.value("channel_cid", cid);
                o.value("latitude", &location.latitude);
                o.value("longitude", &location.longitude);
                o.value("created_by_device_id", &location.device_id);
                o.time_if("end_at", location.end_at);
                o.time("created_at", message.created_at);
                o.time("updated_at", message.updated_at);
            });
        }
        match &message.poll {
            Some(poll) => {
                o.value("poll_id", &poll.id);
                o.object("poll", |o| self.poll(o, poll));
            }
            None if flavour == 2 => {
                o.value("poll_id", "");
                if !self.style.complete {
                    o.null("poll");
                }
            }
            None => {}
        }
    }
}

/// The `type` that a payload shows.
fn message_type(message: &Message, deleted_type: DeletedType) -> &'static str {
    if message.deleted_at.is_some() && deleted_type == DeletedType::Deleted {
        return "deleted";
    }
    match (message.kind, &message.parent_id) {
        (MessageKind::System, _) => "system",
        (MessageKind::Regular, Some(_)) => "reply",
        (MessageKind::Regular, None) => "regular",
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
