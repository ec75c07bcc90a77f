"""DAGs for the tests: the hourly one with other schedules, retries and limits."""

from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.sdk import DAG, task
from airflow.timetables.interval import CronDataIntervalTimetable

from chatlake_airflow import ChatlakeOperator

HOURLY = CronDataIntervalTimetable("@hourly", timezone="UTC")


def trial(name: str, schedule: Any, **arguments: Any) -> None:
    with DAG(name, schedule=schedule, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), catchup=False):
        lake = "{{ var.value.chatlake_lake }}"
        sync = ChatlakeOperator(task_id="sync", lake=lake, retry_delay=timedelta(seconds=3), **arguments)

        @task
        def partitions(summary: dict[str, Any]) -> list[str]:
            changed: list[str] = summary["partitions_changed"]
            return changed

        partitions(sync.output)


trial("retried", HOURLY, retries=4)
trial("revisited", None, retries=4, command="revisit")
trial("limited", HOURLY, execution_timeout=timedelta(seconds=5))
trial("automatic", HOURLY, use_data_interval=False, args=["--start", "{{ ds }}"])
trial("empty_interval", "@hourly", retries=4)
trial("misspelt", HOURLY, retries=4, binary="chatlake-that-is-not-there")
