//! JSON as it was written: numbers keep their digits, and half a surrogate pair reads as the characters that wrote it.

use std::collections::BTreeMap;
use std::fmt;

/// A value. Of a key that came twice, the last counts.
#[derive(Clone, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    Array(Vec<Json>),
    Object(Object),
}

pub(super) type Object = BTreeMap<String, Json>;

impl Json {
    pub(super) fn parse(text: &str) -> Self {
        let mut parser = Parser { text, at: 0 };
        let value = parser.value();
        parser.space();
        assert_eq!(parser.at, text.len(), "something follows the value in {text}");
        value
    }

    pub(super) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    pub(super) fn as_object(&self) -> Option<&Object> {
        if let Self::Object(object) = self { Some(object) } else { None }
    }

    pub(super) fn as_array(&self) -> Option<&[Json]> {
        if let Self::Array(items) = self { Some(items) } else { None }
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(flag) => write!(f, "{flag}"),
            Self::Number(digits) => f.write_str(digits),
            Self::Text(text) if text.len() > 100 => write!(f, "{} bytes {:?}…", text.len(), &text[..12]),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Array(items) => f.debug_list().entries(items).finish(),
            Self::Object(object) => f.debug_map().entries(object).finish(),
        }
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> u8 {
        self.text.as_bytes()[self.at]
    }

    fn space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
    }

    fn take(&mut self, byte: u8) -> bool {
        self.space();
        let is_next = self.peek() == byte;
        self.at += usize::from(is_next);
        is_next
    }

    fn value(&mut self) -> Json {
        self.space();
        match self.peek() {
            b'{' => {
                self.at += 1;
                let mut object = Object::new();
                while !self.take(b'}') {
                    self.take(b',');
                    self.space();
                    let key = self.string();
                    assert!(self.take(b':'));
                    object.insert(key, self.value());
                }
                Json::Object(object)
            }
            b'[' => {
                self.at += 1;
                let mut items = Vec::new();
                while !self.take(b']') {
                    self.take(b',');
                    items.push(self.value());
                }
                Json::Array(items)
            }
            b'"' => Json::Text(self.string()),
            _ => {
                let rest = &self.text[self.at..];
                let word = &rest[..rest.find([',', '}', ']', ' ', '\t', '\r', '\n']).unwrap_or(rest.len())];
                self.at += word.len();
                match word {
                    "null" => Json::Null,
                    "true" => Json::Bool(true),
                    "false" => Json::Bool(false),
                    digits => Json::Number(digits.to_owned()),
                }
            }
        }
    }

    fn string(&mut self) -> String {
        assert_eq!(self.peek(), b'"');
        self.at += 1;
        let mut units: Vec<u16> = Vec::new();
        let mut text = String::new();
        loop {
            let letter = self.text[self.at..].chars().next().unwrap();
            self.at += letter.len_utf8();
            match letter {
                '"' => break,
                '\\' => {
                    let escape = self.peek();
                    self.at += 1;
                    units.push(match escape {
                        b'b' => 8,
                        b'f' => 12,
                        b'n' => 10,
                        b'r' => 13,
                        b't' => 9,
                        b'u' => {
                            self.at += 4;
                            u16::from_str_radix(&self.text[self.at - 4..self.at], 16).unwrap()
                        }
                        other => u16::from(other),
                    });
                    // Pairs are escaped together, so what a unit belongs to is known once the next one is no half.
                    if escape != b'u' || !self.text[self.at..].starts_with("\\u") {
                        self.flush(&mut units, &mut text);
                    }
                }
                letter => text.push(letter),
            }
        }
        text
    }

    fn flush(&self, units: &mut Vec<u16>, text: &mut String) {
        let mut end = self.at;
        let mut parts: Vec<String> = Vec::new();
        for unit in char::decode_utf16(units.drain(..)).collect::<Vec<_>>().into_iter().rev() {
            match unit {
                Ok(letter) => {
                    end = end.saturating_sub(6 * letter.len_utf16());
                    parts.push(letter.to_string());
                }
                Err(_) => {
                    parts.push(self.text[end - 6..end].to_owned());
                    end -= 6;
                }
            }
        }
        text.extend(parts.into_iter().rev());
    }
}

#[test]
fn values_keep_what_wrote_them() {
    let value = Json::parse(r#" {"a":[1.0, -0 ,1e400],"a":"\ud83d\ude00\ud800\u0041\n","b":{"\uDFFF":null}} "#);
    assert_eq!(format!("{value:?}"), r#"{"a": "😀\\ud800A\n", "b": {"\\uDFFF": null}}"#);
}
