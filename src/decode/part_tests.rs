//! What arrays of channels, and lines that are like one of their elements, turn out to be.

use super::tests::{Decoded, decode, gathered, message, task};
use super::{Decoder, Task};
use crate::array::{ArraySplitter, BrokenArray, Part};
use crate::columns::Schemas;
use crate::json::MAX_VALUES;

/// The same for an array of channels, split as exports of version 1 are.
fn decode_array(text: &str) -> Decoded {
    let mut decoder =
        Decoder::new(&Schemas::default(), Task { keep_raw: true, ..task(&["messaging:a", "messaging:b"]) });
    let mut splitter = ArraySplitter::new(1 << 20);
    let each = |part: Part<'_>| {
        decoder.part(part).unwrap();
        Ok::<_, BrokenArray>(())
    };
    splitter.push(text.as_bytes(), each).unwrap();
    splitter.finish().unwrap();
    gathered(decoder)
}

#[test]
fn lists_of_an_array_may_come_before_their_channel() {
    let of = |cid: &str, number: u8| {
        let id = cid.trim_start_matches("messaging:");
        let channel = format!(r#""channel":{{"cid":"{cid}","id":"{id}","type":"messaging"}}"#);
        let members = format!(r#""members":[{{"user_id":"ada-{id}"}},{{"user_id":"bob","user":{{"id":"bob"}}}}]"#);
        let messages =
            format!(r#""messages":[{{"id":"m{number}","text":"a\nb","created_at":"2026-01-01T10:00:00Z"}}]"#);
        (channel, members, messages)
    };
    let array = |order: &dyn Fn((String, String, String)) -> [String; 3]| {
        let elements =
            [of("messaging:a", 1), of("messaging:b", 2)].map(|parts| format!("{{{}}}", order(parts).join(",\n")));
        decode_array(&format!("[{}]", elements.join(",")))
    };
    let first = array(&|(channel, members, messages)| [channel, messages, members]);
    for orders in [
        array(&|(channel, members, messages)| [members, messages, channel]),
        array(&|(channel, members, messages)| [messages, channel, members]),
    ] {
        assert_eq!(orders.tally.rejected, 0);
        assert_eq!(orders.tally.lines, first.tally.lines);
        assert_eq!(orders.tally.channels_returned, first.tally.channels_returned);
        for (dataset, column) in [("messages", "cid"), ("members", "cid"), ("members", "user_id"), ("messages", "id")] {
            assert_eq!(orders.column(dataset, column), first.column(dataset, column), "{dataset}.{column}");
        }
    }
    // An element without a channel has nothing to wait for.
    let (_, members, messages) = of("messaging:a", 1);
    let (channel, others, _) = of("messaging:b", 2);
    let none = decode_array(&format!("[{{{members},{messages}}},{{{others},{channel}}}]"));
    assert_eq!(none.tally.rejected, 3);
    assert_eq!(none.column("members", "cid"), ["messaging:b", "messaging:b"]);
}

#[test]
fn a_line_of_too_many_values_is_taken_apart_if_it_holds_a_channel() {
    let numbers = |count: usize| vec!["0"; count].join(",");
    let third = MAX_VALUES / 3;
    let messages: Vec<String> = (0..4)
        .map(|n| {
            let custom = numbers(third);
            format!(r#"{{"id":"m{n}","text":"hi","created_at":"2026-01-01T10:00:0{n}Z","custom":{{"a":[{custom}]}}}}"#)
        })
        .collect();
    let channel = r#""channel":{"type":"messaging","id":"a","cid":"messaging:a"}"#;
    let element = format!(r#"{{{channel},"messages":[{}],"members":[{{"user_id":"ada"}}]}}"#, messages.join(","));
    let decoded = decode(&[&element, &message("")]);
    assert_eq!(decoded.column("messages", "id").len(), 5);
    assert_eq!(decoded.one("members", "user_id"), "ada");
    assert_eq!(decoded.one("channels", "cid"), "messaging:a");
    assert_eq!(decoded.tally.rejected, 0);

    // What holds no channel is kept as it is, and so is a single message that is too much.
    let large = format!(r#","custom":{{"a":[{}]}}"#, numbers(3 * third + 3));
    let in_element = format!(r#"{{{channel},"messages":[{}]}}"#, message(&large));
    let decoded = decode(&[&message(&large), &in_element, &message("")]);
    assert_eq!(decoded.one("messages", "id"), "m1");
    assert_eq!(decoded.tally.reasons, [("too_many_values", 2)].into());
    assert_eq!(decoded.one("channels", "cid"), "messaging:a");
}
