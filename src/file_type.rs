//! Files that are plainly no export: told by their first bytes, so that the error says what is there instead of which lines
//! do not fit.

/// How much of a file is looked at.
pub const HEAD_BYTES: usize = 512;

/// What a file is that cannot be an export, in words that follow "the file": `looks like an HTML page`. `head` is its
/// decompressed beginning; `has_lines` tells whether each line should be a value.
pub fn stranger(head: &[u8], has_lines: bool) -> Option<&'static str> {
    const MAGIC: [(&[u8], &str); 9] = [
        (b"PK\x03\x04", "is a zip file"),
        (b"PK\x05\x06", "is an empty zip file"),
        (b"\x1f\x8b", "is a gzip file inside another"),
        (b"\x28\xb5\x2f\xfd", "is compressed with zstd"),
        (b"BZh", "is compressed with bzip2"),
        (b"\xfd7zXZ\0", "is compressed with xz"),
        (b"PAR1", "is a Parquet file"),
        (b"%PDF", "is a PDF document"),
        (b"\x7fELF", "is a program"),
    ];
    if let Some((_, what)) = MAGIC.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Some(what);
    }
    if is_utf16(head) {
        return Some("is UTF-16 text, and should be UTF-8");
    }
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    if text.starts_with(b"<") {
        let lower = text.to_ascii_lowercase();
        let is_html = [&b"<!doctype html"[..], b"<html", b"<head", b"<body"].iter().any(|tag| has(&lower, tag));
        return Some(if is_html { "looks like an HTML page" } else { "looks like an XML document" });
    }
    (has_lines && is_spread(text)).then_some("is JSON over several lines, and should have one value to a line")
}

/// By its byte order mark, or because every other byte of what JSON begins with is zero.
fn is_utf16(head: &[u8]) -> bool {
    let alternates = |zero: usize| {
        let start = &head[..head.len().min(16)];
        start.len() >= 4 && start.iter().enumerate().all(|(at, byte)| (*byte == 0) == (at % 2 == zero))
    };
    head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") || alternates(0) || alternates(1)
}

/// Whether a value is opened on the first line and goes on below, as printers for people do it.
fn is_spread(text: &[u8]) -> bool {
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let opens = |line: &[u8]| matches!(line, b"[" | b"{");
    lines.next().is_some_and(opens)
        && lines.next().is_some_and(|line| opens(line) || line.starts_with(b"\"") && line.contains(&b':'))
}

fn has(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn strangers_are_told_by_their_first_bytes() {
        let utf16 = |text: &str, big: bool| -> Vec<u8> {
            text.encode_utf16().flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
        };
        for (head, what) in [
            (b"<!DOCTYPE html>\n<html><head>".to_vec(), "an HTML page"),
            (b"\xef\xbb\xbf\r\n  <HTML lang=en>".to_vec(), "an HTML page"),
            (b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code>".to_vec(), "an XML document"),
            (b"PK\x03\x04\x14\0".to_vec(), "a zip file"),
            (b"\x1f\x8b\x08".to_vec(), "gzip"),
            (b"\x28\xb5\x2f\xfd\0".to_vec(), "zstd"),
            (utf16("\u{feff}{\"type\":1}", false), "UTF-16"),
            (utf16("\u{feff}{\"type\":1}", true), "UTF-16"),
            (utf16("{\"type\":1}", false), "UTF-16"),
            (utf16("[{\"type\":1}]", true), "UTF-16"),
            (b"[\n  {\n    \"channel\": {".to_vec(), "several lines"),
            (b"{\r\n\t\"type\": \"message\",".to_vec(), "several lines"),
        ] {
            let found = stranger(&head, true);
            assert!(found.is_some_and(|found| found.contains(what)), "{what}: {found:?}");
        }
    }

    #[test]
    fn what_may_be_an_export_is_not_judged() {
        for head in [
            &b""[..],
            b"\n\n",
            b"{\"type\":\"message\",\"data\":{\"text\":\"<html>\"}}",
            b"\xef\xbb\xbf{}",
            b" [{}]",
            b"[\n{\"channel\":{}},\n",
            b"{\n{\"type\":\"message\"}\n",
            b"\0\0\0\0",
            b"{\xff}",
            b"null",
            b"id,text,user",
        ] {
            assert_eq!(stranger(head, true), None, "{head:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics_and_objects_are_lines(head in prop::collection::vec(any::<u8>(), 0..40), text in "[a-z]{1,9}") {
            let _ = stranger(&head, true);
            let line = format!("{{\"{text}\":1}}\n");
            prop_assert_eq!(stranger(&[line.as_bytes(), &head].concat(), true), None);
        }
    }
}
