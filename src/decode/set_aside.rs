//! A line that was set aside, as a person is shown it.

use std::collections::BTreeMap;
use std::fmt;

use crate::kinds::is_active;

/// Lines that are shown for each reason.
const SHOWN: usize = 5;
/// Bytes of a line that are shown.
const SHOWN_BYTES: usize = 200;

/// Where a line stands, what is wrong with it, and how it begins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SetAside {
    /// The export task.
    pub task_id: String,
    /// The file on disk, when nobody exported it just now.
    pub path: Option<String>,
    /// The line in its file.
    pub line_number: u64,
    /// The reason, as in quarantine.
    pub reason: &'static str,
    /// The reason in words, or the kind that the line says it is.
    pub detail: Option<String>,
    /// The beginning of the line, unless it is withheld: one line, nothing that a terminal obeys, no signed URL.
    pub excerpt: String,
}

impl fmt::Display for SetAside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "line {} of {path}: {}", self.line_number, self.reason)?,
            None => write!(f, "line {} of export task {}: {}", self.line_number, self.task_id, self.reason)?,
        }
        if let Some(detail) = &self.detail {
            write!(f, " ({detail})")?;
        }
        if self.excerpt.is_empty() { Ok(()) } else { write!(f, ": {}", self.excerpt) }
    }
}

/// The first lines that were set aside, for each reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirstSetAside(BTreeMap<&'static str, Vec<SetAside>>);

impl FirstSetAside {
    /// Keeps the line of this number, if few of its reason stand before it.
    pub(super) fn add(&mut self, reason: &'static str, line_number: u64, line: impl FnOnce() -> SetAside) {
        let lines = self.0.entry(reason).or_default();
        if lines.len() < SHOWN || lines.last().is_some_and(|last| line_number < last.line_number) {
            lines.push(line());
            lines.sort();
            lines.truncate(SHOWN);
        }
    }

    /// Names the file on disk that they are from.
    pub(crate) fn found_in(&mut self, path: &str) {
        self.0.values_mut().flatten().for_each(|line| line.path = Some(path.to_owned()));
    }

    pub(super) fn extend(&mut self, other: Self) {
        for (reason, more) in other.0 {
            let lines = self.0.entry(reason).or_default();
            lines.extend(more);
            lines.sort();
            lines.truncate(SHOWN);
        }
    }

    /// The first of those whose reason is wanted, by task and line.
    pub fn of(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<&SetAside> {
        let mut lines: Vec<&SetAside> =
            self.0.iter().filter(|(reason, _)| is_wanted(reason)).flat_map(|(_, lines)| lines).collect();
        lines.sort();
        lines.truncate(SHOWN);
        lines
    }
}

/// How a line begins, safe to print: control characters and what is no text escaped, and of URLs nothing that may sign them.
pub(crate) fn excerpt(line: &[u8]) -> String {
    let head = &line[..line.len().min(SHOWN_BYTES)];
    let mut shown = String::with_capacity(head.len() + 16);
    let mut in_query = false;
    let chunks = head.utf8_chunks();
    for chunk in chunks {
        for char in chunk.valid().chars() {
            if in_query && !matches!(char, '"' | '\\' | ' ' | ')' | '<' | '>') && !char.is_control() {
                continue;
            }
            in_query = char == '?' && is_in_url(&shown);
            match char {
                char if is_active(char) => shown.extend(char.escape_default()),
                char => shown.push(char),
            }
            if in_query {
                shown.push('…');
            }
        }
        // Of a character that the cut has halved nothing is shown.
        let is_cut = head.len() < line.len() && chunk.invalid().len() < 4 && head.ends_with(chunk.invalid());
        if !is_cut {
            chunk.invalid().iter().for_each(|byte| shown.push_str(&format!("\\x{byte:02x}")));
        }
    }
    if head.len() < line.len() {
        shown.push('…');
    }
    shown
}

/// Whether the word that ends here is an address.
fn is_in_url(shown: &str) -> bool {
    let word = shown.rfind(['"', ' ', '(', '<', '>']).map_or(shown, |at| &shown[at..]);
    word.contains("://") || word.contains(":\\/\\/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_short_and_nothing_in_it_acts() {
        for (line, wanted) in [
            (&b"{\"a\":1}"[..], "{\"a\":1}"),
            (b"\x1b[2J\0\r\tx\x7f", "\\u{1b}[2J\\u{0}\\r\\tx\\u{7f}"),
            (b"\xff\xfeab", "\\xff\\xfeab"),
            ("\u{202e}x".as_bytes(), "\\u{202e}x"),
            (
                b"{\"url\":\"https://cdn/x.png?Key=1&Signature=abc\",\"b\":\"why?\"}",
                "{\"url\":\"https://cdn/x.png?…\",\"b\":\"why?\"}",
            ),
            (br#"{"u":"https:\/\/cdn\/x?k=1"}"#, r#"{"u":"https:\/\/cdn\/x?…"}"#),
        ] {
            assert_eq!(excerpt(line), wanted);
        }
        assert_eq!(excerpt(&[b'x'; 1000]), format!("{}…", "x".repeat(SHOWN_BYTES)));
        assert_eq!(excerpt("é".repeat(150).as_bytes()), format!("{}…", "é".repeat(100)));
        assert_eq!(excerpt(format!("x{}", "é".repeat(150)).as_bytes()), format!("x{}…", "é".repeat(99)));
    }

    #[test]
    fn the_first_five_of_the_wanted_reasons_are_in_order() {
        let mut first = FirstSetAside::default();
        for number in (0..20).rev() {
            for reason in ["not_json", "unclassified", "too_deep"] {
                let line = SetAside {
                    task_id: "t".to_owned(),
                    path: None,
                    line_number: number,
                    reason,
                    detail: None,
                    excerpt: String::new(),
                };
                first.add(reason, line.line_number, || line);
            }
        }
        let of: Vec<_> = first.of(|reason| reason != "unclassified").iter().map(|line| line.line_number).collect();
        assert_eq!(of, [0, 0, 1, 1, 2]);
        let mut both = first.clone();
        both.extend(first);
        assert_eq!(both.of(|_| true).len(), 5);
    }
}
