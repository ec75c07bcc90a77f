//! Bugs on purpose: a simulation that does not find them proves nothing.

use std::cell::Cell;

/// A bug that was thought of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A put that ended in an error is taken for one that landed.
    LostPut,
    /// Settling deletes replaced files before the new ones are where readers look.
    DeleteBeforeRename,
    /// A replacement does not ask which export is newer.
    OlderReplacesNewer,
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Plants a bug on this thread, or none.
pub(super) fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether this bug is planted here.
pub(crate) fn is(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}
