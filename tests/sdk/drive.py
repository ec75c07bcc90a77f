"""Drives a running simulator with Stream's own Python SDKs, unmodified: what they accept is how Stream speaks.

    pip install -r tests/sdk/requirements.txt
    STREAM_BASE_URL=http://127.0.0.1:8640 STREAM_API_KEY=... STREAM_API_SECRET=... python tests/sdk/drive.py

Prints one line per check and exits with 1 if any fails.
"""

import datetime
import json
import os
import sys
import time
import traceback
import urllib.error
import urllib.request

import getstream
import stream_chat
from getstream.exceptions import StreamApiException
from getstream.models import ChannelExport, SortParamRequest
from stream_chat.base.exceptions import StreamAPIException

BASE_URL = os.environ["STREAM_BASE_URL"].rstrip("/")
KEY = os.environ["STREAM_API_KEY"]
SECRET = os.environ["STREAM_API_SECRET"]
POLLS = 100

# Loopback is never reached through a proxy.
HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def legacy(secret=SECRET):
    return stream_chat.StreamChat(KEY, secret, base_url=BASE_URL)


def modern(secret=SECRET):
    return getstream.Stream(api_key=KEY, api_secret=secret, base_url=BASE_URL)


def download(url, **headers):
    with HTTP.open(urllib.request.Request(url, headers=headers)) as response:
        return response.read()


def truth():
    return json.loads(download(f"{BASE_URL}/control/truth"))


def follow(status):
    """Polls until the task completes; returns the last answer."""
    for _ in range(POLLS):
        task = status()
        if task["status"] == "completed":
            return task
        assert task["status"] in ("waiting", "pending", "running"), task
        time.sleep(0.01)
    raise AssertionError("the task did not end")


def messages_of(lines):
    return [line["data"] for line in map(json.loads, lines.splitlines()) if line["type"] == "message"]


@check
def legacy_queries_channels_to_the_end():
    found, client = [], legacy()
    while True:
        page = client.query_channels({}, {"created_at": 1}, limit=30, offset=len(found))["channels"]
        found += page
        if len(page) < 30:
            break
    assert sorted(state["channel"]["cid"] for state in found) == sorted(truth()["channels"])
    times = [state["channel"]["created_at"] for state in found]
    assert times == sorted(times)
    assert any(state["messages"] for state in found) and all(len(state["messages"]) <= 25 for state in found)


@check
def legacy_queries_by_activity():
    newest = max(message["created_at"] for message in truth()["messages"])
    page = legacy().query_channels({"last_message_at": {"$gte": newest}}, {"last_message_at": -1}, state=False)
    assert len(page["channels"]) == 1 and page["channels"][0]["messages"] == []


@check
def legacy_exports_a_window():
    client, expected = legacy(), truth()
    cid = expected["messages"][0]["cid"]
    channel_type, channel_id = cid.split(":")
    mine = sorted(message["created_at"] for message in expected["messages"] if message["cid"] == cid)
    since, until = mine[1], mine[-2]
    task = client.export_channel(channel_type, channel_id, since, until, version="v2")
    assert client.get_export_channel_status(task["task_id"])["task_id"] == task["task_id"]
    done = follow(lambda: client.get_export_channel_status(task["task_id"]))
    assert "error" not in done
    lines = messages_of(download(done["result"]["url"]))
    wanted = {m["id"] for m in expected["messages"] if m["cid"] == cid and since <= m["created_at"] <= until}
    assert {message["id"] for message in lines} == wanted


@check
def legacy_exports_version_1():
    client, cid = legacy(), truth()["messages"][0]["cid"]
    task = client.export_channels([{"cid": cid}])
    done = follow(lambda: client.get_task(task["task_id"]))
    (element,) = json.loads(download(done["result"]["url"]))
    assert element["channel"]["cid"] == cid and element["messages"] and element["members"]


@check
def legacy_refuses_an_unknown_channel():
    try:
        legacy().export_channels([{"type": "messaging", "id": "nowhere"}])
    except StreamAPIException as error:
        assert "Can't find channel" in str(error), error
        assert error.status_code in (400, 404)
    else:
        raise AssertionError("an unknown channel was accepted")


@check
def legacy_refuses_an_unknown_task():
    try:
        legacy().get_task("00000000-0000-0000-0000-000000000000")
    except StreamAPIException as error:
        assert "Can't find task with id" in str(error), error
    else:
        raise AssertionError("an unknown task was found")


@check
def legacy_refuses_a_wrong_secret():
    try:
        legacy("wrong").query_channels({})
    except StreamAPIException as error:
        assert (error.status_code, error.error_code) == (401, 43), error
    else:
        raise AssertionError("a wrong secret was accepted")


@check
def legacy_exports_users():
    client = legacy()
    expected = truth()
    user_id = next(message["user_id"] for message in expected["messages"] if message["user_id"])
    one = client.export_user(user_id)
    assert one["user"]["id"] == user_id and one["messages"]
    task = client.export_users([user_id])
    done = follow(lambda: client.get_task(task["task_id"]))
    lines = [json.loads(line) for line in download(done["result"]["url"]).splitlines()]
    assert lines[0]["type"] == "user" and lines[0]["data"]["id"] == user_id
    assert sum(line["type"] == "message" for line in lines) == len(one["messages"])


@check
def legacy_reads_its_limits():
    limits = legacy().get_rate_limits(server_side=True)["server_side"]
    assert limits["ExportChannels"]["limit"] >= limits["ExportChannels"]["remaining"] > 0


@check
def modern_queries_channels():
    sort = [SortParamRequest(field="created_at", direction=1)]
    answer = modern().chat.query_channels(filter_conditions={"type": {"$in": ["team", "support"]}}, sort=sort, limit=30)
    states = answer.data.channels
    assert {state.channel.type for state in states} == {"team", "support"}
    assert any(state.messages for state in states)
    created = states[0].channel.created_at
    assert created.tzinfo and created.year > 2000, "nanoseconds were read"
    message = next(state.messages[0] for state in states if state.messages)
    assert message.created_at.year > 2000


@check
def modern_exports_everything_and_waits():
    client, expected = modern(), truth()
    cids = expected["channels"][:100]
    until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)
    since = datetime.datetime(2000, 1, 1, tzinfo=datetime.timezone.utc)
    channels = [ChannelExport(cid=cid, messages_since=since, messages_until=until) for cid in cids]
    task_id = client.chat.export_channels(channels=channels, version="v2").data.task_id
    done = client.wait_for_task(task_id, poll_interval=0.01, timeout=30)
    assert done.data.status == "completed" and done.data.error is None
    found = messages_of(download(done.data.result["url"]))
    wanted = [message for message in expected["messages"] if message["cid"] in cids]
    assert sorted(message["id"] for message in found) == sorted(message["id"] for message in wanted)
    texts = {message["id"]: message["text"] for message in found}
    assert all(texts[message["id"]] == message["text"] for message in wanted)


@check
def modern_refuses_an_unknown_channel():
    try:
        modern().chat.export_channels(channels=[ChannelExport(type="messaging", id="nowhere")])
    except StreamApiException as error:
        assert "Can't find channel" in error.message and error.code in (4, 16), error
    else:
        raise AssertionError("an unknown channel was accepted")


@check
def modern_refuses_a_wrong_secret():
    try:
        modern("wrong").get_rate_limits()
    except StreamApiException as error:
        assert (error.status_code, error.code) == (401, 43), error
    else:
        raise AssertionError("a wrong secret was accepted")


@check
def modern_exports_users():
    client, expected = modern(), truth()
    user_id = next(message["user_id"] for message in expected["messages"] if message["user_id"])
    one = client.export_user(user_id)
    assert one.data.user.id == user_id and one.data.messages
    task_id = client.export_users([user_id]).data.task_id
    done = client.wait_for_task(task_id, poll_interval=0.01, timeout=30)
    found = messages_of(download(done.data.result["url"]))
    assert {message["id"] for message in found} == {message.id for message in one.data.messages}


@check
def modern_reads_its_limits():
    limits = modern().get_rate_limits(server_side=True).data.server_side
    assert limits["QueryChannels"].limit > 0


@check
def downloads_resume_and_refuse_a_token():
    client, cid = legacy(), truth()["messages"][0]["cid"]
    task = client.export_channels([{"cid": cid}], version="v2")
    url = follow(lambda: client.get_task(task["task_id"]))["result"]["url"]
    whole = download(url)
    assert download(url, Range="bytes=1000-") == whole[1000:]
    try:
        download(url, Authorization="token")
    except urllib.error.HTTPError as error:
        assert error.code == 400
    else:
        raise AssertionError("a second way to authorise was accepted")


def main():
    failed = 0
    for function in CHECKS:
        try:
            function()
            print(f"ok    {function.__name__}")
        except Exception:
            failed += 1
            print(f"FAIL  {function.__name__}")
            traceback.print_exc()
    print(f"{len(CHECKS) - failed} of {len(CHECKS)} checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
