"""Days that are due to be exported again, so that edits, deletions and reactions arrive."""

from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.sdk import DAG, task

from chatlake_airflow import ChatlakeOperator, days_changed

with DAG(
    "chatlake_revisit",
    # A day is due when it is one day old, and again with seven (--revisit): soon after midnight UTC.
    schedule="30 0 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    # One run does all that is due, however long ago the last one was.
    catchup=False,
    # A second one would export the same days again, and then find them done.
    max_active_runs=1,
    default_args={"retries": 5, "retry_delay": timedelta(minutes=10)},
    tags=["chatlake"],
):
    revisit = ChatlakeOperator(
        task_id="revisit",
        command="revisit",
        lake="{{ var.value.get('chatlake_lake', '') }}",
        stream_conn_id="{{ var.value.get('chatlake_stream_conn_id', '') }}",
        s3_conn_id="{{ var.value.get('chatlake_s3_conn_id', '') }}",
        # Beside the others: see chatlake_hourly.
        args=["--rate-share", "0.1"],
    )

    @task
    def refresh(summary: dict[str, Any]) -> list[str]:
        """Stands for whatever reads the lake, as in chatlake_hourly."""
        days = days_changed(summary)
        print(f"days to refresh: {', '.join(days) or 'none'}")
        return days

    refresh(revisit.output)
