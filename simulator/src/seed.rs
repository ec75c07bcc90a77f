//! A seeded world: the same app for the same seed and size, with every oddity that real payloads have.

use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::corpus;
use crate::entity::{
    Channel, Custom, Member, Message, MessageKind, Poll, PollOption, PollVote, Reaction, SharedLocation, User,
};
use crate::world::World;

/// How much there is in a seeded world.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Size {
    /// Channels, the odd ones included.
    pub channels: usize,
    /// Users; at least 12.
    pub users: usize,
    /// Days with messages.
    pub days: usize,
    /// Messages on each day of a channel, thread replies included.
    pub messages_per_channel_day: usize,
    /// The first day with messages.
    pub first_day: Date,
    /// Whether, from eight channels on, one is truncated, one soft-deleted and one empty.
    pub odd_channels: bool,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            channels: 12,
            users: 24,
            days: 3,
            messages_per_channel_day: 20,
            first_day: date(2026, 1, 5),
            odd_channels: true,
        }
    }
}

const TRUNCATED: usize = 5;
const SOFT_DELETED: usize = 6;
const EMPTY: usize = 7;

pub(crate) fn build(seed: u64, size: &Size) -> World {
    let start =
        size.first_day.to_zoned_datetime(TimeZone::UTC).map(|midnight| midnight.timestamp()).unwrap_or_default();
    let mut seeder = Seeder {
        random: Random(seed),
        world: World::empty(),
        start,
        size: size.clone(),
        user_ids: Vec::new(),
        count: 0,
    };
    seeder.users();
    for number in 0..size.channels {
        seeder.channel(number);
    }
    seeder.world
}

struct Seeder {
    random: Random,
    world: World,
    start: Timestamp,
    size: Size,
    user_ids: Vec<String>,
    /// Messages so far. Rare features recur by its remainders, so even a small world has each of them.
    count: usize,
}

impl Seeder {
    fn users(&mut self) {
        for number in 0..self.size.users.max(12) {
            let name = corpus::PEOPLE[number % corpus::PEOPLE.len()];
            let first = ascii(name.split(' ').next().unwrap_or(name));
            let round = number / corpus::PEOPLE.len();
            let id = if round == 0 { first.clone() } else { format!("{first}-{}", round + 1) };
            let created_at = self.start
                - SignedDuration::from_hours(24 * 400 - 31 * i64::try_from(number).unwrap_or(0))
                + self.random.below_us(3_600_000_000);
            let mut user = User::new(&id, name, created_at);
            user.updated_at = created_at + SignedDuration::from_hours(24 * 90);
            user.image = match number % 5 {
                4 => String::new(),
                _ => format!("https://cdn.example.com/avatars/{id}.png"),
            };
            user.role = if number == 0 { "admin".into() } else { "user".into() };
            user.language = if number % 7 == 3 { "es".into() } else { String::new() };
            if number % 6 != 5 {
                let ns = self.random.int(999_999_999);
                user.last_active = Some(self.start + SignedDuration::from_hours(9) + SignedDuration::from_nanos(ns));
            }
            if number % 8 == 2 {
                user.teams = vec!["emea".into(), "support".into()];
                user.teams_role = [("support".to_owned(), "lead".to_owned())].into();
            }
            if number % 9 == 4 {
                user.privacy_settings = Some(json!({
                    "typing_indicators": {"enabled": true}, "read_receipts": {"enabled": false},
                }));
            }
            if number % 3 == 0 {
                user.custom = object(json!({
                    "title": self.random.pick(&["Support agent", "Courier", "Engineer", "Buyer", "Team lead"]),
                    "timezone": "Europe/Berlin",
                }));
            }
            self.world.add_user(user);
            self.user_ids.push(id);
        }
    }

    fn channel(&mut self, number: usize) {
        let hours = self.random.int(24 * 60);
        let created_at = self.start - SignedDuration::from_hours(24 + hours) + self.random.below_us(3_600_000_000);
        let mut team_size = 3 + self.random.below(6);
        let (mut channel, talk): (Channel, Talk) = match number % 4 {
            0 | 2 if number.is_multiple_of(4) || number < 4 => {
                let (id, name, topic) = corpus::TEAM_CHANNELS[(number / 2) % corpus::TEAM_CHANNELS.len()];
                let round = number / 2 / corpus::TEAM_CHANNELS.len();
                let id = if round == 0 { id.to_owned() } else { format!("{id}-{round}") };
                let mut channel = Channel::new("team", id, created_at);
                channel.custom = object(json!({"name": name, "topic": {"budget": 12.5, "tags": ["internal"]}}));
                (channel, Talk::Team(topic))
            }
            1 => {
                team_size = 2;
                let mut channel = Channel::new("support", format!("ticket-{}", 48_200 + number), created_at);
                let order = self.order();
                channel.custom =
                    object(json!({"name": format!("Order {order}"), "order": order, "priority": number % 3}));
                (channel, Talk::Support)
            }
            3 if number % 8 == 3 => {
                team_size = 11;
                let mut channel = Channel::new("livestream", format!("launch-{number}"), created_at);
                channel.custom =
                    object(json!({"name": "Spring launch", "image": "https://cdn.example.com/launch.jpg"}));
                (channel, Talk::Live)
            }
            _ => {
                team_size = 2;
                (Channel::new("messaging", format!("!members-{}", self.random.token()), created_at), Talk::Direct)
            }
        };
        let members = self.pick_users(team_size);
        channel.created_by_id = members.first().cloned();
        channel.members = members.iter().map(|id| Member::new(id, created_at)).collect();
        if let Some(owner) = channel.members.first_mut() {
            owner.role = "owner".into();
            owner.channel_role = "channel_moderator".into();
        }
        if let Some(last) = channel.members.last_mut() {
            last.notifications_muted = number % 3 == 1;
            last.pinned_at = (number % 4 == 1).then_some(self.start);
            last.archived_at = (number % 4 == 2).then_some(self.start);
            last.invite_accepted_at = number.is_multiple_of(3).then_some(created_at);
            last.custom = object(json!({"nickname": "the new one"}));
        }
        if number % 8 == 3 {
            channel.cooldown = 5;
            channel.filter_tags = vec!["launch".into(), "public".into()];
        }
        let cid = channel.cid();
        if self.world.add_channel(channel).is_err() {
            return;
        }
        let odd = self.size.odd_channels && self.size.channels >= 8;
        if odd && number == EMPTY {
            return;
        }
        for day in 0..self.size.days {
            self.day(number, day, &cid, talk, &members);
        }
        self.read_up_to(&cid);
        let half = SignedDuration::from_hours(12 * i64::try_from(self.size.days).unwrap_or(0));
        if odd && number == TRUNCATED {
            let _ = self.world.truncate(&cid, self.start + half, false);
        }
        if odd && number == SOFT_DELETED {
            let _ = self.world.delete_channel(&cid, self.start + half + half, false);
        }
    }

    fn day(&mut self, number: usize, day: usize, cid: &str, talk: Talk, members: &[String]) {
        const DAY_US: i64 = 86_400_000_000;
        let midnight = self.start + SignedDuration::from_hours(24 * i64::try_from(day).unwrap_or(0));
        let mut offsets: Vec<i64> = (0..self.size.messages_per_channel_day)
            .map(|_| 6 * 3_600_000_000 + self.random.int(16 * 3_600_000_000))
            .collect();
        offsets.sort_unstable();
        // The first channel speaks at the very edges of each day, and once twice in the same instant.
        if number == 0 && offsets.len() >= 4 {
            let last = offsets.len() - 1;
            offsets[0] = 0;
            offsets[last] = DAY_US - 1;
            offsets[2] = offsets[1];
        }
        let mut recent: Vec<String> = Vec::new();
        for offset in offsets {
            // Whole milliseconds and seconds occur as well, so fractions have different lengths.
            let offset = match self.count % 11 {
                3 if offset > 0 => offset / 1_000 * 1_000,
                7 if offset > 0 => offset / 1_000_000 * 1_000_000,
                _ => offset,
            };
            let at = midnight + SignedDuration::from_micros(offset);
            let message = self.message(at, cid, talk, members, &recent);
            let is_root = message.parent_id.is_none();
            if let Ok(id) = self.world.add_message(cid, message)
                && is_root
            {
                recent.push(id);
            }
        }
    }

    fn message(&mut self, at: Timestamp, cid: &str, talk: Talk, members: &[String], recent: &[String]) -> Message {
        let n = self.count;
        self.count += 1;
        let author = self.random.pick(members).clone();
        let text = match talk {
            Talk::Team(topic) => *self.random.pick(corpus::TEAM_TALK[topic]),
            Talk::Support if Some(&author) == members.first() => *self.random.pick(&corpus::AGENT_TALK),
            Talk::Support => *self.random.pick(&corpus::CUSTOMER_TALK),
            Talk::Live => *self.random.pick(&corpus::LIVE_TALK),
            Talk::Direct => *self.random.pick(&corpus::DIRECT_TALK),
        };
        let mut message = Message::new(format!("{author}-{}", self.random.uuid()), &author, self.fill(text), at);
        let later = |minutes: i64| at + SignedDuration::from_mins(minutes) + SignedDuration::from_micros(417_003);
        if n % 7 == 5 && !recent.is_empty() {
            message.parent_id = Some(recent[recent.len() - 1 - self.random.below(recent.len().min(3))].clone());
            let reply = *self.random.pick(&corpus::REPLIES);
            message.text = self.fill(reply);
            message.show_in_channel = n.is_multiple_of(5);
        } else if n % 23 == 4 && !recent.is_empty() {
            message.quoted_message_id = Some(self.random.pick(recent).clone());
        }
        if n % 4 == 1 {
            let most = members.len().min(4);
            self.react(&mut message, members, 1 + n % most);
        }
        if n % 97 == 12 {
            let crowd = self.user_ids.clone();
            self.react(&mut message, &crowd, 12);
        }
        if n % 9 == 2 {
            let mentioned = self.random.pick(members).clone();
            message.text = format!("@{mentioned} {}", message.text);
            message.mentioned_user_ids = vec![mentioned];
        }
        if n % 13 == 6 {
            message.attachments = self.attachments(n);
            message.image_labels = n.is_multiple_of(3).then(|| json!({"IMG_2041.jpg": ["tent", "outdoor"]}));
        }
        if n % 5 == 3 && matches!(talk, Talk::Support) {
            message.custom = object(json!({
                "ticket": {"id": 48_200 + n, "tags": ["delivery", "late"], "sla_hours": 4.5},
                "source": "web-widget",
                "first_contact": n.is_multiple_of(2),
                "rating": null,
            }));
        }
        if n % 17 == 9 && matches!(talk, Talk::Support | Talk::Live) {
            message.i18n = Some(json!({
                "language": "en", "en_text": message.text, "de_text": "Wo bleibt meine Bestellung?", "es_text": "¿Dónde está mi pedido?",
            }));
        }
        self.rare(&mut message, n, cid, &author, members);
        if n % 19 == 8 {
            message.text.push_str(" (edited)");
            message.updated_at = later(3);
            message.message_text_updated_at = Some(later(3));
        }
        if n % 41 == 20 {
            message.deleted_at = Some(later(14));
        }
        message
    }

    fn rare(&mut self, message: &mut Message, n: usize, cid: &str, author: &str, members: &[String]) {
        let at = message.created_at;
        let later = |minutes: i64| at + SignedDuration::from_mins(minutes);
        match n % 149 {
            10 => {
                message.kind = MessageKind::System;
                message.text = format!("{author} changed the channel name");
                message.parent_id = None;
            }
            21 | 85 => {
                message.pinned_at = Some(later(5));
                message.pinned_by_id = members.first().cloned();
                message.pin_expires = n.is_multiple_of(2).then(|| later(7 * 24 * 60));
            }
            34 => {
                message.text = "Where do we go on Friday?".into();
                message.poll = Some(self.poll(author, members, at));
            }
            46 => {
                message.moderation = Some(json!({
                    "action": "MESSAGE_RESPONSE_ACTION_FLAG", "original_text": message.text, "blocklist_matched": "profanity_en",
                    "image_harms": [], "text_harms": ["insult"], "platform_circumvented": false,
                }));
            }
            57 => {
                message.shared_location = Some(SharedLocation {
                    latitude: 52.520_008,
                    longitude: 13.404_954,
                    device_id: format!("{cid}-phone"),
                    end_at: Some(later(60)),
                });
            }
            68 => message.shadowed = true,
            79 => message.restricted_visibility = members.iter().take(2).cloned().collect(),
            91 => message.silent = true,
            96 => {
                message.text = format!("@here @moderators {}", message.text);
                message.mentioned_here = true;
                message.mentioned_roles = vec!["channel_moderator".into()];
            }
            103 => {
                message.command = Some("giphy".into());
                message.text = "/giphy high five".into();
            }
            115 => message.user_id = None,
            126 => {
                let story = "The parcel went from the depot to the hub and back. ".repeat(60);
                message.text = format!("Long story:\n\n{story}");
            }
            138 => message.text = String::new(),
            _ => {}
        }
    }

    fn react(&mut self, message: &mut Message, users: &[String], count: usize) {
        for user_id in users.iter().take(count) {
            let seconds = 20 + self.random.int(5_000);
            let at = message.created_at + SignedDuration::from_secs(seconds) + self.random.below_us(1_000_000);
            let kind = *self.random.pick(&corpus::REACTIONS);
            let mut reaction = Reaction::new(user_id, kind, at);
            if self.random.below(12) == 0 {
                reaction.score = 5;
                reaction.custom = object(json!({"emoji": "🔥"}));
            }
            if !message.reactions.iter().any(|other| other.user_id == *user_id && other.reaction_type == kind) {
                message.reactions.push(reaction);
            }
        }
    }

    fn attachments(&mut self, n: usize) -> Vec<Value> {
        let token = self.random.token();
        let signed = format!("?Expires={}&Signature={}&Key-Pair-Id=APKA", 1_790_000_000 + n, self.random.token());
        match n % 3 {
            0 => vec![json!({
                "type": "image", "fallback": "IMG_2041.jpg", "image_url": format!("https://cdn.example.com/{token}/IMG_2041.jpg{signed}"),
                "original_width": 1600, "original_height": 1200, "file_size": 482_113,
            })],
            1 => vec![
                json!({
                    "type": "file", "title": "invoice.pdf", "asset_url": format!("https://cdn.example.com/{token}/invoice.pdf{signed}"),
                    "mime_type": "application/pdf", "file_size": "48213",
                }),
                json!({
                    "type": "voiceRecording", "title": "voice.aac", "duration": 7.82, "waveform_data": [0.1, 0.42, 0.9],
                    "asset_url": format!("https://cdn.example.com/{token}/voice.aac{signed}"), "mime_type": "audio/aac",
                }),
            ],
            _ => vec![json!({
                "type": "article", "title": "How to fold a tent", "title_link": "https://shop.example.com/guides/tent",
                "og_scrape_url": "https://shop.example.com/guides/tent", "text": "Three steps and no tears",
                "author_name": "shop.example.com", "actions": [{"name": "open", "text": "Open", "type": "button", "style": "primary", "value": "1"}],
                "fields": [{"title": "Reading time", "value": "3 min", "short": true}],
            })],
        }
    }

    fn poll(&mut self, author: &str, members: &[String], at: Timestamp) -> Poll {
        let options: Vec<_> = ["Climbing hall", "Ramen", "Bowling"]
            .into_iter()
            .map(|text| PollOption { id: self.random.uuid(), text: text.into() })
            .collect();
        let votes: Vec<_> = members
            .iter()
            .map(|user_id| PollVote {
                id: self.random.uuid(),
                option_id: self.random.pick(&options).id.clone(),
                user_id: user_id.clone(),
                created_at: at + self.random.below_us(600_000_000),
            })
            .collect();
        Poll {
            id: self.random.uuid(),
            name: "Friday".into(),
            description: String::new(),
            updated_at: votes.iter().map(|vote| vote.created_at).max().unwrap_or(at),
            options,
            votes,
            is_closed: false,
            created_by_id: author.to_owned(),
            created_at: at,
        }
    }

    fn read_up_to(&mut self, cid: &str) {
        let Ok(channel) = self.world.channel_mut(cid) else { return };
        let times: Vec<_> = channel.messages.iter().map(|message| message.created_at).collect();
        for member in &mut channel.members {
            member.last_read = times.get(self.random.below(times.len().max(1))).copied();
        }
    }

    fn fill(&mut self, template: &str) -> String {
        let number = 3 + self.random.below(90);
        let person = *self.random.pick(&corpus::PEOPLE);
        template
            .replace("{num}", &number.to_string())
            .replace("{order}", &self.order())
            .replace("{city}", self.random.pick::<&str>(&corpus::CITIES))
            .replace("{product}", self.random.pick::<&str>(&corpus::PRODUCTS))
            .replace("{day}", self.random.pick::<&str>(&corpus::DAYS))
            .replace("{name}", person.split(' ').next().unwrap_or(person))
    }

    fn order(&mut self) -> String {
        format!("A-{}", 100_000 + self.random.below(900_000))
    }

    fn pick_users(&mut self, count: usize) -> Vec<String> {
        let first = self.random.below(self.user_ids.len());
        (0..count.min(self.user_ids.len()))
            .map(|step| self.user_ids[(first + step * 5) % self.user_ids.len()].clone())
            .fold(Vec::new(), |mut picked, id| {
                if !picked.contains(&id) {
                    picked.push(id);
                }
                picked
            })
    }
}

/// What a channel talks about.
#[derive(Clone, Copy)]
enum Talk {
    Team(usize),
    Support,
    Live,
    Direct,
}

/// SplitMix64: small, and the same on every machine and in every version.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `end`, or 0 when `end` is 0. The bias is far below what anyone could see.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap_or(u64::MAX).max(1)).unwrap_or(0)
    }

    /// The same for signed arithmetic; `end` is positive.
    fn int(&mut self, end: i64) -> i64 {
        i64::try_from(self.next() % end.unsigned_abs().max(1)).unwrap_or(0)
    }

    fn below_us(&mut self, end_us: i64) -> SignedDuration {
        SignedDuration::from_micros(self.int(end_us))
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    fn token(&mut self) -> String {
        format!("{:016x}", self.next())
    }

    fn uuid(&mut self) -> String {
        let (a, b) = (self.next(), self.next());
        format!(
            "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
            a >> 32,
            (a >> 16) & 0xFFFF,
            a & 0xFFF,
            b >> 52,
            b & 0xFFFF_FFFF_FFFF
        )
    }
}

fn object(value: Value) -> Custom {
    match value {
        Value::Object(map) => map,
        _ => Custom::new(),
    }
}

fn ascii(name: &str) -> String {
    let plain = |letter: char| match letter {
        'á' | 'ã' => 'a',
        'é' => 'e',
        'ř' => 'r',
        letter => letter,
    };
    name.to_lowercase().chars().map(plain).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_builds_the_same_world() {
        let facts = |seed| {
            let world = World::seeded(seed, &Size::default());
            serde_json::to_string(&world.channels().map(|channel| (**channel).clone()).collect::<Vec<_>>()).unwrap()
        };
        assert_eq!(facts(1), facts(1));
        assert_ne!(facts(1), facts(2));
    }

    #[test]
    fn a_small_world_has_every_feature() {
        let world = World::seeded(7, &Size::default());
        let messages: Vec<_> = world.channels().flat_map(|channel| &channel.messages).collect();
        assert_eq!(messages.len(), 11 * 3 * 20);
        let some = |has: fn(&Message) -> bool| messages.iter().any(|message| has(message));
        assert!(some(|message| message.reactions.len() > 10));
        assert!(some(|message| message.parent_id.is_some()));
        assert!(some(|message| message.quoted_message_id.is_some()));
        assert!(some(|message| !message.attachments.is_empty()));
        assert!(some(|message| !message.mentioned_user_ids.is_empty()));
        assert!(some(|message| message.deleted_at.is_some()));
        assert!(some(|message| message.pinned_at.is_some()));
        assert!(some(|message| message.poll.is_some()));
        assert!(some(|message| message.moderation.is_some()));
        assert!(some(|message| message.i18n.is_some()));
        assert!(some(|message| message.shared_location.is_some()));
        assert!(some(|message| message.kind == MessageKind::System));
        assert!(some(|message| message.user_id.is_none()));
        assert!(some(|message| !message.custom.is_empty()));
        assert!(world.channels().any(|channel| channel.messages.is_empty()));
        assert!(world.channels().any(|channel| channel.deleted_at.is_some()));
        assert!(world.channels().any(|channel| channel.truncated_at.is_some()));
        let types: std::collections::BTreeSet<_> =
            world.channels().map(|channel| channel.channel_type.as_str()).collect();
        assert_eq!(types.len(), 4);
    }
}
