"""Airflow for the tests: a home of its own, and `airflow dags test` in processes that are forked after the imports."""

import asyncio
import json
import os
import pathlib
import shutil
import signal
import sqlite3
import sys
import time
import traceback
from dataclasses import dataclass, field

WAIT_SECONDS = 120

# Airflow names a run that is tested after the time at which it was.
RUN = """(dag_id, run_id) IN (
    SELECT dag_id, run_id FROM dag_run WHERE dag_id = ? AND datetime(logical_date) = datetime(?)
)"""


def settings(home):
    """The environment of a quiet Airflow: no examples, no word to anybody."""
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "SCARF_ANALYTICS": "false",
        "DO_NOT_TRACK": "1",
        "NO_PROXY": "127.0.0.1",
    }


def prepare(home, *folders):
    """Makes the home, its database and its folder of DAGs. To be called once, before anything of Airflow is imported."""
    dags = home / "dags"
    dags.mkdir(parents=True)
    for folder in folders:
        for dag in pathlib.Path(folder).glob("*.py"):
            shutil.copy(dag, dags)
    os.environ.update(settings(home))
    migrated = _in_child(home / "migrate.log", {}, ["db", "migrate"]).end()
    assert migrated.exit_code == 0, migrated.log()
    asyncio.run(_warm_up())


async def _warm_up():
    """What tasks talk to is built with its first answer. Built here, it is there in each fork, which would take seconds for it."""
    import httpx
    from airflow.sdk.execution_time.supervisor import in_process_api_server

    async with httpx.AsyncClient(transport=in_process_api_server().atransport, base_url="http://in-process") as client:
        assert (await client.get("/no-such-route")).status_code == 404


@dataclass
class Attempt:
    """A command of Airflow in a process of its own."""

    pid: int
    log_path: pathlib.Path
    exit_code: int | None = field(default=None)

    def log(self):
        return self.log_path.read_text(errors="replace")

    def wait_for(self, text):
        """Until the log has it."""
        self.until(lambda: text in self.log(), f"`{text}` in the log")

    def until(self, holds, what):
        deadline = time.monotonic() + WAIT_SECONDS
        while not holds():
            pid, status = os.waitpid(self.pid, os.WNOHANG) if self.exit_code is None else (0, 0)
            if pid:
                self.exit_code = os.waitstatus_to_exitcode(status)
            assert self.exit_code is None and time.monotonic() < deadline, f"no {what}:\n{self.log()}"
            time.sleep(0.05)

    def end(self):
        if self.exit_code is None:
            self.exit_code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self

    def kill(self):
        os.kill(self.pid, signal.SIGTERM)


def dags_test(home, dag_id, logical_date, env, conf=None):
    """Begins `airflow dags test`."""
    arguments = ["dags", "test", dag_id, logical_date]
    if conf is not None:
        arguments += ["--conf", json.dumps(conf)]
    number = len(list(home.glob("*.log")))
    return _in_child(home / f"{number:02}-{dag_id}.log", env, arguments)


def _in_child(log_path, env, arguments):
    # Imported once, here: each fork has it, and no fork shares a connection to the database.
    from airflow.cli import cli_parser

    log_path.touch()
    pid = os.fork()
    if pid:
        return Attempt(pid, log_path)
    code = 1
    try:
        with open(log_path, "ab", buffering=0) as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        os.environ.update(env)
        parsed = cli_parser.get_parser().parse_args(arguments)
        parsed.func(parsed)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1 if end.code else 0
        if isinstance(end.code, str):
            print(end.code, flush=True)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class Database:
    """What Airflow has written down."""

    def __init__(self, home):
        self.path = home / "airflow.db"

    def rows(self, query, *values):
        connection = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=30)
        try:
            return connection.execute(query, values).fetchall()
        finally:
            connection.close()

    def task(self, dag_id, logical_date, task_id):
        """State and number of the last attempt."""
        query = f"SELECT state, try_number FROM task_instance WHERE {RUN} AND task_id = ?"
        return self._one(query, dag_id, logical_date, task_id)

    def xcom(self, dag_id, logical_date, task_id):
        """What it returned."""
        query = f"SELECT value FROM xcom WHERE {RUN} AND task_id = ? AND key = 'return_value'"
        value = self._one(query, dag_id, logical_date, task_id)
        return None if value is None else json.loads(value[0])

    def events(self, dag_id, logical_date):
        """The extras of asset events, by URI."""
        run = RUN.replace("(dag_id, run_id)", "(source_dag_id, source_run_id)")
        found = self.rows(
            f"SELECT asset.uri, asset_event.extra FROM asset_event JOIN asset ON asset.id = asset_id WHERE {run}",
            dag_id, logical_date,
        )
        return {uri: json.loads(extra) for uri, extra in found}

    def _one(self, query, *values):
        return next(iter(self.rows(query, *values)), None)
