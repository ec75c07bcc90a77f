//! Writes JSON objects straight into a buffer, key by key in the order of real payloads.

use jiff::Timestamp;
use serde::Serialize;

use crate::switches::TimestampForm;

/// An object under construction. Closed by [`Object::close`].
pub(crate) struct Object<'a> {
    out: &'a mut Vec<u8>,
    timestamps: TimestampForm,
    empty: bool,
}

impl<'a> Object<'a> {
    pub(crate) fn open(out: &'a mut Vec<u8>, timestamps: TimestampForm) -> Self {
        out.push(b'{');
        Self { out, timestamps, empty: true }
    }

    pub(crate) fn close(self) {
        self.out.push(b'}');
    }

    /// Writes the key; the caller writes its value.
    pub(crate) fn key(&mut self, key: &str) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        json(self.out, key);
        self.out.push(b':');
        self.out
    }

    pub(crate) fn value(&mut self, key: &str, value: &(impl Serialize + ?Sized)) {
        json(self.key(key), value);
    }

    pub(crate) fn raw(&mut self, key: &str, value: &[u8]) {
        self.key(key).extend_from_slice(value);
    }

    pub(crate) fn null(&mut self, key: &str) {
        self.raw(key, b"null");
    }

    pub(crate) fn time(&mut self, key: &str, at: Timestamp) {
        let timestamps = self.timestamps;
        match timestamps {
            TimestampForm::Rfc3339 => {
                let out = self.key(key);
                out.push(b'"');
                out.extend_from_slice(at.to_string().as_bytes());
                out.push(b'"');
            }
            TimestampForm::Nanoseconds => self.value(key, &nanoseconds(at)),
        }
    }

    pub(crate) fn time_or_null(&mut self, key: &str, at: Option<Timestamp>) {
        match at {
            Some(at) => self.time(key, at),
            None => self.null(key),
        }
    }

    /// The key is left out when there is no time.
    pub(crate) fn time_if(&mut self, key: &str, at: Option<Timestamp>) {
        if let Some(at) = at {
            self.time(key, at);
        }
    }

    pub(crate) fn object(&mut self, key: &str, fill: impl FnOnce(&mut Object<'_>)) {
        let timestamps = self.timestamps;
        let mut inner = Object::open(self.key(key), timestamps);
        fill(&mut inner);
        inner.close();
    }

    pub(crate) fn array<T>(
        &mut self,
        key: &str,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Vec<u8>, T),
    ) {
        let out = self.key(key);
        out.push(b'[');
        for (number, item) in items.into_iter().enumerate() {
            if number > 0 {
                out.push(b',');
            }
            write(out, item);
        }
        out.push(b']');
    }
}

/// Appends `value` as JSON.
pub(crate) fn json(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    serde_json::to_writer(out, value).expect("writing to memory does not fail, and all keys are strings");
}

/// Unix nanoseconds, which fit until the year 2262.
pub(crate) fn nanoseconds(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond()).unwrap_or(if at < Timestamp::UNIX_EPOCH { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn objects_nest_and_times_follow_their_form() {
        let at: Timestamp = "2026-01-05T08:17:49.7458Z".parse().unwrap();
        let written = |form| {
            let mut out = Vec::new();
            let mut object = Object::open(&mut out, form);
            object.value("id", "a\"b");
            object.object("inner", |inner| inner.time("at", at));
            object.array("list", [1, 2], |out, number| json(out, &number));
            object.time_or_null("none", None);
            object.close();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            written(TimestampForm::Rfc3339),
            r#"{"id":"a\"b","inner":{"at":"2026-01-05T08:17:49.7458Z"},"list":[1,2],"none":null}"#
        );
        assert_eq!(
            written(TimestampForm::Nanoseconds),
            r#"{"id":"a\"b","inner":{"at":1767601069745800000},"list":[1,2],"none":null}"#
        );
    }
}
