//! What goes wrong with the directory for temporary files.

use std::io;

use crate::error::{Error, Kind};

/// An error of what could not be done there.
pub(crate) fn failed(message: impl Into<String>, error: io::Error) -> Error {
    let (kind, hint) = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            (Kind::Usage, "make the folder that --temp-dir, CHATLAKE_TEMP_DIR or TMPDIR names, or name another")
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            (Kind::Permission, "name a directory that can be written with --temp-dir, and run again")
        }
        _ => (Kind::Temporary, "free some space, or name a roomier directory with --temp-dir, and run again"),
    };
    Error::new(kind, message).because(error).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_retry_cures_is_told_from_what_it_does_not() {
        for (error, kind, hint) in [
            (io::ErrorKind::NotFound, Kind::Usage, "make the folder"),
            (io::ErrorKind::PermissionDenied, Kind::Permission, "can be written"),
            (io::ErrorKind::StorageFull, Kind::Temporary, "free some space"),
        ] {
            let error = failed("cannot copy a file to the temporary directory", error.into());
            assert_eq!(error.kind(), kind);
            assert!(error.report().contains(hint), "{}", error.report());
        }
    }
}
