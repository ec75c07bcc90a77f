//! A lake equals the app, whatever form Stream's undocumented choices take.

use serde_json::{Value, json};
use simulator::switches::{
    Address, Bound, ChannelLines, Compression, CustomPlace, DeletedType, Envelope, KindNames, RangeSupport,
    ReactionForm, Switches, TimestampForm, UpdatedAtMoves, UserForm, UserLines,
};
use simulator::{Size, World};

use crate::bench::{Bench, Place, Random, is_long, seed, two_days};

const ENVELOPES: [Envelope; 6] =
    [Envelope::TypeData, Envelope::TypeItem, Envelope::SingleKey, Envelope::Bare, Envelope::Element, Envelope::Mixed];
const BOUNDS: [(Bound, Bound); 4] = [
    (Bound::Closed, Bound::Closed),
    (Bound::Closed, Bound::Open),
    (Bound::Open, Bound::Closed),
    (Bound::Open, Bound::Open),
];

/// Two days by two runs, so that their shared edge is tested too: a message sent at midnight and one a microsecond before.
fn check(switches: Switches, place: Place) {
    println!("{switches:?} in {place:?}");
    let Some(bench) = Bench::with(World::seeded(seed(), &two_days()), switches, place) else { return };
    for (since, until) in [("2026-01-05", "2026-01-06"), ("2026-01-06", "2026-01-07")] {
        let summary = bench.sync(since, until, &[]).assert_status(0, "committed");
        for nothing in ["rejected", "out_of_window", "rescued", "duplicate_keys"] {
            assert_eq!(summary[nothing], 0, "{nothing}: {summary}");
        }
        assert_eq!(summary["unclassified"], json!({}));
    }
    let contents = bench.assert_exact("2026-01-05", "2026-01-07");
    contents.assert_one_file_each(&["messages", "reactions"]);
    assert_eq!(contents.messages.len(), contents.live_messages().len());
    assert!(contents.rows["users"] >= 24);
    assert_eq!(bench.rows("_quarantine"), [] as [serde_json::Value; 0]);
}

fn every_bound(envelope: Envelope, place: Place) {
    for (since_bound, until_bound) in BOUNDS {
        check(Switches { envelope, since_bound, until_bound, ..Switches::default() }, place);
    }
}

#[test]
fn type_data_in_a_folder() {
    every_bound(Envelope::TypeData, Place::Folder);
}

#[test]
fn type_item_in_a_folder() {
    every_bound(Envelope::TypeItem, Place::Folder);
}

#[test]
fn single_key_in_a_folder() {
    every_bound(Envelope::SingleKey, Place::Folder);
}

#[test]
fn bare_in_a_folder() {
    every_bound(Envelope::Bare, Place::Folder);
}

#[test]
fn element_in_a_folder() {
    every_bound(Envelope::Element, Place::Folder);
}

#[test]
fn mixed_in_a_folder() {
    every_bound(Envelope::Mixed, Place::Folder);
}

#[test]
fn type_data_on_s3() {
    every_bound(Envelope::TypeData, Place::S3);
}

#[test]
fn type_item_on_s3() {
    every_bound(Envelope::TypeItem, Place::S3);
}

#[test]
fn single_key_on_s3() {
    every_bound(Envelope::SingleKey, Place::S3);
}

#[test]
fn bare_on_s3() {
    every_bound(Envelope::Bare, Place::S3);
}

#[test]
fn element_on_s3() {
    every_bound(Envelope::Element, Place::S3);
}

#[test]
fn mixed_on_s3() {
    every_bound(Envelope::Mixed, Place::S3);
}

/// Every other switch, each combined with every envelope so that no pair of them hides behind another.
fn variant(change: impl Fn(&mut Switches)) {
    for envelope in ENVELOPES {
        let mut switches = Switches { envelope, ..Switches::default() };
        change(&mut switches);
        check(switches, Place::Folder);
    }
}

#[test]
fn custom_data_nested_users_by_id() {
    variant(|switches| {
        switches.custom = CustomPlace::Nested;
        switches.users = UserForm::Id;
        switches.user_lines = UserLines::Once;
    });
}

#[test]
fn custom_data_twice_addresses_in_parts_gzip() {
    variant(|switches| {
        switches.custom = CustomPlace::Both;
        switches.address = Address::TypeId;
        switches.compression = Compression::Gzip;
    });
}

#[test]
fn nanoseconds_content_encoding_plural_kinds() {
    variant(|switches| {
        switches.timestamps = TimestampForm::Nanoseconds;
        switches.compression = Compression::ContentEncoding;
        switches.kind_names = KindNames::Plural;
        switches.user_lines = UserLines::PerChannel;
    });
}

#[test]
fn every_reaction_as_a_line_reads_and_few_channel_lines() {
    variant(|switches| {
        switches.reactions = ReactionForm::Both;
        switches.read_lines = ChannelLines::PerChannel;
        switches.channel_lines = ChannelLines::WithMessages;
        switches.kind_names = KindNames::Member;
    });
}

#[test]
fn no_channel_lines_no_ranges_other_deletes() {
    variant(|switches| {
        switches.channel_lines = ChannelLines::None;
        switches.member_lines = ChannelLines::None;
        switches.range = RangeSupport::Ignored;
        switches.deleted_type = DeletedType::Unchanged;
        switches.updated_at_moves = UpdatedAtMoves::OnAnyChange;
        switches.etag = false;
        switches.content_length = false;
    });
}

#[test]
fn what_the_app_has_is_typed() {
    let switches = Switches { reactions: ReactionForm::Both, ..Switches::default() };
    let size = Size { channels: 24, days: 1, messages_per_channel_day: 12, ..Size::default() };
    let Some(bench) = Bench::with(World::seeded(seed(), &size), switches, Place::Folder) else { return };
    let summary = bench.sync("2026-01-05", "2026-01-06", &[]).assert_status(0, "committed");
    assert_eq!((&summary["rescued"], &summary["reactions_truncated"]), (&json!(0), &json!(0)));
    let some = |rows: &[Value], path: &str| {
        assert!(rows.iter().any(|row| row.pointer(path).is_some_and(|value| !value.is_null())), "no {path}");
    };
    let messages = bench.rows("messages");
    for path in [
        "/reaction_groups/0/type",
        "/reaction_groups/0/count",
        "/reaction_groups/0/first_reaction_at",
        "/reaction_groups/0/latest_reactions_by",
        "/shared_location/latitude",
        "/shared_location/end_at",
        "/member/channel_role",
        "/moderation/action",
        "/moderation/text_harms/0",
        "/mentioned_roles/0",
        "/mentioned_here",
        "/image_labels",
        "/language",
        "/attachments/0/file_size",
        "/attachments/0/mime_type",
    ] {
        some(&messages, path);
    }
    for (dataset, paths) in [
        ("polls", ["/options/0/id", "/options/2/text", "/vote_counts_by_option"]),
        ("users", ["/teams/0", "/teams_role", "/read_receipts_enabled"]),
        ("members", ["/archived_at", "/invite_accepted_at", "/invited"]),
        ("channels", ["/cooldown", "/filter_tags/0", "/config"]),
    ] {
        let rows = bench.rows(dataset);
        paths.iter().for_each(|path| some(&rows, path));
    }
}

#[test]
fn users_by_id_have_rows_when_they_are_exported_too() {
    let switches = Switches { users: UserForm::Id, ..Switches::default() };
    for (more, has_users) in [(&[][..], false), (&["--export-users"], true)] {
        let bench = Bench::with(World::seeded(seed(), &two_days()), switches.clone(), Place::Folder).unwrap();
        bench.sync("2026-01-05", "2026-01-07", more).assert_status(0, "committed");
        let contents = bench.assert_exact("2026-01-05", "2026-01-07");
        assert_eq!(contents.rows.get("users").is_some_and(|rows| *rows >= 24), has_users, "{:?}", contents.rows);
    }
}

/// All switches at once, at random: none of them is only understood while the others stand as usual.
#[test]
fn switches_in_any_combination() {
    let mut random = Random(seed());
    for _ in 0..if is_long() { 30 } else { 4 } {
        let lines = [ChannelLines::PerChannel, ChannelLines::WithMessages, ChannelLines::None];
        let (since_bound, until_bound) = *random.pick(&BOUNDS);
        let switches = Switches {
            envelope: *random.pick(&ENVELOPES),
            custom: *random.pick(&[CustomPlace::Inlined, CustomPlace::Nested, CustomPlace::Both]),
            users: *random.pick(&[UserForm::Object, UserForm::Id]),
            address: *random.pick(&[Address::Cid, Address::TypeId]),
            since_bound,
            until_bound,
            compression: *random.pick(&[Compression::None, Compression::Gzip, Compression::ContentEncoding]),
            range: *random.pick(&[RangeSupport::Honoured, RangeSupport::Ignored]),
            timestamps: *random.pick(&[TimestampForm::Rfc3339, TimestampForm::Nanoseconds]),
            channel_lines: *random.pick(&lines),
            member_lines: *random.pick(&lines),
            read_lines: *random.pick(&lines),
            // Without these, users that are ids have no rows.
            user_lines: *random.pick(&[UserLines::Once, UserLines::PerChannel]),
            kind_names: *random.pick(&[KindNames::Singular, KindNames::Member, KindNames::Plural]),
            reactions: *random.pick(&[ReactionForm::Embedded, ReactionForm::Both]),
            updated_at_moves: *random.pick(&[UpdatedAtMoves::OnEdit, UpdatedAtMoves::OnAnyChange]),
            deleted_type: *random.pick(&[DeletedType::Deleted, DeletedType::Unchanged]),
            chunk_bytes: *random.pick(&[1_000, 64 * 1024]),
            content_length: *random.pick(&[true, false]),
            etag: *random.pick(&[true, false]),
            ..Switches::default()
        };
        check(switches, Place::Folder);
    }
}
