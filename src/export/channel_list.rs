//! A list of channels from a file: one cid to a line. Lines are read one at a time, and what is kept is the cids.

use std::io::{self, BufRead, Read};

use super::discovery::ChannelRef;

/// The longest list: at a hundred bytes a channel, 100 MB.
const MAX_CHANNELS: usize = 1_000_000;
/// The longest line: Stream's ids have 64 characters, types no more.
const MAX_LINE_BYTES: usize = 1024;
/// Bad lines that are told one by one.
const SHOWN: usize = 5;

/// Why a list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// It cannot be read.
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    /// Lines are no channels.
    #[error("{count} of its lines name no channel: {}", .first.join(", "))]
    Lines {
        /// How many.
        count: u64,
        /// The first of them, with their numbers.
        first: Vec<String>,
    },
    /// There is no channel in it.
    #[error("it names no channel")]
    Empty,
    /// There are too many.
    #[error("it names more than {MAX_CHANNELS} channels")]
    TooLong,
}

/// The channels of a list, in order and each once.
pub fn read(mut lines: impl BufRead) -> Result<Vec<String>, ListError> {
    let mut cids: Vec<String> = Vec::new();
    let (mut count, mut first) = (0, Vec::new());
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let length = lines.by_ref().take(MAX_LINE_BYTES as u64 + 1).read_until(b'\n', &mut line)?;
        if length == 0 {
            break;
        }
        let is_cut = length > MAX_LINE_BYTES && !line.ends_with(b"\n");
        if is_cut {
            lines.skip_until(b'\n')?;
        }
        let bytes = line.strip_prefix(b"\xef\xbb\xbf").filter(|_| number == 1).unwrap_or(&line);
        let text = std::str::from_utf8(bytes).ok().map(str::trim).filter(|_| !is_cut);
        match text {
            Some(text) if text.is_empty() || text.starts_with('#') => {}
            Some(cid) if is_cid(cid) => {
                if cids.len() == 2 * MAX_CHANNELS {
                    return Err(ListError::TooLong);
                }
                cids.push(cid.to_owned());
            }
            _ => {
                count += 1;
                if first.len() < SHOWN {
                    first.push(format!("line {number} `{}`", shown(bytes)));
                }
            }
        }
    }
    cids.sort_unstable();
    cids.dedup();
    cids.shrink_to_fit();
    match cids.len() {
        _ if count > 0 => Err(ListError::Lines { count, first }),
        0 => Err(ListError::Empty),
        1..=MAX_CHANNELS => Ok(cids),
        _ => Err(ListError::TooLong),
    }
}

fn is_cid(text: &str) -> bool {
    ChannelRef::from_cid(text).is_some() && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// The beginning of a bad line, on one line.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]);
    text.trim().escape_debug().collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_list_is_read() {
        let list = b"\xef\xbb\xbfmessaging:b\r\n# a comment\n\n  messaging:a  \nmessaging:b\n\t#x\nteam:!members-x";
        assert_eq!(read(&list[..]).unwrap(), ["messaging:a", "messaging:b", "team:!members-x"]);
    }

    #[test]
    fn bad_lines_are_told_by_number_and_counted() {
        let mut list = "messaging:a\ngeneral\n:x\nx:\na b:c\n".to_owned();
        list.push_str(&format!("team:{}\nteam:b\n", "x".repeat(5000)));
        list.push_str("messaging:z\u{1b}[2J\n");
        let error = read(list.as_bytes()).unwrap_err().to_string();
        assert_eq!(
            error,
            "6 of its lines name no channel: line 2 `general`, line 3 `:x`, line 4 `x:`, line 5 `a b:c`, \
             line 6 `team:xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx`"
        );
        assert!(matches!(read(&b"\xff:x\n"[..]), Err(ListError::Lines { count: 1, .. })));
        assert!(matches!(read(&b"# nothing\n"[..]), Err(ListError::Empty)));
    }

    #[test]
    fn a_long_list_is_read_and_too_long_a_one_refused() {
        let list = |count: usize| (0..count).map(|number| format!("messaging:c{number}\n")).collect::<String>();
        assert_eq!(read(list(500_000).as_bytes()).unwrap().len(), 500_000);
        assert!(matches!(read(list(MAX_CHANNELS + 1).as_bytes()), Err(ListError::TooLong)));
    }
}
