"""A command of chatlake as a task."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from airflow.sdk import Asset, AssetAlias, BaseOperator, Connection, Context

from chatlake_airflow import log, outcome
from chatlake_airflow.connections import S3_CREDENTIALS, SECRETS, STREAM_CREDENTIALS, s3_env, stream_env
from chatlake_airflow.exceptions import AirflowFailException, AirflowSkipException
from chatlake_airflow.partitions import DAY, by_dataset, days_changed, uri_of
from chatlake_airflow.process import Process

EMPTY_INTERVAL = (
    "the data interval of this run is empty: it begins and ends at {at}, and there is nothing in it to export. "
    'In Airflow 3 `schedule="@hourly"` gives such intervals. '
    'Use schedule=CronDataIntervalTimetable("@hourly", timezone="UTC") from airflow.timetables.interval'
)
NO_INTERVAL = (
    "this run has no data interval: it was triggered without a logical date. "
    "Trigger it with one, or give the task since and until"
)

# How far the clock of a worker may be from that of Airflow's scheduler.
CLOCKS_APART = timedelta(minutes=5)


class ChatlakeOperator(BaseOperator):
    """
    Runs ``chatlake COMMAND --json`` and returns its summary, which holds no secrets, as XCom.

    Without messages the task is skipped. What is worth another attempt fails the task so that Airflow retries it; what is
    not fails it for good, with what chatlake says to do about it. The summary is in XCom in either case, if there is one.
    The variables of the worker's environment reach chatlake, those of Airflow itself excepted.

    :param command: ``sync`` takes the run's data interval; ``backfill`` takes ``since`` and ``until``; ``revisit`` takes no
        range; ``convert`` takes files in ``args``, and a range if it is given.
    :param lake: where the lake is; empty: as ``args`` or the environment say (``CHATLAKE_LAKE``, ``CHATLAKE_CONFIG``). (templated)
    :param since: first instant. (templated)
    :param until: first instant after. (templated)
    :param use_data_interval: False makes ``sync`` without ``since`` and ``until`` go on from where the last run ended.
    :param args: further arguments. They are logged and shown: no secrets. (templated)
    :param env: further variables. They are shown: no secrets. (templated)
    :param stream_conn_id: a connection whose login is the app's key and whose password is its secret; empty: ``STREAM_*`` of
        the environment. (templated)
    :param s3_conn_id: a connection of type AWS with keys; empty: ``AWS_*`` of the environment. (templated)
    :param asset_alias: the alias that carries an event for the asset ``LAKE/DATASET`` of each dataset that has changed, with
        ``partitions_changed`` as its extra; None: no events.
    :param binary: the program.
    :param grace_seconds: how long a run that is stopped may take to write down what it has asked of Stream. A task that is
        killed from outside gets less of Airflow itself, and chatlake then ends on its own.
    """

    template_fields: Sequence[str] = ("lake", "since", "until", "args", "env", "stream_conn_id", "s3_conn_id")
    template_fields_renderers = {"args": "json", "env": "json"}
    ui_color = "#d7e8f7"

    def __init__(
        self,
        *,
        command: Literal["sync", "revisit", "backfill", "convert"] = "sync",
        lake: str | None = None,
        since: str | None = None,
        until: str | None = None,
        use_data_interval: bool = True,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        stream_conn_id: str | None = None,
        s3_conn_id: str | None = None,
        asset_alias: str | None = "chatlake",
        binary: str = "chatlake",
        grace_seconds: float = 30,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if shown := SECRETS & set(env or {}):
            raise ValueError(
                f"env is shown in Airflow's UI, and has {', '.join(sorted(shown))}: "
                "use stream_conn_id, s3_conn_id or the worker's environment"
            )
        if (since is None) != (until is None) or (command == "backfill" and since is None):
            raise ValueError(f"chatlake {command}: since and until go together, and a backfill has both")
        self.command = command
        self.lake = lake
        self.since = since
        self.until = until
        self.use_data_interval = use_data_interval
        self.args = list(args)
        self.env = dict(env or {})
        self.stream_conn_id = stream_conn_id
        self.s3_conn_id = s3_conn_id
        self.asset_alias = asset_alias
        self.binary = binary
        self.grace_seconds = grace_seconds
        self._process: Process | None = None
        if asset_alias is not None:
            self.outlets = [*self.outlets, AssetAlias(asset_alias)]

    def execute(self, context: Context) -> dict[str, Any]:
        argv = [self.binary, self.command, *self._range(context), "--json"]
        argv += ["--empty-exit-code", str(outcome.EMPTY), *self._place(), *self.args]
        env = self._environment()
        self.log.info("Running: %s", shlex.join(argv))
        for what, conn_id in (("Stream", self.stream_conn_id), ("the store", self.s3_conn_id)):
            if conn_id:
                self.log.info("Key and secret of %s: connection %s", what, conn_id)
        returncode, stdout, last_lines = self._run(argv, env, self._say)
        summary = _summary(stdout)
        if returncode in (0, outcome.EMPTY) and summary is not None and context["ti"].try_number > 1:
            summary["partitions_changed"] = self._with_untold(context, summary, env)
        # The last message of a day may have gone, and then something has changed although there is none.
        if returncode == outcome.EMPTY and not (summary and days_changed(summary)):
            raise AirflowSkipException("no messages: nothing changed that is to be refreshed")
        if returncode not in (0, outcome.EMPTY):
            if summary is not None and self.do_xcom_push:
                context["ti"].xcom_push(key="return_value", value=summary)
            raise outcome.error_of(returncode, last_lines)
        if summary is None:
            raise AirflowFailException("chatlake ended well and printed no summary: do not pass --plan or --help")
        self._emit(context, summary)
        return summary

    def on_kill(self) -> None:
        if self._process is not None:
            self.log.info("Stopping chatlake; what it has asked of Stream is gone on with by the next attempt")
            self._process.stop()

    def _range(self, context: Context) -> list[str]:
        since, until = self.since, self.until
        if since is None and self.command == "sync" and self.use_data_interval:
            since, until = _interval(context)
        return [] if since is None or until is None else ["--since", since, "--until", until]

    def _place(self) -> list[str]:
        return ["--lake", self.lake] if self.lake else []

    def _environment(self) -> dict[str, str]:
        # Airflow's own variables hold its keys and its connections.
        env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "_AIRFLOW_"))}
        # A range is of this run, or there is none, and a task is one run.
        env = _without(env, ("CHATLAKE_SINCE", "CHATLAKE_UNTIL", "CHATLAKE_EVERY"))
        if self.stream_conn_id:
            env = _without(env, STREAM_CREDENTIALS) | stream_env(Connection.get(self.stream_conn_id))
        if self.s3_conn_id:
            env = _without(env, S3_CREDENTIALS) | s3_env(Connection.get(self.s3_conn_id))
        # In text only warnings are logged where there is no terminal.
        return {**env, "CHATLAKE_PROGRESS": "never", "CHATLAKE_LOG_FORMAT": "json", **self.env}

    def _run(
        self, argv: Sequence[str], env: Mapping[str, str], on_line: Callable[[str], None]
    ) -> tuple[int, str, list[str]]:
        try:
            process = Process(argv, env=env, on_line=on_line, grace_seconds=self.grace_seconds)
        except OSError as error:
            raise AirflowFailException(
                f"`{self.binary}` cannot be run: {error.strerror}. Put chatlake on the PATH of the workers, or set binary"
            ) from error
        with process:
            self._process = process
            try:
                returncode = process.wait()
                said = [text for line in process.last_lines for text in log.read(line)[1].splitlines()]
                return returncode, process.stdout, said
            finally:
                self._process = None

    def _say(self, line: str) -> None:
        level, text = log.read(line)
        if text:
            self.log.log(level, "%s", text)

    def _with_untold(self, context: Context, summary: Mapping[str, Any], env: Mapping[str, str]) -> list[str]:
        """
        What has changed, and what the attempts before this one may have committed without telling anybody.

        An attempt that dies or fails after a commit leaves nothing to do for the next one, whose summary does not name it.
        Days are those of the range, if there is one. Whatever else was written since this run could begin may be another's,
        and is told a second time rather than not at all.
        """
        began = context["dag_run"].run_after - CLOCKS_APART
        since_then = ["--written-since", began.isoformat()]
        untold, emptied = self._partitions(summary, env, since_then)
        if span := self._range(context):
            of_span, _ = self._partitions(summary, env, span)
            untold = {partition for partition in untold if DAY not in partition} | of_span
            _, emptied = self._partitions(summary, env, [*span, *since_then])
        return sorted(untold.union(emptied, summary["partitions_changed"]))

    def _partitions(
        self, summary: Mapping[str, Any], env: Mapping[str, str], choice: Sequence[str]
    ) -> tuple[set[str], set[str]]:
        """Those that have files of this choice, and those that have lost their last one since then."""
        argv = [self.binary, "files", "--json", "--lake", summary["lake"], *choice]
        returncode, stdout, last_lines = self._run(argv, env, self._say)
        if returncode != 0:
            raise outcome.error_of(returncode, last_lines)
        found = json.loads(stdout)
        return {f"{file['dataset']}/{file['partition']}" for file in found["files"]}, set(found["emptied"])

    def _emit(self, context: Context, summary: Mapping[str, Any]) -> None:
        if self.asset_alias is None:
            return
        events = context["outlet_events"][AssetAlias(self.asset_alias)]
        # As whoever waits for the asset has written it: chatlake resolves links, and s3a:// to s3://.
        lake = self.lake or summary["lake"]
        for dataset, partitions in by_dataset(summary["partitions_changed"]).items():
            extra: dict[str, Any] = {"partitions_changed": partitions, "run_id": summary["run_id"]}
            events.add(Asset(uri_of(lake, dataset)), extra=extra)


def _without(env: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name not in names}


def _interval(context: Context) -> tuple[str, str]:
    start: datetime | None = context.get("data_interval_start")
    end: datetime | None = context.get("data_interval_end")
    if start is None or end is None:
        raise AirflowFailException(NO_INTERVAL)
    if start == end:
        raise AirflowFailException(EMPTY_INTERVAL.format(at=start.isoformat()))
    return start.isoformat(), end.isoformat()


def _summary(stdout: str) -> dict[str, Any] | None:
    """The one line of JSON that a run prints; a run that could not begin prints none."""
    lines = stdout.splitlines()
    try:
        summary = json.loads(lines[-1]) if lines else None
    except ValueError:
        return None
    return summary if isinstance(summary, dict) and "partitions_changed" in summary else None
