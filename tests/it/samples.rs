//! What the simulator exports and what a lake holds: what the tests damage and the fuzzer begins with.

use std::path::Path;

use chatlake::export::{ExportOptions, ExportTask};
use chatlake::journal::{Record, SpanRecord, UsersRecord};
use chatlake::lake::store::Env;
use chatlake::lake::{Exception, Key, Lake, Lists, snapshot};
use chatlake::progress::Progress;
use chatlake::window::{Window, parse_time};
use simulator::switches::{
    Address, Compression, CustomPlace, Envelope, ReactionForm, Switches, TimestampForm, UserForm, UserLines,
};
use simulator::{Config, Simulator, Size, World, server_token};

/// One file of everything for each of the forms that exports may have, all from one seed.
pub async fn exports() -> Vec<Vec<u8>> {
    let plain = |envelope| Switches { envelope, task_polls: 1, ..Switches::default() };
    let other = Switches {
        users: UserForm::Id,
        address: Address::TypeId,
        custom: CustomPlace::Nested,
        timestamps: TimestampForm::Nanoseconds,
        user_lines: UserLines::PerChannel,
        reactions: ReactionForm::Both,
        ..plain(Envelope::TypeItem)
    };
    let gzip = Switches { compression: Compression::Gzip, ..plain(Envelope::Bare) };
    let mut files = Vec::new();
    for switches in [plain(Envelope::TypeData), plain(Envelope::SingleKey), plain(Envelope::Element), other, gzip] {
        let size = Size { channels: 8, users: 12, days: 2, messages_per_channel_day: 2, ..Size::default() };
        let world = World::seeded(7, &size);
        let simulator = Simulator::start(Config { world, switches, ..Config::default() }).expect("a simulator");
        files.push(export(&simulator, "v2", serde_json::json!({})).await);
    }
    files
}

/// The file of one export of all channels, each asked for with these options.
pub async fn export(simulator: &Simulator, version: &str, options: serde_json::Value) -> Vec<u8> {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let ask = |request: reqwest::RequestBuilder| async {
        let request = request
            .query(&[("api_key", simulator.key())])
            .header("authorization", server_token(simulator.secret()))
            .header("stream-auth-type", "jwt");
        request.send().await.expect("an answer").json::<serde_json::Value>().await.expect("JSON")
    };
    let url = |path: &str| format!("{}/{path}", simulator.base_url());
    let cids = simulator.truth().channels;
    let channel = |cid: &String| {
        let mut channel = options.clone();
        channel["cid"] = cid.as_str().into();
        channel
    };
    let channels: Vec<_> = cids.iter().map(channel).collect();
    let body = serde_json::json!({ "channels": channels, "version": version });
    let task = ask(client.post(url("export_channels")).json(&body)).await;
    simulator.complete_tasks();
    let task = ask(client.get(url(&format!("tasks/{}", task["task_id"].as_str().expect("a task"))))).await;
    let file = client.get(task["result"]["url"].as_str().expect("a file")).send().await.expect("an answer");
    file.bytes().await.expect("a file").to_vec()
}

/// Objects of every kind that lie in `_chatlake/`: its key, and its bytes, those of a snapshot not compressed.
pub async fn objects() -> Vec<(Key, Vec<u8>)> {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("lake");
    chatlake::demo::run(&dir, &Progress::new(false)).await.expect("a lake");
    let lake = Lake::open(&dir.to_string_lossy(), &Env::new()).await.expect("a lake");
    let state = lake.state().await.expect("a log");
    let read = |key: &Key| std::fs::read(Path::new(&dir).join(key.to_string())).expect("an object");
    let mut objects: Vec<(Key, Vec<u8>)> = vec![(Key::Identity, read(&Key::Identity))];
    objects.extend((1..state.next()).map(Key::Entry).map(|key| (key.clone(), read(&key))));
    objects.push((Key::Snapshot(state.next() - 1), snapshot::write(&state).expect("memory")));
    for (seq, record) in (0..).zip(journal()) {
        objects.push((Key::Journal { run_id: uuid::Uuid::nil(), seq }, serde_json::to_vec(&record).expect("JSON")));
    }
    let exception = Exception { cid: "messaging:b".to_owned(), reason: "task failed".to_owned() };
    let lists = Lists {
        missing_channels: (0..200).map(|number| format!("messaging:{number}")).collect(),
        failed_channels: vec![exception],
        task_ids: vec!["t".to_owned()],
        ..Lists::default()
    };
    let bytes = serde_json::to_vec(&lists).expect("JSON");
    objects.push((Key::Lists(format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&bytes))), bytes));
    objects
}

fn journal() -> [Record; 4] {
    let at = |text: &str| parse_time(text).expect("a time");
    let day = Window::day_of(at("2026-01-05"));
    let cids = vec!["messaging:a".to_owned(), "messaging:b".to_owned()];
    let span = SpanRecord {
        begun_at: day.until,
        cells: vec![day],
        asked: day,
        replaces: false,
        options: ExportOptions::default(),
    };
    let task = ExportTask { task_id: "t1".to_owned(), requested_at: day.until, cids: cids.clone() };
    let users = UsersRecord { begun_at: day.until, user_ids: ["amara".to_owned()].into() };
    [Record::Span(span), Record::Intent { span: 0, cids }, Record::Task { span: 0, task }, Record::Users(users)]
}
