//! Paths of rescued values: `attachments[0].title`, and `reaction_counts["a.b"]` for a name that would read as a path.

use std::fmt::Write;

pub(super) fn push_key(path: &mut String, key: &str) {
    if key.is_empty() || key.bytes().any(|byte| matches!(byte, b'.' | b'[' | b']' | b'"')) {
        // Writing to a text cannot fail.
        let _ = write!(path, "[{}]", serde_json::Value::from(key));
        return;
    }
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(key);
}

pub(super) fn push_index(path: &mut String, index: usize) {
    let _ = write!(path, "[{index}]");
}

/// The keys that a path leads through.
pub(super) fn keys(path: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if rest.starts_with("[\"") {
            let mut texts = serde_json::Deserializer::from_str(&rest[1..]).into_iter::<String>();
            let Some(Ok(key)) = texts.next() else { break };
            keys.push(key);
            rest = rest.get(texts.byte_offset() + 2..).unwrap_or_default();
        } else if rest.starts_with('[') {
            rest = rest.split_once(']').map_or("", |(_, after)| after);
        } else {
            let key = rest.strip_prefix('.').unwrap_or(rest);
            let end = key.find(['.', '[']).unwrap_or(key.len());
            keys.push(key[..end].to_owned());
            rest = &key[end..];
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_from_a_path() {
        let names = ["attachments", "a.b", "", "x[0]", "\"]", "été"];
        let mut path = String::new();
        for name in names {
            push_key(&mut path, name);
            push_index(&mut path, 7);
        }
        assert_eq!(path, r#"attachments[7]["a.b"][7][""][7]["x[0]"][7]["\"]"][7].été[7]"#);
        assert_eq!(keys(&path), names);
        assert_eq!(keys("a.b[0].c"), ["a", "b", "c"]);
        assert_eq!(keys("[\"broken"), [] as [&str; 0]);
    }
}
