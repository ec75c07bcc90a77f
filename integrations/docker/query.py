"""Ask a lake on S3 with DuckDB: query.py [SQL]. Each dataset is a view; without SQL, messages by day and type of channel.

CHATLAKE_LAKE says where it is, and AWS_* who asks, as for chatlake.
"""

import os
import pathlib
import sys
from urllib.parse import urlsplit

import duckdb
import duckdb_extension_httpfs

BY_DAY = """
SELECT event_date, split_part(cid, ':', 1) AS channel_type, count(*) AS messages, count(DISTINCT user_id) AS authors
FROM messages
WHERE deleted_at IS NULL AND _vanished_at IS NULL
GROUP BY ALL ORDER BY ALL
"""
EXTENSION = (
    pathlib.Path(duckdb_extension_httpfs.__file__).parent
    / f"extensions/v{duckdb.__version__}/httpfs.duckdb_extension"
)


def text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def connect(env) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute(f"LOAD {text(str(EXTENSION))}")
    settings = {
        "KEY_ID": env["AWS_ACCESS_KEY_ID"],
        "SECRET": env["AWS_SECRET_ACCESS_KEY"],
        "REGION": env["AWS_REGION"],
    }
    if endpoint := env.get("AWS_ENDPOINT_URL"):
        url = urlsplit(endpoint)
        settings |= {"ENDPOINT": url.netloc, "USE_SSL": str(url.scheme == "https"), "URL_STYLE": "path"}
    connection.execute(f"CREATE SECRET (TYPE s3, {', '.join(f'{key} {text(value)}' for key, value in settings.items())})")
    return connection


def add_views(connection: duckdb.DuckDBPyConnection, lake: str) -> None:
    files = connection.execute(f"SELECT file FROM glob({text(f'{lake}/**/*.parquet')})").fetchall()
    datasets = {file.removeprefix(f"{lake}/").split("/")[0] for (file,) in files}
    # What begins with an underscore is chatlake's own; exports of users have folders of their own.
    for dataset in sorted(name for name in datasets if not name.startswith("_") and name != "user_exports"):
        connection.execute(
            f"CREATE VIEW {dataset} AS SELECT * "
            f"FROM read_parquet({text(f'{lake}/{dataset}/**/*.parquet')}, hive_partitioning = true, union_by_name = true)"
        )


def main() -> None:
    connection = connect(os.environ)
    add_views(connection, os.environ["CHATLAKE_LAKE"].rstrip("/"))
    connection.sql(" ".join(sys.argv[1:]) or BY_DAY).show(max_rows=1000)


if __name__ == "__main__":
    main()
