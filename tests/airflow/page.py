"""Follows docs/airflow.md from an empty folder, block by block, until the scheduler has filled a bucket hour by hour. Some of the hours are
cleared while they are at work.

What is installed is held to the versions of requirements.txt. The lake is in the S3 server that CHATLAKE_TEST_S3_ENDPOINT names, in a
folder without one.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import uuid

from airflow_process import Database, settings
from app import KEY, SECRET, App, Stream

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
REQUIREMENTS = ROOT / "tests" / "airflow" / "requirements.txt"
HOURS = 3
# The first attempts of all may end with a time-out of Airflow's API, and the second comes four minutes later at most.
WAIT_SECONDS = 900

# The hours of runs that went well, as chatlake writes times.
BROUGHT = """
    SELECT strftime('%Y-%m-%dT%H:%M:%SZ', data_interval_start), strftime('%Y-%m-%dT%H:%M:%SZ', data_interval_end)
    FROM dag_run WHERE dag_id = 'chatlake_hourly' AND state = 'success'
"""

PRELUDE = """
set -euo pipefail
# It runs for as long as nobody stops it.
airflow() {
  [[ $1 == standalone ]] || { command airflow "$@"; return; }
  set -m
  command airflow standalone > standalone.log 2>&1 &
  local status=0
  python "$PAGE" --watch || status=$?
  kill -TERM -- -$!
  wait $! || true
  set +m
  return "$status"
}
"""


# What parts of DAGs take for granted.
IMPORTS = """
from airflow.sdk import DAG, Asset, task
from chatlake_airflow import ChatlakeOperator
"""


def blocks(page):
    """What a page says to run, in its order, as shell."""
    found = re.findall(r"^```(sh|python)\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    assert {language for language, _ in found} == {"sh", "python"}, found
    as_shell = {"sh": "{}", "python": f"python - <<'PYTHON'{IMPORTS}{{}}PYTHON\n"}
    return [as_shell[language].format(text) for language, text in found]


def commands(place):
    text = "".join(blocks("docs/airflow.md") + blocks("integrations/airflow/README.md"))
    return text.replace("s3://bucket/chat", place).replace('"KEY"', f'"{KEY}"').replace('"SECRET"', f'"{SECRET}"')


class Lake:
    """What the scheduler has made of the hours, while it runs."""

    def __init__(self):
        self.database = Database(pathlib.Path(os.environ["AIRFLOW_HOME"]))
        self.stream = Stream(os.environ["STREAM_BASE_URL"])

    def hours(self):
        query = "SELECT count(*) FROM dag_run WHERE dag_id = 'chatlake_hourly' AND run_type = 'scheduled' AND state = 'success'"
        return self.database.rows(query)[0][0]

    def tasks(self, state):
        """The tasks of hours that are in this state: the run's id, and which attempt it is."""
        query = "SELECT run_id, try_number FROM task_instance WHERE dag_id = 'chatlake_hourly' AND task_id = 'sync' AND state = ?"
        return dict(self.database.rows(query, state))

    def until(self, what, found):
        deadline = time.monotonic() + WAIT_SECONDS
        while not (value := found()):
            if time.monotonic() > deadline:
                sys.exit(f"never: {what}\n{pathlib.Path('standalone.log').read_text()}")
            time.sleep(1)
        return value

    def follows_an_hour(self):
        """The tasks that wait for exports, once they have asked for all that they ask for."""
        tasks, asked = self.tasks("running"), self.stream.calls("ExportChannels")
        time.sleep(3)
        is_quiet = len(asked) == len(self.stream.calls("ExportChannels")) and asked[-1]["status"] < 400
        return tasks if is_quiet and tasks == self.tasks("running") else None


def watch():
    """Waits for hours, and clears the tasks of others in the middle, as people do in the UI: nothing is asked for again."""
    lake = Lake()
    lake.until(f"{HOURS} hours", lambda: lake.hours() >= HOURS)
    lake.stream.control("switches", task_polls=1_000_000)
    cleared = lake.until("tasks that wait for exports", lake.follows_an_hour)
    asked = lake.stream.calls("ExportChannels")
    subprocess.run(["airflow", "tasks", "clear", "chatlake_hourly", "--only-running", "--yes"], check=True)
    lake.until("a second attempt", lambda: all(lake.tasks("running").get(run, 0) > attempt for run, attempt in cleared.items()))
    lake.stream.control("switches", task_polls=3)
    lake.stream.control("complete_tasks")
    lake.until("the cleared hours", lambda: cleared.keys() <= {**lake.tasks("success"), **lake.tasks("skipped")}.keys())
    windows = {(call["since"], call["until"]) for call in asked}
    again = [call for call in lake.stream.calls("ExportChannels") if (call["since"], call["until"]) in windows]
    assert len(again) == len(asked), f"{len(again) - len(asked)} exports were asked for a second time"


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        # pip leaves its own files beside what it builds.
        shutil.copytree(ROOT / "integrations" / "airflow", folder / "integrations" / "airflow")
        with App(folder) as app:
            endpoint = os.environ.get("CHATLAKE_TEST_S3_ENDPOINT")
            place = f"file://{folder}/lake"
            env = {**os.environ, **settings(folder / "airflow-home"), **app.env(PAGE=__file__, PIP_CONSTRAINT=str(REQUIREMENTS), PIP_DISABLE_PIP_VERSION_CHECK="1")}
            if endpoint:
                place = f"s3://{os.environ['CHATLAKE_TEST_S3_BUCKET']}/airflow/{uuid.uuid4()}"
                env["AWS_ENDPOINT_URL"] = endpoint
            # As the page says it.
            for variable in ("PYTHONPATH", "AIRFLOW_HOME", "AIRFLOW_VAR_CHATLAKE_LAKE", "AIRFLOW__CORE__DAGS_FOLDER"):
                env.pop(variable)
            (folder / "page.sh").write_text(PRELUDE + commands(place))
            ran = subprocess.run(["bash", "-x", "page.sh"], cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
            lake = {**env, "CHATLAKE_LAKE": place}
            status = json.loads(subprocess.run(["chatlake", "status", "--json"], env=lake, check=True, capture_output=True, text=True).stdout)
            # The hour by hand, and the schedule's. These begin anywhere: the first may be one that waits for its second attempt.
            brought = Database(folder / "airflow-home").rows(BROUGHT)
            assert len(brought) > HOURS, brought
            for since, until in brought:
                assert any(cover["since"] <= since and until <= cover["until"] for cover in status["coverage"]), (since, until, status)
            print(f"ok     the page is followed, {HOURS} scheduled hours and more are in {place.split(':')[0]}://, hours that were cleared at work among them")


if __name__ == "__main__":
    watch() if sys.argv[1:] == ["--watch"] else main()
