//! What a store's refusals mean to whoever runs chatlake.

use std::error::Error as StdError;
use std::io;

use crate::connection::{is_untrusted, unreachable_hint, untrusted_hint};
use crate::error::{Error, Kind};

/// How much of the store's own message is shown.
const MESSAGE_CHARS: usize = 300;

/// What a failed operation on the lake means to whoever runs chatlake.
pub(crate) fn store_error(doing: &str, lake: &str, error: object_store::Error) -> Error {
    let (kind, hint) = match meaning(&error) {
        Some((kind, hint)) => (kind, hint.to_owned()),
        None if is_untrusted(&error) => (Kind::Temporary, untrusted_hint()),
        None => (Kind::Temporary, unreachable_hint("the endpoint")),
    };
    let failed = Error::new(kind, format!("{doing} at {lake}")).hint(hint);
    match answer(&error.to_string()) {
        Some(answer) => failed.because(answer),
        None => failed.because(error),
    }
}

/// What S3 said, of the XML that its client repeats in full, signed strings and all: status, code, message and the
/// request's id, by which the store's people find it.
fn answer(text: &str) -> Option<String> {
    let between =
        |from: &str, to: &str| Some(text.split_once(from)?.1.split_once(to)?.0.trim()).filter(|x| !x.is_empty());
    let code = between("<Code>", "</Code>")?;
    let mut answer = match between("status code: ", ": ") {
        Some(status) => format!("the store answered {status}: {code}"),
        None => format!("the store answered {code}"),
    };
    if let Some(message) = between("<Message>", "</Message>") {
        answer.push_str(": ");
        answer.extend(message.chars().filter(|c| !c.is_control()).take(MESSAGE_CHARS));
    }
    if let Some(id) = between("<RequestId>", "</RequestId>") {
        answer.push_str(&format!(" (request {id})"));
    }
    Some(answer)
}

/// None of an error that is one of the connection, if it is anything.
fn meaning(error: &object_store::Error) -> Option<(Kind, &'static str)> {
    use object_store::Error as Store;
    // Listing and bulk deletion give every refusal as a generic error: what S3 said is only in its text.
    let text = error.to_string();
    let says = |codes: &[&str]| codes.iter().any(|code| text.contains(code));
    if says(&["NoSuchBucket"]) {
        return Some((Kind::Usage, "make the bucket, or check its name in --lake"));
    }
    if says(&["AuthorizationHeaderMalformed", "PermanentRedirect", "Received redirect without LOCATION"]) {
        return Some((Kind::Usage, "the bucket is in another region: set AWS_REGION"));
    }
    // Before the refusals that these may come as, whose hint would not help.
    if says(&["ExpiredToken", "InvalidToken", "TokenRefreshRequired"]) {
        return Some((Kind::Permission, "renew the temporary credentials, AWS_SESSION_TOKEN with them, and run again"));
    }
    if says(&["Failed to read token file"]) {
        return Some((Kind::Permission, "check the path in AWS_WEB_IDENTITY_TOKEN_FILE, and who may read it"));
    }
    if says(&["RequestTimeTooSkewed"]) {
        return Some((
            Kind::Temporary,
            "this machine's clock is wrong: let NTP set it, then run the same command again",
        ));
    }
    // Credentials are asked for there if no variable names any; without an answer there may be some the next time.
    if says(&["169.254.169.254"]) && says(&["401 Unauth", "403 Forb", "404 Not"]) {
        return Some((
            Kind::Permission,
            "no variable gives AWS credentials, and this machine has no role: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or: \
             eval \"$(aws configure export-credentials --profile NAME --format env)\"",
        ));
    }
    if says(&["403 Forbidden", "401 Unauthorized", "AccessDenied"]) {
        return Some(PERMISSION);
    }
    Some(match error {
        Store::PermissionDenied { .. } | Store::Unauthenticated { .. } => PERMISSION,
        Store::NotSupported { .. } | Store::NotImplemented { .. } => {
            (Kind::UnsafeStore, "choose another store: conditional puts, copies and deletes are needed")
        }
        Store::InvalidPath { .. } | Store::UnknownConfigurationKey { .. } => (Kind::Usage, "check --lake and AWS_*"),
        Store::NotFound { .. } => (Kind::Data, "another program has deleted something: look with `chatlake verify`"),
        _ => match io_kind(error) {
            Some(io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => {
                (Kind::Permission, "check the owner and the rights of the folder")
            }
            Some(io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory) => {
                (Kind::Usage, "a file lies where the lake needs a folder, or the other way round")
            }
            Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                (Kind::Temporary, "make room, then run the same command again")
            }
            _ => return None,
        },
    })
}

const PERMISSION: (Kind, &str) = (
    Kind::Permission,
    "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and that they may list, read, write and delete there",
);

fn io_kind(error: &object_store::Error) -> Option<io::ErrorKind> {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_has_the_kind_and_the_way_out_of_its_cause() {
        use object_store::Error as Store;
        let generic = |text: &str| Store::Generic { store: "S3", source: text.to_owned().into() };
        let refused = |text: &str| Store::PermissionDenied { path: "x".into(), source: text.to_owned().into() };
        let local = |kind: io::ErrorKind| Store::Generic { store: "local", source: io::Error::from(kind).into() };
        for (error, kind, hint) in [
            (generic("connection refused"), Kind::Temporary, "network"),
            (
                generic("PUT http://169.254.169.254/latest/api/token: 403 Forbidden"),
                Kind::Permission,
                "no variable gives",
            ),
            (generic("404 Not Found: <Code>NoSuchBucket</Code>"), Kind::Usage, "make the bucket"),
            (generic("400 Bad Request: <Code>AuthorizationHeaderMalformed</Code>"), Kind::Usage, "AWS_REGION"),
            (generic("403 Forbidden: <Code>SignatureDoesNotMatch</Code>"), Kind::Permission, "AWS_ACCESS_KEY_ID"),
            (refused("403"), Kind::Permission, "AWS_ACCESS_KEY_ID"),
            (generic("400 Bad Request: <Code>ExpiredToken</Code>"), Kind::Permission, "renew"),
            (generic("400 Bad Request: <Code>InvalidToken</Code>"), Kind::Permission, "renew"),
            (refused("403 Forbidden: <Code>ExpiredToken</Code>"), Kind::Permission, "renew"),
            (generic("Failed to read token file '/t': No such file"), Kind::Permission, "AWS_WEB_IDENTITY_TOKEN_FILE"),
            (generic("403 Forbidden: <Code>RequestTimeTooSkewed</Code>"), Kind::Temporary, "clock"),
            (refused("403 Forbidden: <Code>RequestTimeTooSkewed</Code>"), Kind::Temporary, "clock"),
            (local(io::ErrorKind::StorageFull), Kind::Temporary, "make room"),
            (local(io::ErrorKind::PermissionDenied), Kind::Permission, "owner"),
        ] {
            let text = error.to_string();
            let error = store_error("cannot list", "s3://b", error);
            assert_eq!(error.kind(), kind, "{text}");
            assert!(error.report().contains(hint), "{text}: {}", error.report());
        }
    }

    #[test]
    fn what_s3_answered_is_said_without_its_xml() {
        let xml = |inner: &str| {
            format!(
                "Error performing GET http://h/b?prefix=x in 2ms - Server returned non-2xx status code: 404 Not Found: \
                 <?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code>{inner}<StringToSign>secret</StringToSign></Error>"
            )
        };
        for (inner, said) in [
            ("<Message></Message>", "the store answered 404 Not Found: NoSuchBucket"),
            (
                "<Message>No\nsuch</Message><RequestId>tx7</RequestId>",
                "the store answered 404 Not Found: NoSuchBucket: Nosuch (request tx7)",
            ),
        ] {
            assert_eq!(answer(&xml(inner)).as_deref(), Some(said));
        }
        for other in ["", "connection refused", "<Code>", "<Code></Code>"] {
            assert_eq!(answer(other), None, "{other}");
        }
        assert_eq!(answer("<Code>Slow</Code>").as_deref(), Some("the store answered Slow"));
    }
}
