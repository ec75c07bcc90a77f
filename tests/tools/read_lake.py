"""Read a lake with other people's readers and print what is in it as one JSON object.

    read_lake.py LAKE [--dataset NAME [--columns A,B,...]]
    read_lake.py --serve

LAKE is a folder, or s3://bucket/prefix with the AWS_* variables (AWS_ENDPOINT_URL or CHATLAKE_TEST_S3_ENDPOINT for
another endpoint). Nothing of chatlake is used: Hive folders are walked here, every file is read by PyArrow, and in a
folder DuckDB reads the same glob as an analyst would. The two must agree.

Without --dataset: messages, reactions, counts per dataset, files per dataset and partition.
With --dataset: its rows, all columns or the given ones, and the schema that the files carry. Any folder will do, such as
_quarantine or _chatlake/rejected/<run>.
With --serve: a lake on each line of stdin, and a dataset behind a tab if only its rows are wanted; what is in it as one line of
JSON, for tests that read many lakes.
"""

import argparse
import datetime
import json
import os
import sys
from urllib.parse import unquote

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

DATASETS = ["messages", "reactions", "channels", "members", "users", "reads", "polls"]
MESSAGE_COLUMNS = ["id", "cid", "created_at", "updated_at", "deleted_at", "text", "user_id", "type", "_vanished_at"]
REACTION_COLUMNS = ["message_id", "user_id", "type", "_vanished_at"]


def open_lake(url: str) -> tuple[pafs.FileSystem, str]:
    """The file system that holds the lake, and its root there."""
    if url.startswith("s3://"):
        endpoint = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("CHATLAKE_TEST_S3_ENDPOINT")
        options = {"region": os.environ.get("AWS_REGION", "us-east-1")}
        if endpoint:
            options["scheme"], options["endpoint_override"] = endpoint.rstrip("/").split("://", 1)
        return pafs.S3FileSystem(**options), url.removeprefix("s3://").rstrip("/")
    return pafs.LocalFileSystem(), os.path.abspath(url.removeprefix("file://"))


def data_files(fs: pafs.FileSystem, root: str, dataset: str) -> list[tuple[str, dict[str, str]]]:
    """Every Parquet file of a dataset with the partition values that its path carries."""
    base = f"{root}/{dataset}"
    found = []
    for info in fs.get_file_info(pafs.FileSelector(base, recursive=True, allow_not_found=True)):
        if info.type != pafs.FileType.File:
            continue
        parts = info.path.removeprefix(base + "/").split("/")
        if not parts[-1].endswith(".parquet"):
            sys.exit(f"a reader's glob would meet a file that is no data: {info.path}")
        found.append((info.path, dict(unquote(part).split("=", 1) for part in parts[:-1])))
    return sorted(found, key=lambda item: item[0])


def read_dataset(fs: pafs.FileSystem, root: str, dataset: str, columns: list[str] | None) -> tuple[pa.Table | None, dict]:
    """All rows, the partition values as columns beside them, and the number of files by partition."""
    tables, files = [], {}
    for path, partition in data_files(fs, root, dataset):
        name = "/".join(f"{key}={value}" for key, value in partition.items())
        files[name] = files.get(name, 0) + 1
        with fs.open_input_file(path) as file:
            parquet = pq.ParquetFile(file)
            wanted = None if columns is None else [name for name in columns if name not in partition]
            missing = [name for name in wanted or [] if name not in parquet.schema_arrow.names]
            if missing:
                sys.exit(f"{path} has no column {', '.join(missing)}")
            table = parquet.read(columns=wanted)
        for key, value in partition.items():
            table = table.append_column(key, pa.array([value] * table.num_rows, pa.string()))
        tables.append(table)
    return (pa.concat_tables(tables, promote_options="default") if tables else None), files


def plain(value):
    """A value as JSON has it: times as microseconds, maps as objects."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, datetime.date):
        return value.isoformat()
    return value


def rows(table: pa.Table | None) -> list[dict]:
    """The rows of a table, times as whole microseconds so that nothing is lost on the way."""
    if table is None:
        return []
    for index, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            if field.type != pa.timestamp("us", "UTC"):
                sys.exit(f"column {field.name} is {field.type}, not microseconds in UTC")
            table = table.set_column(index, field.name, table.column(index).cast(pa.int64()))
    maps_as_objects = {"maps_as_pydicts": "strict"}
    return [plain(row) for row in table.to_pylist(**maps_as_objects)]


def ask_duckdb(root: str, dataset: str) -> dict[str, int]:
    """Rows by partition as DuckDB's Hive reader counts them."""
    column = "event_date" if dataset in ("messages", "reactions") else "snapshot_date"
    query = f"""
        SELECT CAST({column} AS VARCHAR), count(*)
        FROM read_parquet(?, hive_partitioning = true, union_by_name = true) GROUP BY 1"""
    return dict(duckdb.execute(query, [f"{root}/{dataset}/**/*.parquet"]).fetchall())


def check_against_duckdb(root: str, dataset: str, table: pa.Table) -> None:
    column = "event_date" if dataset in ("messages", "reactions") else "snapshot_date"
    counted = {item["values"].as_py(): item["counts"].as_py() for item in pc.value_counts(table.column(column))}
    if (other := ask_duckdb(root, dataset)) != counted:
        sys.exit(f"{dataset}: PyArrow counts {counted}, DuckDB counts {other}")


def summary(fs: pafs.FileSystem, root: str) -> dict:
    result: dict = {"rows": {}, "files": {}}
    for dataset in DATASETS:
        columns = {"messages": MESSAGE_COLUMNS, "reactions": REACTION_COLUMNS}.get(dataset)
        table, result["files"][dataset] = read_dataset(fs, root, dataset, columns)
        result["rows"][dataset] = 0 if table is None else table.num_rows
        if table is not None and isinstance(fs, pafs.LocalFileSystem):
            check_against_duckdb(root, dataset, table)
        if columns is not None:
            result[dataset] = rows(table)
            for row in result[dataset]:
                row["vanished"] = row.pop("_vanished_at") is not None
    return result


def rows_of(fs: pafs.FileSystem, root: str, dataset: str, columns: list[str] | None) -> dict:
    table, files = read_dataset(fs, root, dataset, columns)
    schema = {} if table is None else {field.name: str(field.type) for field in table.schema}
    return {"dataset": dataset, "files": files, "schema": schema, "rows": rows(table)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Print what is in a lake as JSON.")
    parser.add_argument("lake", nargs="?", help="a folder, or s3://bucket/prefix")
    parser.add_argument("--serve", action="store_true", help="read what stdin names, one lake or dataset a line")
    parser.add_argument("--dataset", help="print the rows of this one, or of another folder")
    parser.add_argument("--columns", type=lambda text: text.split(","), help="only these columns, separated by commas")
    options = parser.parse_args()
    if options.columns and not options.dataset:
        parser.error("--columns needs --dataset")
    if options.serve == (options.lake is not None):
        parser.error("name a lake, or --serve")
    if options.serve:
        for line in sys.stdin:
            lake, _, dataset = line.rstrip("\n").partition("\t")
            fs, root = open_lake(lake)
            result = rows_of(fs, root, dataset, options.columns) if dataset else summary(fs, root)
            print(json.dumps(result, ensure_ascii=False), flush=True)
        return

    fs, root = open_lake(options.lake)
    if options.dataset is None:
        result = summary(fs, root)
    else:
        result = rows_of(fs, root, options.dataset, options.columns)
    json.dump(result, sys.stdout, ensure_ascii=False)
    print()


if __name__ == "__main__":
    main()
