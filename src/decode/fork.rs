//! One file of lines, decoded by several decoders side by side.

use std::io;
use std::sync::Arc;

use super::Decoder;
use super::table::Table;

impl Decoder {
    /// Another decoder for lines of the same file, which knows nothing of what this one has seen.
    pub fn fork(&self) -> Self {
        let tables = self.tables.iter().map(Table::another).collect();
        Self::with(Arc::clone(&self.plan), Arc::clone(&self.exclusions), tables, Arc::clone(&self.task))
            .with_temp_dir(self.temp_dir.as_deref())
    }

    /// Takes over what other decoders of the same file have seen: their rows that are not handed over yet, their reactions whose
    /// messages they have not met, and where their messages are. All are decoders of lines, not of an array.
    pub fn absorb(&mut self, others: Vec<Self>) -> io::Result<()> {
        let is_awaited = !self.waiting.is_empty() || others.iter().any(|other| !other.waiting.is_empty());
        for mut other in others {
            other.empty_tables();
            self.ready.append(&mut other.ready);
            if is_awaited {
                let numbers: Vec<u32> = other.cids.iter().map(|cid| self.number_of(cid)).collect();
                self.messages.absorb(other.messages, &numbers, self.temp_dir.as_deref())?;
            }
            let Self { waiting, temp_dir, .. } = self;
            other.waiting.drain(|number, offset, line| waiting.push(number, offset, line, temp_dir.as_deref()))?;
            self.cut_reactions.absorb(other.cut_reactions);
            self.tally.add(other.tally);
        }
        Ok(())
    }
}
