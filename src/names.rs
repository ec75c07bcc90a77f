//! Names that are looked for again and again, each with a number.

use xxhash_rust::xxh3::xxh3_64;

/// A set of names. The first has the number 0.
#[derive(Debug, Default)]
pub struct Names {
    /// In quotes, as they stand in JSON if they need no escape.
    quoted: Vec<Box<[u8]>>,
    /// Open addressing, at most half full; number plus one, zero for free.
    table: Box<[u16]>,
}

impl Names {
    /// These, each once, numbered as they come. There are fewer than 65,000.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let names: Vec<&str> = names.into_iter().collect();
        let mut new = Self { table: vec![0; (names.len() * 2).next_power_of_two()].into(), quoted: Vec::new() };
        for name in names {
            let mut at = new.start(name.as_bytes());
            while let Some(number) = new.table[at].checked_sub(1)
                && !new.has(number, name.as_bytes())
            {
                at = (at + 1) & (new.table.len() - 1);
            }
            if new.table[at] == 0 {
                new.quoted.push(format!("\"{name}\"").into_bytes().into());
                new.table[at] = u16::try_from(new.quoted.len()).expect("names are few");
            }
        }
        new
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.quoted.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.quoted.is_empty()
    }

    /// The number of a name.
    pub fn find(&self, name: &[u8]) -> Option<u16> {
        if self.is_empty() {
            return None;
        }
        let mut at = self.start(name);
        loop {
            match self.table[at].checked_sub(1) {
                None => return None,
                Some(number) if self.has(number, name) => return Some(number),
                Some(_) => at = (at + 1) & (self.table.len() - 1),
            }
        }
    }

    /// The name of this number in quotes, as it stands in JSON if it needs no escape.
    #[inline]
    pub fn quoted(&self, number: u16) -> Option<&[u8]> {
        self.quoted.get(usize::from(number)).map(AsRef::as_ref)
    }

    fn has(&self, number: u16, name: &[u8]) -> bool {
        self.quoted(number).is_some_and(|quoted| quoted[1..quoted.len() - 1] == *name)
    }

    #[allow(clippy::cast_possible_truncation)]
    fn start(&self, name: &[u8]) -> usize {
        xxh3_64(name) as usize & (self.table.len() - 1)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_its_own_number() {
        let names = Names::new(["a", "", "b", "a"]);
        assert_eq!(names.len(), 3);
        assert_eq!(["a", "", "b", "c"].map(|name| names.find(name.as_bytes())), [Some(0), Some(1), Some(2), None]);
        assert!(names.has(2, b"b") && !names.has(2, b"a") && !names.has(3, b""));
        assert_eq!(Names::default().find(b"a"), None);
        let many: Vec<String> = (0..1000).map(|number| format!("name {number}")).collect();
        let names = Names::new(many.iter().map(String::as_str));
        assert!((0..1000).all(|number| names.find(many[usize::from(number)].as_bytes()) == Some(number)));
    }
}
