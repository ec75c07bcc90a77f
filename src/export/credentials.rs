//! The app's key and secret, and the server token signed with them.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::{SignedDuration, Timestamp};
use sha2::Sha256;

use crate::error::{Error, Kind};
use crate::mounted::{self, MountedError};

/// How far the token's `iat` lies back: Stream refuses a token from its future, and clocks differ.
const BACK_DATED: SignedDuration = SignedDuration::from_secs(5);

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// Neither the variable nor its `_FILE` form is set, or it is empty.
    #[error("`{0}` is not set")]
    Missing(&'static str),
    /// Both the variable and its `_FILE` form are set.
    #[error("both `{0}` and `{0}_FILE` are set")]
    Twice(&'static str),
    /// The file that `_FILE` names gives no value.
    #[error(transparent)]
    Mounted(#[from] MountedError),
    /// White space or control characters inside: a truncated paste, or two lines in one file.
    #[error("`{0}`, or its file, contains white space or control characters")]
    Malformed(&'static str),
}

impl From<CredentialsError> for Error {
    fn from(error: CredentialsError) -> Self {
        let message = error.to_string();
        match error {
            CredentialsError::Missing(variable) => Self::new(Kind::Permission, message).hint(format!(
                "set {variable}, or {variable}_FILE to a file that holds it (Stream dashboard, app overview)"
            )),
            CredentialsError::Twice(variable) => Self::new(Kind::Usage, message)
                .hint(format!("unset one of them; {variable}_FILE suits mounted secrets")),
            CredentialsError::Mounted(error) => error.into(),
            CredentialsError::Malformed(variable) => {
                Self::new(Kind::Permission, message).hint(format!("copy {variable} again from the Stream dashboard"))
            }
        }
    }
}

/// An app's key and secret. Neither `Debug` nor `Display` shows the secret.
#[derive(Clone)]
pub struct Credentials {
    key: String,
    secret: String,
}

impl Credentials {
    /// From values; white space around them is cut, as files end with a newline.
    pub fn new(key: &str, secret: &str) -> Result<Self, CredentialsError> {
        Ok(Self { key: clean("STREAM_API_KEY", key)?, secret: clean("STREAM_API_SECRET", secret)? })
    }

    /// From `STREAM_API_KEY` and `STREAM_API_SECRET`, or the files that `STREAM_API_KEY_FILE` and `STREAM_API_SECRET_FILE` name.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> Result<Self, CredentialsError> {
        Self::new(&read("STREAM_API_KEY", &variable)?, &read("STREAM_API_SECRET", &variable)?)
    }

    /// The app key: no secret, it names the app.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// A server token: an HS256 JWT with `{"server":true}` and a back-dated `iat`.
    pub(super) fn token(&self, now: Timestamp) -> String {
        let iat = now.saturating_sub(BACK_DATED).unwrap_or(now).as_second();
        let payload = format!(r#"{{"server":true,"iat":{iat}}}"#);
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#),
            URL_SAFE_NO_PAD.encode(payload)
        );
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).expect("HMAC takes a key of any length");
        mac.update(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("key", &self.key).field("secret", &"<redacted>").finish()
    }
}

impl fmt::Display for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {}, secret <redacted>", self.key)
    }
}

fn read(name: &'static str, variable: impl Fn(&str) -> Option<String>) -> Result<String, CredentialsError> {
    let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
    match (set(name), set(&format!("{name}_FILE"))) {
        (Some(_), Some(_)) => Err(CredentialsError::Twice(name)),
        (Some(value), None) => Ok(value),
        (None, Some(path)) => Ok(mounted::read(name, &path)?),
        (None, None) => Err(CredentialsError::Missing(name)),
    }
}

fn clean(name: &'static str, value: &str) -> Result<String, CredentialsError> {
    let value = value.trim();
    if value.is_empty() {
        Err(CredentialsError::Missing(name))
    } else if value.chars().any(|c| c.is_whitespace() || c.is_control()) {
        Err(CredentialsError::Malformed(name))
    } else {
        Ok(value.to_owned())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashMap;
    use std::io::Write as _;

    use super::*;

    fn env<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        let map: HashMap<_, _> = pairs.iter().copied().collect();
        move |name| map.get(name).map(|&value| value.to_owned())
    }

    #[test]
    fn a_token_is_a_back_dated_server_jwt() {
        // Expected value from an independent HS256 implementation (Python hmac), secret `topsecret`.
        let token = Credentials::new("key", "topsecret").unwrap().token(Timestamp::from_second(1_700_000_005).unwrap());
        let parts: Vec<_> = token.split('.').collect();
        let text = |part: &str| String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        assert_eq!(text(parts[0]), r#"{"alg":"HS256","typ":"JWT"}"#);
        assert_eq!(text(parts[1]), r#"{"server":true,"iat":1700000000}"#);
        assert_eq!(parts[2], "jPhvn7cPrmNdyQMCt4BntOEZjmhYA2TV1mIbaFubyGA");
    }

    #[test]
    fn the_secret_is_never_shown() {
        let credentials = Credentials::new("key1", "topsecret").unwrap();
        for text in [format!("{credentials:?}"), format!("{credentials:#?}"), format!("{credentials}")] {
            assert!(text.contains("key1") && !text.contains("topsecret"), "{text}");
        }
    }

    #[test]
    fn values_come_from_variables_or_files() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"from-file\n").unwrap();
        let path = file.path().to_str().unwrap();
        let found = Credentials::from_env(env(&[("STREAM_API_KEY", "k"), ("STREAM_API_SECRET_FILE", path)])).unwrap();
        assert_eq!((found.key(), found.secret.as_str()), ("k", "from-file"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |pairs: &[(&str, &str)]| Credentials::from_env(env(pairs)).unwrap_err();
        assert!(matches!(error(&[]), CredentialsError::Missing("STREAM_API_KEY")));
        assert!(matches!(
            error(&[("STREAM_API_KEY", "k"), ("STREAM_API_SECRET", "  ")]),
            CredentialsError::Missing("STREAM_API_SECRET")
        ));
        assert!(matches!(
            error(&[("STREAM_API_KEY", "k"), ("STREAM_API_KEY_FILE", "/f")]),
            CredentialsError::Twice("STREAM_API_KEY")
        ));
        assert!(matches!(
            error(&[("STREAM_API_KEY", "k"), ("STREAM_API_SECRET", "a b")]),
            CredentialsError::Malformed("STREAM_API_SECRET")
        ));
        let empty = tempfile::NamedTempFile::new().unwrap();
        let path = empty.path().to_str().unwrap();
        assert!(matches!(
            error(&[("STREAM_API_KEY", "k"), ("STREAM_API_SECRET_FILE", path)]),
            CredentialsError::Mounted(MountedError::Empty("STREAM_API_SECRET"))
        ));
        let unreadable = error(&[("STREAM_API_KEY", "k"), ("STREAM_API_SECRET_FILE", "/does/not/exist")]);
        let error = Error::from(unreadable);
        assert_eq!(error.kind(), Kind::Permission);
        assert!(error.report().contains("STREAM_API_SECRET_FILE"));
    }
}
