//! Where the messages of a task are, for reactions on lines of their own: those of late in memory, earlier ones on disk.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use tempfile::{SpooledTempFile, spooled_tempfile, spooled_tempfile_in};

use super::hashed::HashedMap;

/// Messages in memory, as many as fill a map of 3 MiB. A reaction that follows its message within so many others is placed at once.
const IN_MEMORY: usize = 7 << 14;

/// Key, time, channel.
const RECORD_BYTES: usize = 8 + 8 + 4;

/// When a message was created, and the number of its channel.
pub(super) type Place = (i64, u32);

#[derive(Debug)]
pub(super) struct MessageIndex {
    /// Those that nobody has looked for yet: most files have no such reactions.
    latest: Vec<(u64, Place)>,
    recent: HashedMap<Place>,
    earlier: Option<SpooledTempFile>,
    /// Full maps that went to disk and were not loaded again.
    runs: u64,
    pub(super) in_memory: usize,
}

impl Default for MessageIndex {
    fn default() -> Self {
        Self { latest: Vec::new(), recent: HashedMap::default(), earlier: None, runs: 0, in_memory: IN_MEMORY }
    }
}

impl MessageIndex {
    /// Adds a message, by the hash of its id.
    pub(super) fn insert(&mut self, key: u64, place: Place, temp_dir: Option<&Path>) -> io::Result<()> {
        self.latest.push((key, place));
        if self.recent.len() + self.latest.len() < self.in_memory {
            return Ok(());
        }
        let new = || temp_dir.map_or_else(|| spooled_tempfile(0), |dir| spooled_tempfile_in(0, dir));
        let mut records = Vec::with_capacity(self.in_memory * RECORD_BYTES);
        for (key, (created_at_us, channel)) in self.recent.drain().chain(self.latest.drain(..)) {
            records.extend_from_slice(&key.to_le_bytes());
            records.extend_from_slice(&created_at_us.to_le_bytes());
            records.extend_from_slice(&channel.to_le_bytes());
        }
        self.earlier.get_or_insert_with(new).write_all(&records)?;
        self.runs += 1;
        Ok(())
    }

    /// Where a message is that is in memory.
    pub(super) fn get(&mut self, key: u64) -> Option<Place> {
        self.recent.extend(self.latest.drain(..));
        self.recent.get(&key).copied()
    }

    /// Adds the messages of another index, whose channels have these numbers here.
    pub(super) fn absorb(&mut self, mut other: Self, numbers: &[u32], temp_dir: Option<&Path>) -> io::Result<()> {
        loop {
            for (key, (created_at_us, channel)) in other.recent.drain().chain(other.latest.drain(..)) {
                self.insert(key, (created_at_us, numbers[channel as usize]), temp_dir)?;
            }
            if !other.has_earlier() {
                return Ok(());
            }
            other.load_earlier()?;
        }
    }

    /// Whether there are messages that are not in memory.
    pub(super) fn has_earlier(&self) -> bool {
        self.runs > 0
    }

    /// Puts earlier messages in the place of those in memory. For the end of the file.
    pub(super) fn load_earlier(&mut self) -> io::Result<()> {
        self.latest.clear();
        self.recent.clear();
        let Some(file) = self.earlier.as_mut().filter(|_| self.runs > 0) else { return Ok(()) };
        self.runs -= 1;
        let run_bytes = self.in_memory * RECORD_BYTES;
        file.seek(SeekFrom::Start(self.runs * run_bytes as u64))?;
        let mut records = vec![0; run_bytes];
        file.read_exact(&mut records)?;
        for record in records.chunks_exact(RECORD_BYTES) {
            let (key, rest) = record.split_at(8);
            let (created_at_us, channel) = rest.split_at(8);
            let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap_or_default());
            let channel = u32::from_le_bytes(channel.try_into().unwrap_or_default());
            self.recent.insert(number(key), (number(created_at_us).cast_signed(), channel));
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_found_in_one_of_the_loads() {
        let mut index = MessageIndex { in_memory: 10, ..MessageIndex::default() };
        for key in 0..35 {
            index.insert(key, (-i64::try_from(key).unwrap(), 7), None).unwrap();
            assert_eq!((index.recent.len() + index.latest.len()) as u64, (key + 1) % 10);
            if key % 4 == 0 {
                index.get(key);
            }
        }
        let mut found = Vec::new();
        loop {
            found.extend((0..35).filter(|key| index.get(*key) == Some((-i64::try_from(*key).unwrap(), 7))));
            if !index.has_earlier() {
                break;
            }
            index.load_earlier().unwrap();
        }
        found.sort_unstable();
        assert_eq!(found, (0..35).collect::<Vec<_>>());
    }

    #[test]
    fn an_index_takes_over_all_of_another() {
        let mut one = MessageIndex { in_memory: 10, ..MessageIndex::default() };
        let mut other = MessageIndex { in_memory: 10, ..MessageIndex::default() };
        for key in 0..35 {
            let index = if key % 3 == 0 { &mut one } else { &mut other };
            index.insert(key, (1, u32::from(key % 3 == 0)), None).unwrap();
        }
        one.absorb(other, &[9], None).unwrap();
        let mut found = Vec::new();
        loop {
            found.extend((0..35).filter_map(|key| Some((key, one.get(key)?.1))));
            if !one.has_earlier() {
                break;
            }
            one.load_earlier().unwrap();
        }
        found.sort_unstable();
        assert_eq!(found, (0..35).map(|key| (key, if key % 3 == 0 { 1 } else { 9 })).collect::<Vec<_>>());
    }
}
