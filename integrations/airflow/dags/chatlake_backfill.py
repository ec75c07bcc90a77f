"""History, in large spans and by hand: `airflow dags trigger chatlake_backfill --conf '{"since": ..., "until": ...}'`."""

from datetime import timedelta

from airflow.sdk import DAG, Param

from chatlake_airflow import ChatlakeOperator

with DAG(
    "chatlake_backfill",
    schedule=None,
    params={
        "since": Param(type="string", format="date", title="First day"),
        "until": Param(type="string", format="date", title="First day after"),
    },
    # What is committed is not asked for again, so that a retry, or a second run, goes on where the last one stopped.
    default_args={"retries": 10, "retry_delay": timedelta(minutes=10)},
    max_active_runs=1,
    tags=["chatlake"],
):
    ChatlakeOperator(
        task_id="backfill",
        command="backfill",
        since="{{ params.since }}",
        until="{{ params.until }}",
        lake="{{ var.value.get('chatlake_lake', '') }}",
        stream_conn_id="{{ var.value.get('chatlake_stream_conn_id', '') }}",
        s3_conn_id="{{ var.value.get('chatlake_s3_conn_id', '') }}",
        # Beside the others: see chatlake_hourly.
        args=["--rate-share", "0.1"],
    )
