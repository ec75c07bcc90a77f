#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;
use crate::export::scripted::{Reply, Request, Scripted};

/// A file whose every part is told from every other.
fn content(bytes: usize) -> Vec<u8> {
    (0..bytes as u64).flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()).take(bytes).collect()
}

fn offset(request: &Request) -> Option<usize> {
    request.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

/// What a store that honours ranges answers.
fn ranged(request: &Request, file: &[u8], etag: &str) -> Reply {
    match offset(request) {
        Some(from) if from >= file.len() => {
            Reply::bytes(416, "").header("Content-Range", format!("bytes */{}", file.len())).header("ETag", etag)
        }
        Some(from) if request.header("if-range") == Some(etag) => Reply::bytes(206, &file[from..])
            .header("Content-Range", format!("bytes {from}-{}/{}", file.len() - 1, file.len()))
            .header("ETag", etag),
        _ => Reply::bytes(200, file).header("ETag", etag),
    }
}

fn download(server: &Scripted, path: &str) -> Download {
    let url = SignedUrl::parse(&format!("{}{path}", server.url)).unwrap();
    Download::new(&server.client(), TaskFile { task_id: "t".into(), exported_at: jiff::Timestamp::UNIX_EPOCH, url })
}

async fn read_all(download: &mut Download) -> (Vec<u8>, Result<(), DownloadError>) {
    let mut bytes = Vec::new();
    loop {
        match download.next().await {
            Ok(Some(chunk)) => {
                assert!(!chunk.is_empty());
                bytes.extend_from_slice(&chunk);
            }
            Ok(None) => return (bytes, Ok(())),
            Err(error) => return (bytes, Err(error)),
        }
    }
}

async fn whole(server: &Scripted) -> Vec<u8> {
    let (bytes, end) = read_all(&mut download(server, "/file?Signature=s")).await;
    end.unwrap();
    bytes
}

async fn fails(server: &Scripted) -> DownloadError {
    let mut download = download(server, "/file?Signature=s");
    let error = read_all(&mut download).await.1.unwrap_err();
    assert!(!format!("{error:?} {error}").contains("Signature"));
    assert_eq!(download.next().await.unwrap(), None);
    error
}

#[tokio::test]
async fn a_file_is_read_without_streams_headers() {
    let file = content(300_000);
    let served = file.clone();
    let server = Scripted::start(move |request| ranged(request, &served, "\"v1\"")).await;
    assert_eq!(whole(&server).await, file);
    let request = &server.requests()[0];
    assert_eq!((request.line.as_str(), request.query.as_str()), ("GET /file", "Signature=s"));
    for header in ["authorization", "stream-auth-type", "x-stream-client", "referer", "range"] {
        assert_eq!(request.header(header), None, "{header}");
    }
}

#[tokio::test]
async fn an_empty_file_ends_at_once() {
    let server = Scripted::queue([Reply::bytes(200, "")]).await;
    assert!(whole(&server).await.is_empty());
}

#[tokio::test]
async fn cuts_are_resumed_where_they_fell() {
    let file = content(200_000);
    let served = file.clone();
    let server = Scripted::start(move |request| ranged(request, &served, "\"v1\"").cut_at_most(30_000)).await;
    assert_eq!(whole(&server).await, file);
    let offsets: Vec<_> = server.requests().iter().map(offset).collect();
    assert!(offsets.len() >= 7 && offsets[0].is_none(), "{offsets:?}");
    assert!(offsets[1..].is_sorted() && offsets[1..].iter().all(Option::is_some), "{offsets:?}");
}

#[tokio::test]
async fn where_ranges_are_ignored_the_beginning_is_read_again_and_compared() {
    for etag in [None, Some("\"v1\""), Some("W/\"weak\"")] {
        let file = content(100_000);
        let served = file.clone();
        let mut cuts = vec![90_000, 60_000, 70_000, 30_000].into_iter().rev().collect::<Vec<_>>();
        cuts.sort_unstable_by(|a, b| b.cmp(a));
        let server = Scripted::start(move |_| {
            let reply = Reply::bytes(200, &*served);
            let reply = if let Some(etag) = etag { reply.header("ETag", etag) } else { reply };
            if let Some(cut) = cuts.pop() { reply.cut_at(cut) } else { reply }
        })
        .await;
        assert_eq!(whole(&server).await, file);
        // Only a strong validator makes a range safe to ask for.
        let asked = server.requests()[1].header("range").is_some();
        assert_eq!(asked, etag == Some("\"v1\""));
    }
}

#[tokio::test]
async fn a_file_that_changed_is_never_continued() {
    let (one, other, longer) = (content(50_000), content(50_001)[1..].to_vec(), content(50_008));
    let wrong_range = Reply::bytes(206, &one[9..]).header("Content-Range", "bytes 9-49999/50000");
    let other_total = Reply::bytes(206, &one[20_000..]).header("Content-Range", "bytes 20000-49999/60000");
    for (second, tag) in [
        (Reply::bytes(200, &*other), "\"v1\""),
        (Reply::bytes(200, &*one), "\"v2\""),
        (Reply::bytes(200, &*longer), "\"v1\""),
        (wrong_range, "\"v1\""),
        (other_total, "\"v1\""),
        (Reply::bytes(206, "x"), "\"v1\""),
        (Reply::bytes(416, "").header("Content-Range", "bytes */100"), "\"v1\""),
    ] {
        let first = Reply::bytes(200, &*one).header("ETag", "\"v1\"").cut_at(20_000);
        let server = Scripted::queue([first, second.header("ETag", tag)]).await;
        let error = fails(&server).await;
        assert!(matches!(error, DownloadError::Changed { .. }), "{error}");
        assert_eq!(Error::from(error).kind(), Kind::Temporary);
    }
}

#[tokio::test]
async fn a_shorter_file_of_unknown_length_has_changed() {
    let chunked = |bytes: &[u8], complete: bool| {
        let mut body = format!("{:x}\r\n", bytes.len()).into_bytes();
        body.extend_from_slice(bytes);
        body.extend_from_slice(if complete { b"\r\n0\r\n\r\n" } else { b"\r\n" });
        Reply::bytes(200, body).header("Transfer-Encoding", "chunked")
    };
    let file = content(5_000);
    let server = Scripted::queue([chunked(&file, false), chunked(&file, true)]).await;
    assert_eq!(whole(&server).await, file);
    let server = Scripted::queue([chunked(&file, false), chunked(&file[..4_000], true)]).await;
    assert!(matches!(fails(&server).await, DownloadError::Changed { at_byte: 5_000, .. }));
}

#[tokio::test]
async fn a_cut_exactly_at_the_end_of_a_file_of_unknown_length_is_its_end() {
    let mut served = false;
    let server = Scripted::start(move |request| {
        if std::mem::replace(&mut served, true) {
            return ranged(request, &content(8), "\"v1\"");
        }
        let mut body = b"8\r\n".to_vec();
        body.extend_from_slice(&content(8));
        Reply::bytes(200, body).header("Transfer-Encoding", "chunked").header("ETag", "\"v1\"")
    })
    .await;
    assert_eq!(whole(&server).await, content(8));
}

#[tokio::test]
async fn an_expired_url_is_renewed_by_a_status_call() {
    let file = content(40_000);
    let served = file.clone();
    let (mut url, mut opened) = (String::new(), 0);
    let (send_url, receive_url) = std::sync::mpsc::channel::<String>();
    let server = Scripted::start(move |request| {
        if let Ok(own) = receive_url.try_recv() {
            url = own;
        }
        match (request.line.as_str(), request.query.as_str()) {
            ("GET /tasks/t", _) => {
                let result = json!({ "url": format!("{url}/file?Signature=fresh") });
                Reply::json(200, json!({ "task_id": "t", "status": "completed", "result": result }))
            }
            (_, "Signature=s") => {
                opened += 1;
                let reply = ranged(request, &served, "\"v1\"").cut_at(10_000);
                if opened > 1 { Reply::bytes(400, "<Code>ExpiredToken</Code>") } else { reply }
            }
            _ => ranged(request, &served, "\"v1\""),
        }
    })
    .await;
    send_url.send(server.url.clone()).unwrap();
    assert_eq!(whole(&server).await, file);
    assert_eq!(server.lines(), ["GET /file", "GET /file", "GET /tasks/t", "GET /file"]);
}

#[tokio::test]
async fn fresh_urls_are_bounded() {
    let server = Scripted::start(|request| {
        if request.line == "GET /tasks/t" {
            // The path is on a port where nothing but this test's server ever answers.
            let host = request.header("host").unwrap();
            let result = json!({ "url": format!("http://{host}/file?Signature=s") });
            return Reply::json(200, json!({ "status": "completed", "result": result }));
        }
        Reply::bytes(403, "")
    })
    .await;
    let error = fails(&server).await;
    assert!(matches!(error, DownloadError::Refused { status: 403, .. }), "{error}");
    assert_eq!(server.requests().len(), 4 + 3);
    assert_eq!(Error::from(error).kind(), Kind::Permission);
}

#[tokio::test]
async fn a_file_that_is_gone_is_said_to_be() {
    let server = Scripted::queue([Reply::bytes(404, "")]).await;
    assert!(matches!(fails(&server).await, DownloadError::Gone { status: Some(404), .. }));
    let server = Scripted::queue([Reply::bytes(403, ""), Reply::error(404, 16, "Can't find task")]).await;
    let error = fails(&server).await;
    assert!(matches!(error, DownloadError::Gone { status: None, .. }));
    assert_eq!(Error::from(error).kind(), Kind::Temporary);
}

#[tokio::test]
async fn trouble_without_progress_is_bounded() {
    for reply in [Reply::silence(), Reply::bytes(503, ""), Reply::bytes(200, content(9)).cut_at(0)] {
        let server = Scripted::start(move |_| reply.clone()).await;
        let error = fails(&server).await;
        assert!(matches!(error, DownloadError::Cut { at_byte: 0, .. }), "{error}");
        assert_eq!(server.requests().len(), 4);
        assert_eq!(Error::from(error).kind(), Kind::Temporary);
    }
}

#[test]
fn ranges_are_read() {
    let parse = |value: &'static str| {
        let headers = HeaderMap::from_iter([(header::CONTENT_RANGE, HeaderValue::from_static(value))]);
        (content_range(&headers), content_length_of_unsatisfied(&headers))
    };
    assert_eq!(parse("bytes 5-9/10"), (Some((5, Some(10))), None));
    assert_eq!(parse("bytes 5-9/*"), (Some((5, None)), None));
    assert_eq!(parse("bytes */10"), (None, Some(10)));
    for bad in ["", "5-9/10", "bytes", "bytes x-9/10", "items 5-9/10"] {
        assert_eq!(parse(bad), (None, None), "{bad}");
    }
}
