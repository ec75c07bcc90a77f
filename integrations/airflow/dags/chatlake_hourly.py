"""Each hour's messages into the lake, an hour at a time, and then what depends on the days that have changed."""

import os
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.sdk import DAG, task
from airflow.timetables.interval import CronDataIntervalTimetable

from chatlake_airflow import ChatlakeOperator, days_changed

# What is before it is for chatlake_backfill: hour by hour, a year would be thousands of runs.
START = datetime.fromisoformat(os.environ.get("CHATLAKE_DAG_START", "2026-01-01")).replace(tzinfo=timezone.utc)

# Runs that catch up go side by side. --rate-share is of each process: these two, a revisit and a backfill together take half
# of the app's rate limit, as chatlake alone does.
MAX_ACTIVE_RUNS = 2
RATE_SHARE = "0.15"

with DAG(
    "chatlake_hourly",
    # `@hourly` alone gives intervals that end where they begin.
    schedule=CronDataIntervalTimetable("@hourly", timezone="UTC"),
    start_date=START,
    # Hours in which the scheduler was down are exported too.
    catchup=True,
    max_active_runs=MAX_ACTIVE_RUNS,
    default_args={
        "retries": 5,
        "retry_delay": timedelta(minutes=2),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=30),
    },
    tags=["chatlake"],
):
    sync = ChatlakeOperator(
        task_id="sync",
        # An hour begins to be exported when it is five minutes old (--settle): the task waits for that, and then for Stream.
        execution_timeout=timedelta(hours=2),
        lake="{{ var.value.get('chatlake_lake', '') }}",
        stream_conn_id="{{ var.value.get('chatlake_stream_conn_id', '') }}",
        s3_conn_id="{{ var.value.get('chatlake_s3_conn_id', '') }}",
        args=["--rate-share", RATE_SHARE],
    )

    @task
    def refresh(summary: dict[str, Any]) -> list[str]:
        """Stands for whatever reads the lake: tables to refresh, days to aggregate again."""
        days = days_changed(summary)
        print(f"days to refresh: {', '.join(days) or 'none'}")
        return days

    refresh(sync.output)
