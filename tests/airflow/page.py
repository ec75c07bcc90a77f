"""Follows docs/airflow.md from an empty folder, block by block, until the scheduler has filled a bucket hour by hour.

What is installed is held to the versions of requirements.txt. The lake is in the S3 server that CHATLAKE_TEST_S3_ENDPOINT names, in a
folder without one.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from datetime import timedelta

from airflow_process import Database, settings
from app import KEY, SECRET, App, yesterday

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
REQUIREMENTS = ROOT / "tests" / "airflow" / "requirements.txt"
HOURS = 3
WAIT_SECONDS = 300

PRELUDE = """
set -euo pipefail
# It runs for as long as nobody stops it.
airflow() {
  [[ $1 == standalone ]] || { command airflow "$@"; return; }
  set -m
  command airflow standalone > standalone.log 2>&1 &
  local status=0
  python "$PAGE" --wait || status=$?
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


def hours():
    """How many hours the scheduler has brought in."""
    query = "SELECT count(*) FROM dag_run WHERE dag_id = 'chatlake_hourly' AND run_type = 'scheduled' AND state = 'success'"
    return Database(pathlib.Path(os.environ["AIRFLOW_HOME"])).rows(query)[0][0]


def wait():
    deadline = time.monotonic() + WAIT_SECONDS
    while hours() < HOURS:
        if time.monotonic() > deadline:
            sys.exit(f"the scheduler has brought in {hours()} of {HOURS} hours:\n{pathlib.Path('standalone.log').read_text()}")
        time.sleep(1)


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
            status = subprocess.run(["chatlake", "status"], env=lake, check=True, capture_output=True, text=True).stdout
            first_day = yesterday() - timedelta(days=1)
            assert f"covered      {first_day:%Y-%m-%d}T00:00:00Z" in status, status
            print(f"ok     the page is followed, {HOURS} scheduled hours and more are in {place.split(':')[0]}://")


if __name__ == "__main__":
    wait() if sys.argv[1:] == ["--wait"] else main()
