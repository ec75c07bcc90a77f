"""The hourly sync without the package: chatlake on the PATH, everything else in the worker's environment."""

import json
import os
from datetime import datetime, timedelta, timezone

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable

START = datetime.fromisoformat(os.environ.get("CHATLAKE_DAG_START", "2026-01-01")).replace(tzinfo=timezone.utc)

with DAG(
    "chatlake_hourly_bash",
    # `@hourly` alone gives intervals that end where they begin.
    schedule=CronDataIntervalTimetable("@hourly", timezone="UTC"),
    start_date=START,
    catchup=True,
    max_active_runs=2,
    # It knows no exit code but success and "skip": errors that stay, as wrong credentials do, are retried too. Hence few.
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
    tags=["chatlake"],
):
    BashOperator(
        task_id="sync",
        # `exec`, so that the signal that stops the task reaches chatlake and its exit code is the task's.
        bash_command=(
            "exec chatlake sync --since {{ data_interval_start | ts }} --until {{ data_interval_end | ts }}"
            " --json --empty-exit-code 99 --progress never --rate-share 0.15"
        ),
        skip_on_exit_code=99,
        # The last line is the summary, since chatlake prints it when all is done.
        output_processor=json.loads,
    )
