//! Which users: ids from the command line and from a file, each once.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use crate::error::{Error, Kind, Result};

/// The most users of one run: what it remembers of them grows with their number.
pub const MAX_IDS: usize = 100_000;
/// The longest id, by Stream's specification.
const MAX_ID_BYTES: usize = 255;

/// The ids that are named, and those in a file, one to a line; `-` is standard input.
pub fn read(named: &[String], file: Option<&Path>) -> Result<BTreeSet<String>> {
    let mut ids = BTreeSet::new();
    for id in named {
        add(&mut ids, id, "--user-id")?;
    }
    if let Some(path) = file {
        let name = format!("--users-file {}", path.display());
        let cannot = |error| {
            usage(format!("cannot read {name}"))
                .because(error)
                .hint("it must be a file of UTF-8 text, one id to a line")
        };
        let source: Box<dyn Read> = if path.as_os_str() == "-" {
            Box::new(std::io::stdin().lock())
        } else {
            Box::new(std::fs::File::open(path).map_err(cannot)?)
        };
        let before = ids.len();
        add_lines(&mut ids, source, &name, cannot)?;
        if ids.len() == before && named.is_empty() {
            return Err(usage(format!("{name} names no user")).hint("write one id to a line"));
        }
    }
    if ids.is_empty() {
        return Err(
            usage("no user is named".to_owned()).hint("name them with --user-id, or in a file with --users-file")
        );
    }
    Ok(ids)
}

fn add_lines(
    ids: &mut BTreeSet<String>,
    source: impl Read,
    name: &str,
    cannot: impl Fn(std::io::Error) -> Error,
) -> Result<()> {
    let mut lines = BufReader::new(source);
    let mut line = String::new();
    for number in 1u64.. {
        line.clear();
        // A byte more than an id and the end of its line may have.
        let length = (&mut lines).take(MAX_ID_BYTES as u64 + 3).read_line(&mut line).map_err(&cannot)?;
        if length == 0 {
            break;
        }
        let text = line.strip_prefix('\u{feff}').filter(|_| number == 1).unwrap_or(&line).trim();
        if !text.is_empty() {
            add(ids, text, &format!("line {number} of {name}"))?;
        }
    }
    Ok(())
}

fn add(ids: &mut BTreeSet<String>, id: &str, place: &str) -> Result<()> {
    let shown: String = id.chars().take(40).collect();
    if id.is_empty() || id.len() > MAX_ID_BYTES {
        return Err(usage(format!("{place} is no user id: it has {} bytes", id.len().min(MAX_ID_BYTES + 1)))
            .hint(format!("an id has 1 to {MAX_ID_BYTES} bytes, and a line of the file holds one")));
    }
    // A path with such a name in it leads elsewhere.
    if matches!(id, "." | "..") || id.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(
            usage(format!("{place} is no user id: {shown:?}")).hint("an id has no spaces, and one stands on each line")
        );
    }
    ids.insert(id.to_owned());
    if ids.len() > MAX_IDS {
        return Err(
            usage(format!("more than {MAX_IDS} users are named")).hint("split the list, and run once for each part")
        );
    }
    Ok(())
}

fn usage(message: String) -> Error {
    Error::new(Kind::Usage, message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of_file(text: &[u8]) -> Result<BTreeSet<String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.txt");
        std::fs::write(&path, text).unwrap();
        read(&[], Some(&path))
    }

    #[test]
    fn each_user_counts_once_wherever_it_is_named() {
        let found = of_file(b"\xef\xbb\xbfbob\r\n\n  ada \nbob\n@x_y-z").unwrap();
        assert_eq!(found, ["@x_y-z", "ada", "bob"].map(str::to_owned).into());
        assert_eq!(read(&["ada".to_owned(), "ada".to_owned()], None).unwrap().len(), 1);
        assert_eq!(of_file("x".repeat(255).as_bytes()).unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_list_of_ids_is_refused_with_its_line() {
        let many: String = (0..=MAX_IDS).map(|number| format!("{number}\n")).collect();
        for (text, part) in [
            (&b""[..], "names no user"),
            (b"ada\nbob smith\n", "line 2 of"),
            (b"..\n", "line 1 of"),
            (format!("ada\n{}\n", "x".repeat(256)).as_bytes(), "line 2 of"),
            ("x".repeat(1 << 20).as_bytes(), "is no user id"),
            (b"\xff\xfe", "cannot read"),
            (many.as_bytes(), "more than 100000"),
        ] {
            let error = of_file(text).unwrap_err();
            assert!(error.kind() == Kind::Usage && error.report().contains(part), "{part}: {}", error.report());
            assert!(error.next_step().is_some());
        }
        assert!(read(&[], None).unwrap_err().report().contains("no user is named"));
        assert!(read(&[String::new()], None).is_err());
        assert!(read(&[], Some(Path::new("/nowhere"))).is_err());
    }
}
