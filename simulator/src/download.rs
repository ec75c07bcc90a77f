//! Signed, expiring download URLs, and the object store behind them.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use crate::answer::{Answer, Question};
use crate::auth::sign;
use crate::clock::shift;
use crate::switches::{Compression, RangeSupport, Switches};
use crate::task::{Content, Job, Task};

/// Files are kept this long.
const KEPT: SignedDuration = SignedDuration::from_hours(60 * 24);

/// A URL for the task's file, signed at `now`. Another instant gives another URL.
pub(crate) fn url(base_url: &str, task_id: &str, secret: &str, seconds: i64, now: Timestamp) -> String {
    let at_us = now.as_microsecond();
    let signature = sign(secret, &signed(task_id, &at_us.to_string(), &seconds.to_string()));
    format!(
        "{base_url}/download/{task_id}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date={at_us}&X-Amz-Expires={seconds}&X-Amz-Signature={signature}"
    )
}

fn signed(task_id: &str, at_us: &str, seconds: &str) -> String {
    format!("{task_id}|{at_us}|{seconds}")
}

/// Checks everything but the content: what the object store refuses before it looks for the object.
pub(crate) fn refusal(question: &Question, task_id: &str, secret: &str, now: Timestamp) -> Option<Answer> {
    if question.header("authorization").is_some() {
        return Some(xml(400, "InvalidArgument", "Only one auth mechanism allowed"));
    }
    let parameter = |name| question.parameter(name).unwrap_or_default();
    let (at_us, seconds) = (parameter("X-Amz-Date"), parameter("X-Amz-Expires"));
    if parameter("X-Amz-Signature").is_empty() {
        return Some(xml(403, "AccessDenied", "Access Denied"));
    }
    if parameter("X-Amz-Signature") != sign(secret, &signed(task_id, at_us, seconds)) {
        return Some(xml(
            403,
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided",
        ));
    }
    let at = at_us.parse().ok().and_then(|us| Timestamp::from_microsecond(us).ok());
    let expires = at.zip(seconds.parse().ok()).map(|(at, seconds)| shift(at, SignedDuration::from_secs(seconds)));
    if expires.is_none_or(|expires| expires <= now) {
        return Some(xml(403, "AccessDenied", "Request has expired"));
    }
    None
}

/// Whether the file is past its time.
pub(crate) fn is_gone(task: &Task, now: Timestamp) -> bool {
    shift(task.created_at, KEPT) <= now
}

pub(crate) fn no_such_key() -> Answer {
    xml(404, "NoSuchKey", "The specified key does not exist.")
}

/// The file or the part that was asked for.
pub(crate) fn serve(question: &Question, task: &Task, switches: &Switches) -> Answer {
    let Content { bytes: content, hash } = task.file.content();
    let etag = format!("\"{hash}-{}\"", task.etag_version);
    if question.header("if-match").is_some_and(|wanted| wanted != etag && wanted != "*") {
        return xml(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold");
    }
    let file_switches = match &task.file.job {
        Job::Channels(job) => &job.switches,
        Job::Users(job) => &job.switches,
    };
    let content_type = match file_switches.compression {
        Compression::Gzip => "application/gzip",
        _ => "application/json",
    };
    let answer = |status, body: Bytes| {
        let mut answer = Answer::new(status, content_type, body);
        answer.chunk_bytes = switches.chunk_bytes.max(1);
        answer.content_length = switches.content_length;
        if switches.etag {
            answer = answer.header("etag", &etag);
        }
        if file_switches.compression == Compression::ContentEncoding {
            answer = answer.header("content-encoding", "gzip");
        }
        match switches.range {
            RangeSupport::Honoured => answer.header("accept-ranges", "bytes"),
            RangeSupport::Ignored => answer,
        }
    };
    let unchanged = question.header("if-range").is_none_or(|known| switches.etag && known == etag);
    let wanted = question.header("range").filter(|_| switches.range == RangeSupport::Honoured && unchanged);
    match wanted.and_then(|range| parse_range(range, content.len())) {
        None => answer(200, content.clone()),
        Some(Ok((first, end))) => answer(206, content.slice(first..end))
            .header("content-range", format!("bytes {first}-{}/{}", end - 1, content.len())),
        Some(Err(())) => xml(416, "InvalidRange", "The requested range is not satisfiable")
            .header("content-range", format!("bytes */{}", content.len())),
    }
}

/// First byte and end of a `Range`: none if it is to be ignored, an error if it lies outside.
fn parse_range(range: &str, length: usize) -> Option<Result<(usize, usize), ()>> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (first, end) = match (first, last) {
        ("", suffix) => (length.saturating_sub(suffix.parse().ok()?), length),
        (first, "") => (first.parse().ok()?, length),
        (first, last) => (first.parse().ok()?, last.parse::<usize>().ok()?.saturating_add(1).min(length)),
    };
    Some(if first < end { Ok((first, end)) } else { Err(()) })
}

/// An error as an object store gives it.
pub(crate) fn xml(status: u16, code: &str, message: &str) -> Answer {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    Answer::new(status, "application/xml", body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        assert_eq!(parse_range("bytes=0-0", 10), Some(Ok((0, 1))));
        assert_eq!(parse_range("bytes=4-", 10), Some(Ok((4, 10))));
        assert_eq!(parse_range("bytes=-3", 10), Some(Ok((7, 10))));
        assert_eq!(parse_range("bytes=4-99", 10), Some(Ok((4, 10))));
        assert_eq!(parse_range("bytes=10-", 10), Some(Err(())));
        assert_eq!(parse_range("lines=1-2", 10), None);
    }
}
