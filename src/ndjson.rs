//! Bytes into lines: bounded, and every byte accounted for.
//!
//! Chunks of any size go in; lines come out with their number and offset, so that a reject can be found again in the file.
//! A byte order mark, `\r\n` and blank lines are tolerated. A line over the limit is never held: it is skipped to its end
//! and reported with its length and first bytes.

use memchr::memchr;

/// How much of an over-long line is kept for the report.
const HEAD_BYTES: usize = 4096;

/// Room that is kept for the lines to come after a long one.
pub(crate) const KEPT_BYTES: usize = 1 << 20;

/// One line of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Counted from 1, blank lines included.
    pub number: u64,
    /// Where it starts, in decompressed bytes.
    pub offset: u64,
    /// Its whole length in bytes, without the line break.
    pub length: u64,
    /// Its bytes, without the line break; only the first few of a line that is too long.
    pub bytes: &'a [u8],
}

impl Line<'_> {
    /// Whether the line was over the limit and `bytes` is only its beginning.
    pub fn is_too_long(&self) -> bool {
        (self.bytes.len() as u64) < self.length
    }
}

/// Cuts chunks into [`Line`]s.
#[derive(Debug)]
pub struct LineSplitter {
    max_line_bytes: usize,
    carry: Vec<u8>,
    /// Length of the line so far, of which `carry` may hold only the head.
    length: u64,
    number: u64,
    offset: u64,
}

impl LineSplitter {
    /// A splitter that holds at most one line of `max_line_bytes`.
    pub fn new(max_line_bytes: usize) -> Self {
        Self { max_line_bytes, carry: Vec::new(), length: 0, number: 1, offset: 0 }
    }

    /// Hands every line that ends in `chunk` to `each`, and stops at its first error.
    pub fn push<E>(&mut self, chunk: &[u8], mut each: impl FnMut(Line<'_>) -> Result<(), E>) -> Result<(), E> {
        let mut rest = chunk;
        while let Some(end) = memchr(b'\n', rest) {
            let (head, tail) = rest.split_at(end);
            rest = &tail[1..];
            if self.length == 0 && head.len() <= self.max_line_bytes {
                self.emit(head, head.len() as u64, &mut each)?;
            } else {
                self.extend(head);
                self.emit_carry(&mut each)?;
            }
            self.offset += 1;
        }
        self.extend(rest);
        Ok(())
    }

    /// Hands over the last line if it has no line break.
    pub fn finish<E>(mut self, mut each: impl FnMut(Line<'_>) -> Result<(), E>) -> Result<(), E> {
        self.emit_carry(&mut each)
    }

    /// Bytes of the line that has begun.
    pub fn held_bytes(&self) -> usize {
        self.carry.len()
    }

    /// Less than the limit, so that a head is never taken for a line.
    fn head_bytes(&self) -> usize {
        HEAD_BYTES.min(self.max_line_bytes)
    }

    fn extend(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        if self.length <= self.max_line_bytes as u64 {
            self.carry.extend_from_slice(bytes);
        } else {
            let missing = self.head_bytes().saturating_sub(self.carry.len()).min(bytes.len());
            self.carry.extend_from_slice(&bytes[..missing]);
            self.carry.truncate(self.head_bytes());
            self.carry.shrink_to(self.head_bytes());
        }
    }

    fn emit_carry<E>(&mut self, each: &mut impl FnMut(Line<'_>) -> Result<(), E>) -> Result<(), E> {
        let mut carry = std::mem::take(&mut self.carry);
        let length = std::mem::take(&mut self.length);
        let result = self.emit(&carry, length, each);
        carry.clear();
        carry.shrink_to(KEPT_BYTES);
        self.carry = carry;
        result
    }

    fn emit<E>(
        &mut self,
        bytes: &[u8],
        length: u64,
        each: &mut impl FnMut(Line<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (number, offset) = (self.number, self.offset);
        self.number += 1;
        self.offset += length;
        if length > bytes.len() as u64 {
            return each(Line { number, offset, length, bytes });
        }
        let bytes = if number == 1 { bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes) } else { bytes };
        let bytes = bytes.trim_ascii();
        if bytes.is_empty() { Ok(()) } else { each(Line { number, offset, length: bytes.len() as u64, bytes }) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    type Seen = (u64, u64, u64, Vec<u8>);

    fn split(chunks: &[&[u8]], max_line_bytes: usize) -> Vec<Seen> {
        let mut seen = Vec::new();
        let mut each = |line: Line<'_>| -> Result<(), Infallible> {
            seen.push((line.number, line.offset, line.length, line.bytes.to_vec()));
            Ok(())
        };
        let mut splitter = LineSplitter::new(max_line_bytes);
        for chunk in chunks {
            splitter.push(chunk, &mut each).unwrap();
        }
        splitter.finish(&mut each).unwrap();
        seen
    }

    #[test]
    fn breaks_blanks_and_marks_are_tolerated() {
        let seen = split(&[b"\xef\xbb\xbf{}\r\n\n  \n[1", b"]\n2"], 100);
        let lines: Vec<_> = seen.iter().map(|(number, _, _, bytes)| (*number, bytes.as_slice())).collect();
        assert_eq!(lines, [(1, b"{}".as_slice()), (4, b"[1]"), (5, b"2")]);
        assert_eq!(seen[1].1, 11);
    }

    #[test]
    fn a_line_over_the_limit_is_skipped_and_reported() {
        let long = vec![b'x'; 10_000];
        let seen = split(&[b"a\n", &long, &long, b"\nb\n"], 9_000);
        assert_eq!(seen.len(), 3);
        assert_eq!((seen[1].0, seen[1].1, seen[1].2), (2, 2, 20_000));
        assert_eq!(seen[1].3, vec![b'x'; HEAD_BYTES]);
        assert_eq!((seen[2].0, seen[2].1, seen[2].3.as_slice()), (3, 20_003, b"b".as_slice()));
    }

    proptest! {
        #[test]
        fn chunking_changes_nothing(
            lines in prop::collection::vec("[a-z ]{0,30}", 0..20),
            cuts in prop::collection::vec(0usize..400, 0..8),
            max in 1usize..40,
        ) {
            let text = lines.join("\n");
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut at = 0;
            for cut in cuts {
                chunks.push(&text.as_bytes()[at..cut]);
                at = cut;
            }
            chunks.push(&text.as_bytes()[at..]);
            prop_assert_eq!(split(&chunks, max), split(&[text.as_bytes()], max));
            let whole: Vec<_> = split(&chunks, max).into_iter().map(|seen| seen.2).collect();
            let wanted: Vec<_> = lines.iter()
                .map(|line| if line.len() > max { line.len() } else { line.trim().len() } as u64)
                .filter(|length| *length > 0)
                .collect();
            prop_assert_eq!(whole, wanted);
        }
    }
}
