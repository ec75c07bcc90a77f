//! What runs leave in a lake for those that come after them.

use super::*;
use crate::error::Kind;
use crate::export::{ExportOptions, ExportTask};
use crate::journal::{Begun, Journal, Record, SpanRecord, begun_spans, forget};

fn span() -> SpanRecord {
    SpanRecord {
        begun_at: day(0).until,
        cells: vec![day(0)],
        asked: day(0),
        replaces: false,
        options: ExportOptions::default(),
    }
}

fn task(id: &str, cid: &str) -> ExportTask {
    ExportTask { task_id: id.to_owned(), requested_at: span().begun_at, cids: vec![cid.to_owned()] }
}

pub(super) async fn what_a_run_began_is_found_by_others_until_it_ends(place: &Place) {
    let lake = lake(&place.store().await);
    let (own, other) = (Uuid::now_v7(), Uuid::now_v7());
    let journal = Journal::new(&lake, other);
    let number = journal.write(&Record::Span(span())).await.unwrap();
    journal.write(&Record::Intent { span: number, cids: vec!["a:1".into()] }).await.unwrap();
    assert_eq!(begun_spans(&lake, own).await.unwrap()[0].tasks, []);
    journal.write(&Record::Task { span: number, task: task("t1", "a:1") }).await.unwrap();
    let begun = begun_spans(&lake, own).await.unwrap();
    assert_eq!(
        begun,
        [Begun { run_id: other, span: span(), tasks: vec![task("t1", "a:1")], records: vec![0, 1, 2], refusal: None }]
    );
    assert_eq!(begun_spans(&lake, other).await.unwrap(), []);
    // What is forgotten is what was read: the run may be at work and have written more.
    let number = journal.write(&Record::Span(span())).await.unwrap();
    forget(&lake, &begun).await.unwrap();
    journal.write(&Record::Task { span: number, task: task("t2", "a:2") }).await.unwrap();
    let left = begun_spans(&lake, own).await.unwrap();
    assert_eq!(
        left,
        [Begun { run_id: other, span: span(), tasks: vec![task("t2", "a:2")], records: vec![3, 4], refusal: None }]
    );
    journal.end().await;
    assert_eq!(begun_spans(&lake, own).await.unwrap(), []);
}

pub(super) async fn a_damaged_record_is_named_and_can_be_deleted(place: &Place) {
    let lake = lake(&place.store().await);
    let run_id = Uuid::now_v7();
    let key = Key::Journal { run_id, seq: 0 };
    lake.store().put(&key.path(), "{}".into()).await.unwrap();
    let error = begun_spans(&lake, Uuid::now_v7()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Data);
    assert!(error.report().contains(&key.to_string()), "{}", error.report());
    lake.store().delete(&key.path()).await.unwrap();
    assert_eq!(begun_spans(&lake, Uuid::now_v7()).await.unwrap(), []);
}
