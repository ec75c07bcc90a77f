"""Message lines as a v2 export has them: one JSON object a line, channel after channel, each in order of time.

    python benches/compare/generate.py --messages 450000 --days 1 --seed 1 > messages.ndjson

The shapes are those that Stream's API returns: ids as its SDKs make them, the author's and a UUID; the author as a whole object in every
message; in some, mentioned users, the latest reactions and a quoted message with theirs; attachments with signed addresses, custom keys, and
many keys that are empty or null. Some are replies, edited, pinned or deleted. Texts have line breaks, quotes, accents and emoji here and there.
Channels have a handful of people each, some of whom are in very many channels, so that users repeat as they do in real exports. A line has
1.1 kB on average. The same seed gives the same bytes.
"""

import argparse
import json
import random
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate

FIRST_DAY = datetime(2026, 1, 5, tzinfo=UTC)
SYLLABLES = "an ba be co da de el en er fi ga ge ha he in is ka ke la le li lo ma me mi mo na ne ni no or pa pe ra re ri ro sa se si so ta te ti to un va ve".split()
REACTIONS = ("like", "love", "haha", "wow", "sad", "thumbsup")
EMOJI = ("👍", "🎉", "😂", "❤️", "🙏", "👀")
ACCENTS = str.maketrans("aeou", "áéöü")


def rfc3339(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0").rstrip(".") + "Z"


class Generator:
    def __init__(self, messages: int, days: int, seed: int, users: int | None = None) -> None:
        self.random = random.Random(seed)
        self.messages, self.days = messages, days
        # A vocabulary of which few words are frequent and most are rare, as in any language.
        self.words = [self.word() for _ in range(30_000)]
        self.weights = list(accumulate(1 / (rank + 3) for rank in range(len(self.words))))
        self.users = [self.user(number) for number in range(max(users or messages // 90, 3))]

    def word(self) -> str:
        word = "".join(self.random.choices(SYLLABLES, k=1 + int(self.random.expovariate(1 / 2))))
        return word.translate(ACCENTS) if self.random.random() < 0.05 else word

    def user(self, number: int) -> dict:
        made = FIRST_DAY - timedelta(days=self.random.uniform(1, 900))
        return {
            "id": f"user-{number:07d}",
            "role": "admin" if number % 500 == 0 else "user",
            "created_at": rfc3339(made),
            "updated_at": rfc3339(made + timedelta(days=self.random.uniform(0, 1))),
            "last_active": rfc3339(FIRST_DAY + timedelta(hours=self.random.uniform(0, 24 * self.days))),
            "banned": False,
            "online": self.random.random() < 0.1,
            "name": f"{self.random.choice(self.words).title()} {self.random.choice(self.words).title()}",
            "image": f"https://images.example.com/avatars/{self.hex(12)}.png",
            "custom": {"city": self.random.choice(self.words), "loyalty": self.random.randrange(5)},
        }

    def hex(self, length: int) -> str:
        return f"{self.random.getrandbits(4 * length):0{length}x}"

    def text(self) -> str:
        words = self.random.choices(self.words, cum_weights=self.weights, k=min(1 + int(self.random.expovariate(1 / 8)), 120))
        match self.random.randrange(20):
            case 0:
                words[-1] = f'"{words[-1]}"'
            case 1 if len(words) > 8:
                words[4] = f"\n\n{words[4]}"
            case 2 | 3:
                words.append(self.random.choice(EMOJI))
        return " ".join(words)

    def reaction(self, message_id: str, user: dict, at: datetime) -> dict:
        made = rfc3339(at + timedelta(seconds=self.random.uniform(1, 300)))
        kind = self.random.choice(REACTIONS)
        return {"message_id": message_id, "user_id": user["id"], "user": user, "type": kind, "score": 1, "created_at": made, "updated_at": made, "custom": {"device": "web"}}

    def attachment(self) -> dict:
        name = self.hex(16)
        address = f"https://cdn.example.com/1234567/images/{name}.jpg?Expires=1768780800&Signature={self.hex(64)}&oh=640&ow=480"
        return {
            "type": "image",
            "fallback": f"IMG_{name[:4]}.jpg",
            "image_url": address,
            "mime_type": "image/jpeg",
            "file_size": self.random.randrange(20_000, 4_000_000),
            "original_width": 640,
            "original_height": 480,
            "custom": {"blurhash": self.hex(28)},
        }

    def message(self, cid: str, people: list[dict], at: datetime, parent: dict | None) -> dict:
        chance = self.random.random
        author = self.random.choice(people)
        message_id = f"{author['id']}-{self.hex(8)}-{self.hex(4)}-4{self.hex(3)}-a{self.hex(3)}-{self.hex(12)}"
        text = self.text()
        html = text.replace("&", "&amp;").replace('"', "&quot;").replace("\n\n", "</p>\n\n<p>")
        made, later = rfc3339(at), rfc3339(at + timedelta(minutes=5))
        is_edited, is_deleted, is_pinned = chance() < 0.06, chance() < 0.01, chance() < 0.005
        reactions = [self.reaction(message_id, user, at) for user in self.random.sample(people, min(len(people), 1 + int(chance() * 2)))] if chance() < 0.07 else []
        counts: dict[str, int] = {}
        for reaction in reactions:
            counts[reaction["type"]] = counts.get(reaction["type"], 0) + 1
        groups = {kind: {"count": count, "sum_scores": count, "first_reaction_at": reactions[0]["created_at"], "last_reaction_at": reactions[-1]["created_at"]} for kind, count in counts.items()}
        message = {
            "id": message_id,
            "text": text,
            "html": f"<p>{html}</p>\n",
            "type": "deleted" if is_deleted else "reply" if parent else "regular",
            "user": author,
            "attachments": [self.attachment()] if chance() < 0.07 else [],
            "latest_reactions": reactions,
            "own_reactions": [],
            "reaction_counts": counts,
            "reaction_scores": counts,
            "reaction_groups": groups or None,
            "reply_count": 0,
            "deleted_reply_count": 0,
            "cid": cid,
            "created_at": made,
            "updated_at": later if is_edited else made,
            "shadowed": False,
            "mentioned_users": [self.random.choice(people)] if chance() < 0.03 else [],
            "silent": chance() < 0.02,
            "pinned": is_pinned,
            "pinned_at": later if is_pinned else None,
            "pinned_by": people[0] if is_pinned else None,
            "pin_expires": None,
            "parent_id": parent["id"] if parent else "",
            "custom": {"client": "ios" if chance() < 0.5 else "web", "order_id": f"A-{self.random.randrange(10**7)}"},
        }
        if is_edited:
            message["message_text_updated_at"] = later
        if is_deleted:
            message["deleted_at"] = later
        if parent and chance() < 0.1:
            message |= {"quoted_message_id": parent["id"], "quoted_message": {key: value for key, value in parent.items() if key != "quoted_message"}}
        return message

    def channel(self, number: int, messages: int) -> Iterator[dict]:
        # A few users of the app are in very many channels, most in few.
        people = [self.users[int(len(self.users) * self.random.random() ** 2)] for _ in range(2 + int(self.random.expovariate(1 / 4)))]
        # Minutes of talk between hours of silence.
        gaps = [self.random.expovariate(1) ** 2 for _ in range(messages + 1)]
        second = timedelta(days=self.days) / sum(gaps)
        at, parent = FIRST_DAY, None
        for gap in gaps[:messages]:
            at += second * gap
            reply_to = parent if parent and self.random.random() < 0.1 else None
            message = self.message(f"messaging:channel-{number:06d}", people, at, reply_to)
            parent = reply_to or message
            yield message

    def lines(self) -> Iterator[str]:
        left, number = self.messages, 0
        while left > 0:
            messages = min(left, 1 + int(self.random.expovariate(1 / 220)))
            for message in self.channel(number, messages):
                yield json.dumps(message, ensure_ascii=False, separators=(",", ":"))
            left, number = left - messages, number + 1


def main() -> None:
    parser = argparse.ArgumentParser(description="Message lines as a v2 export has them.")
    parser.add_argument("--messages", type=int, default=450_000)
    parser.add_argument("--days", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for line in Generator(options.messages, options.days, options.seed).lines():
        sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
