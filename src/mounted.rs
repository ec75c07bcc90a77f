//! Secrets that are mounted: `NAME_FILE` names a file that holds `NAME`.

use std::io;

use crate::error::{Error, Kind};

/// Why a file gives no value.
#[derive(Debug, thiserror::Error)]
pub enum MountedError {
    /// It cannot be read.
    #[error("cannot read the file that `{variable}_FILE` names, {path}")]
    Unreadable {
        /// The variable without `_FILE`.
        variable: &'static str,
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Nothing is in it.
    #[error("the file that `{0}_FILE` names is empty")]
    Empty(&'static str),
}

impl From<MountedError> for Error {
    fn from(error: MountedError) -> Self {
        let message = error.to_string();
        match error {
            MountedError::Unreadable { source, .. } => {
                Self::new(Kind::Permission, message).because(source).hint("check the path and who may read it")
            }
            MountedError::Empty(variable) => {
                Self::new(Kind::Permission, message).hint(format!("write the value of {variable} into it"))
            }
        }
    }
}

/// What the file at `path` holds for `variable`, without what editors put around it: white space, and a mark of the byte order.
pub fn read(variable: &'static str, path: &str) -> Result<String, MountedError> {
    let text = std::fs::read_to_string(path).map_err(|source| MountedError::Unreadable {
        variable,
        path: path.to_owned(),
        source,
    })?;
    match text.trim_start_matches('\u{feff}').trim() {
        "" => Err(MountedError::Empty(variable)),
        value => Ok(value.to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_what_stands_between_marks_and_line_ends() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        for (text, value) in
            [("secret\n", Some("secret")), ("\u{feff}secret\r\n", Some("secret")), ("\u{feff}\n", None)]
        {
            std::fs::write(path, text).unwrap();
            assert_eq!(read("STREAM_API_SECRET", path).ok().as_deref(), value, "{text:?}");
        }
    }
}
