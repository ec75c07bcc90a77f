//! Reading and putting entries. Put-if-absent is the one conditional write that every serious store gets right.

use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::Lake;
use super::entry::Entry;
use super::layout::Key;
use super::state::{Broken, State};
use super::store_error::store_error;
use crate::error::{Error, Kind, Result};
use crate::schema::NAMES;
#[cfg(test)]
use crate::simulation::planted::{self, Bug};

/// Entries that are read at once.
const READ_AHEAD: usize = 16;
/// How often one entry is put before the run gives up. The store's client retries inside each of them.
const PUT_ATTEMPTS: u32 = 5;

/// How a put ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// Our entry is in the log.
    Landed,
    /// Another's is.
    Lost,
}

impl Lake {
    /// The state of the log.
    pub async fn state(&self) -> Result<State> {
        let mut state = self.last_snapshot().await?;
        self.refresh(&mut state).await?;
        Ok(state)
    }

    /// Takes in what was committed since `state` was read.
    pub async fn refresh(&self, state: &mut State) -> Result<()> {
        let last = self.last_entry(state.next()).await?;
        let mut entries =
            futures::stream::iter(state.next()..=last).map(|number| self.entry(number)).buffered(READ_AHEAD);
        let mut number = state.next();
        while let Some(entry) = entries.next().await.transpose()? {
            let Some(entry) = entry else {
                let message = format!("`{}` is gone, and the log goes on to entry {last}", Key::Entry(number));
                return Err(Error::new(Kind::Data, message).hint(
                    "restore it from a version or a backup of the bucket; no lifecycle rule may touch `_chatlake/log/`",
                ));
            };
            state.apply(&entry)?;
            number += 1;
        }
        Ok(())
    }

    /// One entry; `None` if it is not in the log.
    pub async fn entry(&self, number: u64) -> Result<Option<Entry>> {
        let cannot = |error| store_error("cannot read the log", self.display_url(), error);
        match self.store().get(&Key::Entry(number).path()).await {
            Ok(found) => Entry::from_json(number, &found.bytes().await.map_err(cannot)?).map(Some),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(cannot(error)),
        }
    }

    /// Refuses to begin a log anew beside files of one that was lost: readers of plain files would see their days twice.
    pub async fn refuse_a_lost_log(&self, state: &mut State) -> Result<()> {
        if state.next() > 1 || !self.has_data_files().await? {
            return Ok(());
        }
        // They may be of a run that has made the first entry meanwhile.
        self.refresh(state).await?;
        if state.next() > 1 {
            return Ok(());
        }
        Err(Error::new(Kind::Data, format!("the log of {} is empty, and there are data files", self.display_url())).hint(
            "restore `_chatlake/log/` from versions or a backup of the bucket; if there are none, begin anew under another prefix",
        ))
    }

    async fn has_data_files(&self) -> Result<bool> {
        let cannot = |error| store_error("cannot list the lake", self.display_url(), error);
        for dataset in NAMES.iter() {
            let mut listed = self.store().list(Some(&Key::folder(dataset)));
            while let Some(object) = listed.try_next().await.map_err(cannot)? {
                if matches!(Key::parse(&object.location), Some(Key::Data { .. })) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// The highest number in the log from `next` on, or the one before it.
    async fn last_entry(&self, next: u64) -> Result<u64> {
        let before = next - 1;
        let offset = Key::Entry(before).path();
        let mut listed = self.store().list_with_offset(Some(&Key::log()), &offset);
        let mut last = before;
        while let Some(object) =
            listed.try_next().await.map_err(|error| store_error("cannot list the log", self.display_url(), error))?
        {
            if let Some(Key::Entry(number)) = Key::parse(&object.location) {
                last = last.max(number);
            }
        }
        Ok(last)
    }

    /// Puts an entry at its number. No answer is believed but success: whatever else comes back, the log is read, since a
    /// lost answer may hide a success, and a conflict may be with our own first attempt.
    pub(super) async fn put_entry(&self, entry: &Entry) -> Result<Put> {
        let key = Key::Entry(entry.number).path();
        let bytes = PutPayload::from(entry.to_json());
        for attempt in 1..=PUT_ATTEMPTS {
            let error = match self.store().put_opts(&key, bytes.clone(), PutOptions::from(PutMode::Create)).await {
                Ok(_) => return Ok(Put::Landed),
                #[cfg(test)]
                Err(_) if planted::is(Bug::LostPut) => return Ok(Put::Landed),
                Err(error) => error,
            };
            match self.entry(entry.number).await {
                Ok(Some(found)) if found.commit_id == entry.commit_id => return Ok(Put::Landed),
                Ok(Some(_)) => return Ok(Put::Lost),
                // Something lies there, and it is no entry.
                Err(error) if error.kind() != Kind::Temporary => return Err(error),
                read => {
                    let error = store_error("cannot write to the log", self.display_url(), error);
                    if attempt == PUT_ATTEMPTS || (read.is_ok() && error.kind() != Kind::Temporary) {
                        return Err(error);
                    }
                    tracing::warn!(entry = entry.number, attempt, "the log could not be written, trying again");
                    tokio::time::sleep(self.pause() * 2u32.pow(attempt - 1)).await;
                }
            }
        }
        Err(Error::new(Kind::Temporary, "cannot write to the log"))
    }
}

impl From<Broken> for Error {
    fn from(error: Broken) -> Self {
        Self::new(Kind::Data, error.to_string())
            .hint("nothing was changed; keep `_chatlake/log/` as it is and report this, with the entry")
    }
}
