"""Drives Airflow's DAGs for chatlake against the simulator, with `airflow dags test`: run.sh prepares and calls it.

Prints one line per check and exits with 1 if any fails. Arguments choose checks by name.
"""

import json
import os
import pathlib
import sys
import tempfile
import time
import traceback
import uuid
from datetime import datetime, timedelta, timezone

import psutil
from airflow_process import Database, dags_test, prepare
from app import SECRET, App, yesterday

HERE = pathlib.Path(__file__).resolve().parent
DAGS = HERE.parent.parent / "integrations" / "airflow" / "dags"
ENDPOINT = os.environ.get("CHATLAKE_TEST_S3_ENDPOINT")
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def at(time):
    """A logical date as Airflow writes it."""
    return time.isoformat()


class Bench:
    def __init__(self, folder):
        self.folder = folder
        self.home = folder / "airflow"
        self.database = Database(self.home)

    def app(self, name, **switches):
        return App(self.folder / name, **switches)

    def begin(self, dag_id, logical_date, env, conf=None):
        return dags_test(self.home, dag_id, at(logical_date), env, conf)

    def run(self, dag_id, logical_date, env, conf=None):
        return self.begin(dag_id, logical_date, env, conf).end()

    def state(self, dag_id, logical_date, task_id):
        return self.database.task(dag_id, at(logical_date), task_id)

    def xcom(self, dag_id, logical_date, task_id):
        return self.database.xcom(dag_id, at(logical_date), task_id)


@check
def success_feeds_the_next_task_and_emits_assets(bench):
    with bench.app("success") as app:
        env = app.env(
            STREAM_API_SECRET="not the secret, which is in the connection",
            AIRFLOW_VAR_CHATLAKE_STREAM_CONN_ID="chatlake_stream",
            AIRFLOW_CONN_CHATLAKE_STREAM=(
                f'{{"conn_type": "generic", "host": "{app.url}", "login": "test-key", "password": "{SECRET}"}}'
            ),
        )
        until = yesterday(hour=10)
        attempt = bench.run("chatlake_hourly", until, env)
        assert attempt.exit_code == 0, attempt.log()
        assert bench.state("chatlake_hourly", until, "sync") == ("success", 1)
        day = f"{until:%Y-%m-%d}"
        summary = bench.xcom("chatlake_hourly", until, "sync")
        assert summary["status"] == "committed", summary
        assert f"messages/event_date={day}" in summary["partitions_changed"], summary
        assert summary["datasets"]["messages"]["rows"] == len(app.messages(until - timedelta(hours=1), until)), summary
        assert bench.xcom("chatlake_hourly", until, "refresh") == [day]
        # What it logs is in the task's log, the command with it, and where the key came from.
        assert "Key and secret of Stream: connection chatlake_stream" in attempt.log(), attempt.log()
        assert "chatlake sync --since" in attempt.log() and "status=committed" in attempt.log(), attempt.log()
        events = bench.database.events("chatlake_hourly", at(until))
        extra = events[f"file://{app.lake}/messages"]
        assert extra["partitions_changed"] == [f"messages/event_date={day}"], events
        assert extra["run_id"] == summary["run_id"], events


@check
def a_bash_operator_is_enough(bench):
    with bench.app("bash") as app:
        until = yesterday(hour=10)
        attempt = bench.run("chatlake_hourly_bash", until, app.env(CHATLAKE_LAKE=str(app.lake)))
        assert attempt.exit_code == 0, attempt.log()
        assert bench.xcom("chatlake_hourly_bash", until, "sync")["status"] == "committed"
        until = yesterday() - timedelta(days=30)
        attempt = bench.run("chatlake_hourly_bash", until, app.env(CHATLAKE_LAKE=str(app.lake)))
        assert bench.state("chatlake_hourly_bash", until, "sync")[0] == "skipped", attempt.log()


@check
def an_hour_without_messages_is_skipped(bench):
    with bench.app("empty") as app:
        until = yesterday() - timedelta(days=30)
        attempt = bench.run("chatlake_hourly", until, app.env())
        assert attempt.exit_code == 0, attempt.log()
        assert bench.state("chatlake_hourly", until, "sync")[0] == "skipped", attempt.log()
        assert bench.state("chatlake_hourly", until, "refresh")[0] == "skipped", attempt.log()
        # It is covered all the same: nobody asks for it again.
        assert app.chatlake("sync", "--since", at(until - timedelta(hours=1)), "--until", at(until))["status"] == "already_committed"


@check
def temporary_trouble_is_retried(bench):
    with bench.app("trouble", date_skew_seconds=3600) as app:
        until = yesterday(hour=11)
        attempt = bench.begin("retried", until, app.env())
        attempt.wait_for("chatlake ended with 75")
        app.control("switches", date_skew_seconds=0)
        assert attempt.end().exit_code == 0, attempt.log()
        state, tries = bench.state("retried", until, "sync")
        assert state == "success" and tries > 1, (state, tries)
        assert bench.xcom("retried", until, "sync")["status"] == "committed"


@check
def what_an_attempt_could_not_tell_is_told_by_the_next(bench):
    with bench.app("untold") as app:
        until = yesterday(hour=18)
        app.die_once_before_the_summary()
        attempt = bench.run("retried", until, app.env())
        assert attempt.exit_code == 0, attempt.log()
        assert "chatlake was ended by SIGKILL" in attempt.log(), attempt.log()
        assert bench.state("retried", until, "sync") == ("success", 2)
        summary = bench.xcom("retried", until, "sync")
        assert summary["status"] == "already_committed", summary
        day = f"{until:%Y-%m-%d}"
        changed = summary["partitions_changed"]
        assert f"messages/event_date={day}" in changed, summary
        assert {name.split("=")[1] for name in changed if "event_date" in name} == {day}, summary
        # What has no day of messages is told too.
        assert {name.split("/")[0] for name in changed} >= {"channels", "members", "users"}, summary
        assert bench.xcom("retried", until, "partitions") == changed
        events = bench.database.events("retried", at(until))
        assert events.keys() >= {f"file://{app.lake}/{dataset}" for dataset in ("messages", "channels", "users")}, events


@check
def a_lake_that_only_a_configuration_names_emits_assets(bench):
    with bench.app("configuration") as app:
        configuration = bench.folder / "configuration" / "chatlake.toml"
        configuration.write_text(f'lake = "{app.lake}"\n')
        until = yesterday(hour=19)
        env = app.env(CHATLAKE_CONFIG=str(configuration), AIRFLOW_VAR_CHATLAKE_LAKE="")
        app.die_once_before_the_summary()
        attempt = bench.run("retried", until, env)
        assert bench.state("retried", until, "sync") == ("success", 2), attempt.log()
        assert f"file://{app.lake}/messages" in bench.database.events("retried", at(until))


@check
def what_is_committed_beside_a_failure_is_in_xcom(bench):
    with bench.app("partial") as app:
        until = yesterday(hour=20)
        cid = app.messages(until - timedelta(hours=1), until)[0]["cid"]
        app.control("fault", endpoint="ExportChannels", cid=cid, effect="fail_task", times=0)
        attempt = bench.run("retried", until, app.env())
        assert bench.state("retried", until, "sync") == ("failed", 1), attempt.log()
        assert "chatlake ended with 69" in attempt.log(), attempt.log()
        summary = bench.xcom("retried", until, "sync")
        assert summary["status"] == "partial" and summary["failed_channels"] == [cid], summary


@check
def wrong_credentials_are_not_retried(bench):
    with bench.app("credentials") as app:
        until = yesterday(hour=12)
        attempt = bench.run("retried", until, app.env(STREAM_API_SECRET="another-secret-of-thirty-two-bytes!"))
        assert attempt.exit_code == 1, attempt.log()
        assert bench.state("retried", until, "sync") == ("failed", 1), attempt.log()
        assert bench.state("retried", until, "partitions")[0] == "upstream_failed"
        assert "chatlake ended with 77 (credentials or permissions)" in attempt.log(), attempt.log()
        assert "hint: " in attempt.log(), attempt.log()
        assert "another-secret" not in attempt.log()


@check
def a_task_that_is_killed_goes_on_with_its_exports(bench):
    with bench.app("killed", task_polls=1_000_000) as app:
        until = yesterday(hour=13)
        attempt = bench.begin("retried", until, app.env())
        attempt.until(lambda: app.calls("GetTask") or app.calls("GetExportChannelsStatus"), "export that is waited for")
        asked = app.calls("ExportChannels")
        attempt.kill()
        attempt.wait_for("chatlake ended with 143")
        app.control("complete_tasks")
        assert attempt.end().exit_code == 0, attempt.log()
        assert bench.state("retried", until, "sync") == ("success", 2)
        summary = bench.xcom("retried", until, "sync")
        assert app.calls("ExportChannels") == asked, "an export was asked for a second time"
        assert summary["export_tasks"]["adopted"] == len(asked) and summary["export_tasks"]["requested"] == 0, summary


@check
def a_task_that_takes_too_long_leaves_nothing_behind(bench):
    with bench.app("limited", task_polls=1_000_000) as app:
        until = yesterday(hour=14)
        attempt = bench.run("limited", until, app.env())
        assert attempt.exit_code == 1, attempt.log()
        assert "AirflowTaskTimeout" in attempt.log(), attempt.log()
        commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
        assert not [command for command in commands if str(app.lake) in command], commands


@check
def six_intervals_at_once_share_a_lake(bench):
    with bench.app("six") as app:
        hours = [yesterday(hour=hour) for hour in range(8, 14)]
        attempts = [bench.begin("chatlake_hourly", hour, app.env()) for hour in hours]
        for attempt in attempts:
            assert attempt.end().exit_code == 0, attempt.log()
        rows = 0
        for hour in hours:
            summary = bench.xcom("chatlake_hourly", hour, "sync")
            expected = len(app.messages(hour - timedelta(hours=1), hour))
            rows += expected
            if summary is None:
                assert expected == 0 and bench.state("chatlake_hourly", hour, "sync")[0] == "skipped"
            else:
                assert summary["datasets"]["messages"]["rows"] == expected, summary
        app.chatlake("verify", "--deep")
        files = app.chatlake("files", "--dataset", "messages")["files"]
        assert sum(file["rows"] for file in files) == rows, files


@check
def an_edit_arrives_with_the_revisit_of_its_day(bench):
    with bench.app("edit") as app:
        day = yesterday()
        name = f"{day:%Y-%m-%d}"
        conf = {"since": name, "until": f"{day + timedelta(days=1):%Y-%m-%d}"}
        # The day ends with the last midnight, which may be younger than an export has to be.
        now = datetime.now(timezone.utc)
        attempt = bench.run("chatlake_backfill", now, app.env(CHATLAKE_SETTLE="0s"), conf)
        assert attempt.exit_code == 0, attempt.log()
        assert bench.xcom("chatlake_backfill", now, "backfill")["status"] == "committed"

        attempt = bench.run("chatlake_revisit", now, app.env())
        assert bench.state("chatlake_revisit", now, "revisit")[0] == "skipped", attempt.log()

        message = next(found for found in app.messages(day, day + timedelta(days=1)) if not found.get("deleted_at"))
        two_days = 2 * 24 * 3600
        app.control("clock", advance_seconds=two_days)
        app.control("edit", message_id=message["id"], text="changed my mind")
        later = now + timedelta(days=2)
        attempt = bench.run("chatlake_revisit", later, app.env(CHATLAKE_CLOCK_OFFSET_SECONDS=str(two_days)))
        assert attempt.exit_code == 0, attempt.log()
        summary = bench.xcom("chatlake_revisit", later, "revisit")
        assert summary["revisited"]["messages"]["edited"] == 1, summary
        assert bench.xcom("chatlake_revisit", later, "refresh") == [name]


@check
def what_a_revisit_could_not_tell_is_told_by_the_next_attempt(bench):
    with bench.app("again") as app:
        day = yesterday()
        name = f"{day:%Y-%m-%d}"
        app.chatlake("backfill", "--since", name, "--until", f"{day + timedelta(days=1):%Y-%m-%d}", "--settle", "0s")
        message = next(found for found in app.messages(day, day + timedelta(days=1)) if not found.get("deleted_at"))
        two_days = 2 * 24 * 3600
        app.control("clock", advance_seconds=two_days)
        app.control("edit", message_id=message["id"], text="changed my mind")
        app.die_once_before_the_summary()
        later = yesterday(hour=21)
        attempt = bench.run("revisited", later, app.env(CHATLAKE_CLOCK_OFFSET_SECONDS=str(two_days)))
        assert bench.state("revisited", later, "sync") == ("success", 2), attempt.log()
        assert f"messages/event_date={name}" in bench.xcom("revisited", later, "partitions")
        assert f"file://{app.lake}/messages" in bench.database.events("revisited", at(later))


@check
def a_day_that_a_dead_revisit_has_emptied_is_told(bench):
    with bench.app("emptied") as app:
        day, next_day = yesterday(), yesterday() + timedelta(days=1)
        app.chatlake("backfill", "--since", f"{day:%Y-%m-%d}", "--until", f"{next_day:%Y-%m-%d}", "--settle", "0s")
        two_days = 2 * 24 * 3600
        app.control("clock", advance_seconds=two_days)
        while messages := app.messages(day, next_day):
            # Replies go with their parents.
            app.control("delete", message_id=messages[0]["id"], hard=True)
        app.die_once_before_the_summary()
        later = yesterday(hour=22)
        more = {"CHATLAKE_ON_VANISH": "remove", "CHATLAKE_ACCEPT_EMPTY": "true", "CHATLAKE_CLOCK_OFFSET_SECONDS": str(two_days)}
        attempt = bench.run("revisited", later, app.env(**more))
        assert bench.state("revisited", later, "sync") == ("success", 2), attempt.log()
        assert f"messages/event_date={day:%Y-%m-%d}" in bench.xcom("revisited", later, "partitions"), attempt.log()


@check
def a_run_at_the_end_of_its_hour_waits_until_it_has_settled(bench):
    with bench.app("settle") as app:
        until, settle = yesterday(hour=15), 60
        # Five seconds too early, however long Airflow takes to begin it: Stream's clock stands still until then.
        begins = until + timedelta(seconds=settle - 5)
        app.control("clock", fixed_at=at(begins))
        app.begin_at(begins)
        env = app.env(CHATLAKE_SETTLE=f"{settle}s")
        attempt = bench.begin("chatlake_hourly", until, env)
        attempt.wait_for("waiting until the range has settled")
        # Sent in the last second of the hour, and there only after the run began.
        cid = app.messages(until - timedelta(days=1), until)[0]["cid"]
        sent = app.control("send", cid=cid, user_id="amara", text="just in time", at=at(until - timedelta(seconds=1)))
        assert attempt.end().exit_code == 0, attempt.log()
        summary = bench.xcom("chatlake_hourly", until, "sync")
        expected = app.messages(until - timedelta(hours=1), until)
        assert sent["id"] in [message["id"] for message in expected]
        assert summary["datasets"]["messages"]["rows"] == len(expected), summary


@check
def an_empty_interval_is_refused(bench):
    with bench.app("interval") as app:
        until = yesterday(hour=16)
        attempt = bench.run("empty_interval", until, app.env())
        assert attempt.exit_code == 1, attempt.log()
        assert bench.state("empty_interval", until, "sync") == ("failed", 1)
        assert 'CronDataIntervalTimetable("@hourly", timezone="UTC")' in attempt.log(), attempt.log()
        assert app.calls() == []


@check
def a_program_that_is_not_there_is_named(bench):
    with bench.app("program") as app:
        until = yesterday(hour=17)
        attempt = bench.run("misspelt", until, app.env())
        assert bench.state("misspelt", until, "sync") == ("failed", 1), attempt.log()
        assert "`chatlake-that-is-not-there` cannot be run" in attempt.log(), attempt.log()


@check
def a_run_goes_on_from_the_last_one_if_it_takes_no_interval(bench):
    with bench.app("automatic") as app:
        env = app.env(CHATLAKE_SETTLE="0s")
        first, second = yesterday(hour=22), yesterday(hour=23)
        attempt = bench.run("automatic", first, env)
        assert attempt.exit_code == 0, attempt.log()
        summary = bench.xcom("automatic", first, "sync")
        assert datetime.fromisoformat(summary["frontier"]) == yesterday() + timedelta(days=1), summary
        assert bench.xcom("automatic", first, "partitions") == summary["partitions_changed"] != []
        bench.run("automatic", second, env)
        assert bench.state("automatic", second, "sync")[0] == "skipped"


@check
def a_lake_in_s3_is_reached_by_the_keys_of_a_connection(bench):
    if ENDPOINT is None:
        print("SKIPPED: there is no S3 server")
        return
    with bench.app("s3") as app:
        lake = f"s3://{os.environ['CHATLAKE_TEST_S3_BUCKET']}/airflow/{uuid.uuid4()}"
        keys = {"login": os.environ["AWS_ACCESS_KEY_ID"], "password": os.environ["AWS_SECRET_ACCESS_KEY"]}
        extra = {"endpoint_url": ENDPOINT, "region_name": "us-east-1"}
        env = app.env(
            # None of these is what lets it in.
            AWS_ACCESS_KEY_ID="nobody", AWS_SECRET_ACCESS_KEY="nothing", AWS_ENDPOINT_URL="",
            AIRFLOW_VAR_CHATLAKE_LAKE=lake,
            AIRFLOW_VAR_CHATLAKE_S3_CONN_ID="chatlake_s3",
            AIRFLOW_CONN_CHATLAKE_S3=json.dumps({"conn_type": "aws", **keys, "extra": extra}),
        )
        until = yesterday(hour=9)
        attempt = bench.run("chatlake_hourly", until, env)
        assert attempt.exit_code == 0, attempt.log()
        assert "Key and secret of the store: connection chatlake_s3" in attempt.log(), attempt.log()
        assert bench.xcom("chatlake_hourly", until, "sync")["status"] == "committed"
        assert f"{lake}/messages" in bench.database.events("chatlake_hourly", at(until))


@check
def no_secret_is_written_anywhere(bench):
    written = [path for path in bench.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert any(path.name == "airflow.db" for path in written)
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]


@check
def exit_codes_have_one_meaning_each(_):
    from chatlake_airflow.exceptions import AirflowException, AirflowFailException
    from chatlake_airflow.outcome import error_of

    said = [" INFO exporting", "error: no", "  such: thing", "hint: do this"]
    for code, is_final in [(1, True), (2, True), (65, True), (69, True), (73, True), (77, True), (42, True),
                           (75, False), (130, False), (143, False), (137, False), (-9, False), (-15, False)]:
        error = error_of(code, said)
        assert isinstance(error, AirflowException) and isinstance(error, AirflowFailException) == is_final, code
        assert str(error).endswith("\nerror: no\n  such: thing\nhint: do this"), error
    assert "it said nothing" in str(error_of(1, []))


@check
def datasets_days_and_places_are_read_from_partitions(_):
    from chatlake_airflow import days_changed
    from chatlake_airflow.partitions import by_dataset, uri_of

    names = ["messages/event_date=2026-01-02/channel_type=team", "messages/event_date=2026-01-01/channel_type=team",
             "reactions/event_date=2026-01-01", "user_exports/messages/export_date=2026-01-03"]
    assert days_changed({"partitions_changed": names}) == ["2026-01-01", "2026-01-02"]
    assert by_dataset(names) == {
        "messages": [names[1], names[0]], "reactions": [names[2]], "user_exports/messages": [names[3]]
    }
    assert uri_of("s3://bucket/chat/", "messages") == "s3://bucket/chat/messages"
    assert uri_of("/data/lake", "messages") == "file:///data/lake/messages"


@check
def mistakes_are_refused_before_anything_runs(_):
    from airflow.sdk import Connection
    from chatlake_airflow import ChatlakeOperator
    from chatlake_airflow.connections import s3_env, stream_env
    from chatlake_airflow.exceptions import AirflowFailException
    from chatlake_airflow.operator import _interval

    for arguments in ({"env": {"STREAM_API_SECRET": SECRET}}, {"command": "backfill"}, {"since": "2026-01-01"}):
        assert_raises(ValueError, ChatlakeOperator, task_id="refused", **arguments)
    assert_raises(AirflowFailException, _interval, {})
    assert_raises(AirflowFailException, stream_env, Connection(conn_id="c", conn_type="generic", login="key"))
    role = Connection(conn_id="c", conn_type="aws", extra='{"role_arn": "arn:aws:iam::1:role/r"}')
    assert_raises(AirflowFailException, s3_env, role)
    keys = Connection(conn_id="c", conn_type="aws", login="k", password="p", extra='{"region_name": "eu-west-1"}')
    assert s3_env(keys) == {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "p", "AWS_REGION": "eu-west-1"}


def assert_raises(kind, function, *arguments, **named):
    try:
        function(*arguments, **named)
    except kind as error:
        assert SECRET not in str(error)
    else:
        raise AssertionError(f"{function} took {arguments} {named}")


def main():
    wanted = sys.argv[1:]
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="chatlake-airflow-") as folder:
        bench = Bench(pathlib.Path(folder).resolve())
        prepare(bench.home, DAGS, HERE / "dags")
        for function in CHECKS:
            if wanted and function.__name__ not in wanted:
                continue
            began = time.monotonic()
            try:
                function(bench)
            except Exception:
                failed += 1
                print(f"FAILED {function.__name__}\n{traceback.format_exc()}", flush=True)
            else:
                passed += 1
                print(f"ok     {function.__name__} ({time.monotonic() - began:.0f} s)", flush=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
