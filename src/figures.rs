//! Figures as people read them.

use std::fmt::Display;

/// A size: `1.50 MiB`.
pub fn bytes(number: u64) -> String {
    indicatif::BinaryBytes(number).to_string()
}

/// So many of something: `1 cell`, `2 cells`, `0 entries`.
pub fn count<N: Copy + Display + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    if number == N::from(1) {
        return format!("{number} {noun}");
    }
    match noun.strip_suffix("ry") {
        Some(stem) => format!("{number} {stem}ries"),
        None => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        let counted = [count(0usize, "cell"), count(1u64, "cell"), count(2u32, "entry"), count(1u64, "entry")];
        assert_eq!(counted, ["0 cells", "1 cell", "2 entries", "1 entry"]);
    }
}
