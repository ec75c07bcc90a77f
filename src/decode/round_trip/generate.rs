//! Entities of every kind: each field that Stream documents is there, absent, null or of the wrong type, and others beside them.

use super::fields::{ATTACHMENT, CHANNEL, Fields, Form, MEMBER, MESSAGE, POLL, REACTION, READ, USER};
use Form::{Any, Bool, ByName, Cid, Counts, Custom, Float, Id, Int, ListOf, Of, Size, Text, Texts, Time, User, Users};

/// SplitMix64 (Steele, Lea and Flood, 2014).
pub(super) struct Random(pub(super) u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end as u64).unwrap()
    }

    /// True once in so many times.
    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// The kinds of entity, with what one of each needs to be a row.
pub(super) const KINDS: [(&str, &str); 7] = [
    ("message", r#""id":"m-1","cid":"team:a","created_at":"2026-01-01T10:00:00Z""#),
    ("reaction", r#""message_id":"m-0","user_id":"ada","type":"like""#),
    ("channel", r#""cid":"team:a""#),
    ("member", r#""cid":"team:a","user_id":"ada""#),
    ("user", r#""id":"ada""#),
    ("read", r#""cid":"team:a","user_id":"ada""#),
    ("poll", r#""id":"p-1""#),
];

/// What generated entities are like.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Manners {
    /// Values of the documented type, and the app's own keys.
    Good,
    /// Anything at all, though what identifies the entity mostly fits.
    Bad,
}

/// An entity of a kind as JSON text.
pub(super) fn entity(kind: usize, manners: Manners, random: &mut Random) -> String {
    let fields = [MESSAGE, REACTION, CHANNEL, MEMBER, USER, READ, POLL][kind];
    let needed = KINDS[kind].1;
    let mut writer = Writer { random, manners, out: String::new() };
    writer.object(fields, 0, Some(needed));
    writer.out
}

struct Writer<'r> {
    random: &'r mut Random,
    manners: Manners,
    out: String,
}

impl Writer<'_> {
    fn is_bad(&mut self, times: usize) -> bool {
        self.manners == Manners::Bad && self.random.one_in(times)
    }

    fn space(&mut self) {
        if self.random.one_in(40) {
            let space = self.random.pick(&[" ", "\t", "  \r"]);
            self.out.push_str(space);
        }
    }

    fn object(&mut self, fields: Fields, depth: usize, needed: Option<&str>) {
        let mut entries: Vec<String> = Vec::new();
        // Of a generated key and a needed one, the needed one comes last and counts; at times it is not there at all.
        let sparse = 1 + self.random.below(6);
        for (key, form) in fields {
            let is_id = *key == "id" || *key == "user_id";
            if self.random.one_in(sparse) || is_id && !self.random.one_in(8) {
                let entry = self.entry(key, *form, depth);
                entries.push(entry);
                if self.is_bad(60) {
                    let again = self.entry(key, *form, depth);
                    entries.push(again);
                }
            }
        }
        let more = self.random.below(4) * usize::from(fields.iter().any(|(key, _)| *key == "custom") || depth == 0);
        for _ in 0..more {
            let key = self.name();
            if fields.iter().all(|(known, _)| *known != key) {
                let entry = self.entry(&key, Any, depth);
                entries.push(entry);
            }
        }
        for at in (1..entries.len()).rev() {
            let other = self.random.below(at + 1);
            entries.swap(at, other);
        }
        if let Some(needed) = needed.filter(|_| !self.is_bad(25)) {
            entries.push(needed.to_owned());
        }
        self.between('{', entries, '}');
    }

    fn between(&mut self, open: char, parts: Vec<String>, close: char) {
        self.out.push(open);
        for (number, part) in parts.into_iter().enumerate() {
            if number > 0 {
                self.out.push(',');
            }
            self.space();
            self.out.push_str(&part);
            self.space();
        }
        self.out.push(close);
    }

    fn apart(&mut self, write: impl FnOnce(&mut Self)) -> String {
        let outer = std::mem::take(&mut self.out);
        write(self);
        std::mem::replace(&mut self.out, outer)
    }

    fn entry(&mut self, key: &str, form: Form, depth: usize) -> String {
        self.apart(|it| {
            it.quoted(key);
            it.space();
            it.out.push(':');
            it.space();
            it.value(form, depth + 1);
        })
    }

    fn list(&mut self, most: usize, mut write: impl FnMut(&mut Self)) {
        let count = self.random.below(most + 1);
        let parts =
            (0..count).map(|_| self.apart(|it| if it.is_bad(6) { it.anything(2) } else { write(it) })).collect();
        self.between('[', parts, ']');
    }

    fn value(&mut self, form: Form, depth: usize) {
        if self.random.one_in(14) {
            return self.out.push_str("null");
        }
        if self.is_bad(9) {
            return self.anything(3);
        }
        match form {
            Text => self.text(),
            Id => {
                let id = self.random.pick(&["ada", "bob", "m-0", "m-1", "p-1", "Éva", ""]);
                self.quoted(id);
            }
            Cid => {
                let cid = self.random.pick(&["team:a", "team:b", "messaging:x", ""]);
                self.quoted(cid);
            }
            Int => {
                let int =
                    self.random.pick(&["0", "7", "-3", "12.0", "1e3", "9223372036854775807", "-9223372036854775808"]);
                self.out.push_str(int);
            }
            Size => {
                let size = self.random.pick(&["0", "48213", "\"48213\"", "1600.0"]);
                self.out.push_str(size);
            }
            Float => {
                let float = self.random.pick(&["0", "-0.0", "52.520008", "13.404954", "1e-7", "7"]);
                self.out.push_str(float);
            }
            Bool => {
                let flag = self.random.pick(&["true", "false"]);
                self.out.push_str(flag);
            }
            Time => self.time(),
            Texts => self.list(3, Self::value_of_text),
            Counts => self.map(|it| it.value(Int, 9)),
            User if self.random.one_in(4) => self.value(Id, depth),
            User => self.object(USER, depth, None),
            Users => self.list(3, |it| it.object(USER, depth, Some(r#""id":"eve""#))),
            Of(fields) => self.object(fields, depth, None),
            ListOf(fields) => self.list(3, |it| it.object(fields, depth, None)),
            ByName(fields) => self.map(|it| it.object(fields, depth, None)),
            Any => self.anything(3),
            Custom => {
                let parts = (0..self.random.below(4))
                    .map(|_| {
                        let key = self.name();
                        self.entry(&key, Any, depth)
                    })
                    .collect();
                self.between('{', parts, '}');
            }
        }
    }

    fn map(&mut self, mut write: impl FnMut(&mut Self)) {
        let parts = (0..self.random.below(4))
            .map(|_| {
                let key = self.random.pick(&["like", "love", "wow", "a.b", "a[0]", "", "\"", "été"]);
                self.apart(|it| {
                    it.quoted(key);
                    it.out.push(':');
                    if it.is_bad(6) { it.anything(2) } else { write(it) }
                })
            })
            .collect();
        self.between('{', parts, '}');
    }

    fn time(&mut self) {
        let time = self.random.pick(&[
            r#""2026-01-01T12:00:00Z""#,
            r#""2026-01-01T12:00:00.5Z""#,
            r#""2026-01-01T12:00:00.123456789Z""#,
            r#""2026-01-01t13:30:00.12+01:30""#,
            r#""1969-12-31T23:59:59.9999999Z""#,
            r#""2016-12-31T23:59:60Z""#,
            r#""0001-01-01T00:00:00Z""#,
            r#""0001-01-01T00:00:00.000000Z""#,
            r#""""#,
            "1767268800123456789",
            "-1",
            "-6795364578871345152",
            r#""1767268800123456789""#,
        ]);
        // A number that is no time is for bad manners only.
        self.out.push_str(if time == "-1" && self.manners == Manners::Good { "null" } else { time });
    }

    fn value_of_text(&mut self) {
        let text = self.random.pick(&["red", "blue", "été", "a\"b", "x"]);
        self.quoted(text);
    }

    fn text(&mut self) {
        match self.random.below(400) {
            0 => {
                let long = "Größe 🙂 ".repeat(1 << 16);
                self.quoted(&long);
            }
            1..40 if self.manners == Manners::Bad => self.out.push_str(r#""a\ud800b\udc00\ud83d\ude00\\ud800""#),
            40..60 => self.out.push_str(r#""\u0000\/\b\f\n\r\t\"\\\u00e9""#),
            60..80 => self.out.push_str("\"\""),
            _ => {
                let text = self.random.pick(&[
                    "hi",
                    "¿Dónde?",
                    "👩‍👩‍👧 family",
                    "<b>&amp;</b>",
                    "2026",
                    "null",
                    "\u{feff}x",
                    "a.b",
                ]);
                self.quoted(text);
            }
        }
    }

    /// A text, some of it in escapes.
    fn quoted(&mut self, text: &str) {
        self.out.push('"');
        let escapes = self.random.one_in(10) && text.len() < 100;
        for letter in text.chars() {
            match letter {
                '"' | '\\' => {
                    self.out.push('\\');
                    self.out.push(letter);
                }
                letter if escapes && self.random.one_in(2) => {
                    for unit in letter.encode_utf16(&mut [0; 2]) {
                        self.out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                letter => self.out.push(letter),
            }
        }
        self.out.push('"');
    }

    /// A key that some schema knows, or none.
    fn name(&mut self) -> String {
        let all = [MESSAGE, CHANNEL, USER, ATTACHMENT, POLL];
        match self.random.below(8) {
            0..3 => {
                let fields = self.random.pick(&all);
                self.random.pick(fields).0.to_owned()
            }
            number => ["ticket", "été", "a.b", "x[0]", ""][number - 3].to_owned(),
        }
    }

    fn anything(&mut self, depth: usize) {
        match self.random.below(if depth == 0 { 8 } else { 11 }) {
            0 => self.out.push_str("null"),
            1 => self.value(Bool, 9),
            2 => {
                let number = self.random.pick(&[
                    "1",
                    "1.5",
                    "1e400",
                    "-1e-400",
                    "9223372036854775808",
                    "123456789012345678901234567890.5",
                    "-0",
                    "1767268800",
                ]);
                self.out.push_str(number);
            }
            3 => self.value_of_text(),
            4 => self.text(),
            5 => self.time(),
            6 => self.value(Id, 9),
            7 if self.random.one_in(300) => {
                self.out.push_str(&r#"[{"x":"#.repeat(50));
                self.out.push('1');
                self.out.push_str(&"}]".repeat(50));
            }
            7 => self.out.push_str("\"12\""),
            8 => self.list(3, |it| it.anything(depth - 1)),
            9 => {
                let parts = (0..self.random.below(4))
                    .map(|_| {
                        let key = self.name();
                        self.apart(|it| {
                            it.quoted(&key);
                            it.out.push(':');
                            it.anything(depth - 1);
                        })
                    })
                    .collect();
                self.between('{', parts, '}');
            }
            _ => self.object(USER, 9, None),
        }
    }
}
