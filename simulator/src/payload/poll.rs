//! Polls as Stream writes them, in the message that asks.

use serde_json::json;

use super::Payload;
use crate::entity::{Custom, Poll, PollOption, PollVote};
use crate::object::{Object, json};

impl Payload<'_> {
    pub(super) fn poll(&self, o: &mut Object<'_>, poll: &Poll) {
        let votes_for =
            |option: &PollOption| poll.votes.iter().filter(|vote| vote.option_id == option.id).collect::<Vec<_>>();
        o.value("id", &poll.id);
        o.value("name", &poll.name);
        o.value("description", &poll.description);
        o.value("voting_visibility", "public");
        o.value("enforce_unique_vote", &true);
        o.value("max_votes_allowed", &1);
        o.value("allow_user_suggested_options", &false);
        o.value("allow_answers", &false);
        o.value("is_closed", &poll.is_closed);
        o.value("vote_count", &poll.votes.len());
        o.value("answers_count", &0);
        o.object("vote_counts_by_option", |o| poll.options.iter().for_each(|it| o.value(&it.id, &votes_for(it).len())));
        o.object("latest_votes_by_option", |o| {
            for option in &poll.options {
                o.array(&option.id, votes_for(option), |out, vote| self.vote(out, poll, vote));
            }
        });
        o.value("latest_answers", &[""; 0]);
        o.value("own_votes", &[""; 0]);
        o.array("options", &poll.options, |out, option| {
            json(out, &json!({"id": option.id, "text": option.text, "custom": {}}));
        });
        o.value("created_by_id", &poll.created_by_id);
        self.user_field(o, "created_by", Some(&poll.created_by_id));
        o.time("created_at", poll.created_at);
        o.time("updated_at", poll.updated_at);
        self.custom(o, &Custom::new());
    }

    fn vote(&self, out: &mut Vec<u8>, poll: &Poll, vote: &PollVote) {
        let mut o = self.open(out);
        o.value("id", &vote.id);
        o.value("poll_id", &poll.id);
        o.value("option_id", &vote.option_id);
        o.value("user_id", &vote.user_id);
        self.user_field(&mut o, "user", Some(&vote.user_id));
        o.time("created_at", vote.created_at);
        o.time("updated_at", vote.created_at);
        o.close();
    }
}
