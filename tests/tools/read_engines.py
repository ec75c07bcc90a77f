"""Read lakes as the engines of analysts read them, and print how they differ: DuckDB, Polars, PyArrow, pandas, DataFusion, Spark.

    read_engines.py < JOB
    read_engines.py --java

JOB is a JSON list of {"lake": FOLDER or s3://BUCKET/PREFIX, "tables": SQL, "views": {"duckdb": SQL, "spark": SQL}}; all but the
lake may be absent. Of every lake, `messages` is read by name with each engine, as docs/querying.md tells, and each table that
`tables` declares in Spark is compared with what DuckDB reads from its folder: all rows, all columns, all values. `views` are made
in both, and compared likewise. One Spark session serves all lakes, for it starts slowly; it reads folders, since it comes
without a client of S3. At s3://, AWS_ENDPOINT_URL says where.

Prints {"spark": BOOL, "lakes": [{"engines": {NAME: ROWS}, "days": {NAME: TYPE}, "tables": {NAME: {"rows": N, "types": {NAME: TYPE},
"comments": {NAME: TEXT}, "absent": [NAME]}}, "views": {NAME: ROWS}, "messages": [ROW], "differences": [TEXT]}]}, where absent
columns are those that no file has, and days is the type that event_date has. Without Java 17 there is no Spark: "spark" is false,
"tables" and "views" are empty. --java tells by its exit code whether it is there.
"""

import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import datafusion
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from datafusion.object_store import AmazonS3

from read_lake import open_lake


def folder_of(lake: str, dataset: str) -> str:
    folders = {"quarantine": "_quarantine", "other": "user_exports/other"}
    return f"{lake}/{folders.get(dataset, dataset)}"


def partitions_of(folder: str) -> pa.Schema:
    """The columns that the paths of its files have, with their types."""
    names = re.findall(r"(\w+)=", files_of(folder)[0].removeprefix(folder))
    return pa.schema({name: pa.date32() if name.endswith("_date") else pa.string() for name in names})


def files_of(folder: str) -> list[str]:
    fs, root = open_lake(folder)
    found = fs.get_file_info(pafs.FileSelector(root, recursive=True))
    scheme = "s3://" if folder.startswith("s3://") else ""
    return sorted(scheme + info.path for info in found if info.path.endswith(".parquet"))


def duckdb_extension(name: str) -> Path:
    """Where a package of this DuckDB's version has put it: INSTALL would ask a server of its own."""
    module = __import__(f"duckdb_extension_{name}")
    return next(Path(module.__path__[0]).glob(f"extensions/v{duckdb.__version__}/{name}.duckdb_extension"))


def duckdb_of(folder: str) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config={"threads": 1})
    connection.execute("SET TimeZone = 'UTC'")
    if folder.startswith("s3://"):
        scheme, address = os.environ["AWS_ENDPOINT_URL"].split("://")
        for name in ("httpfs", "aws"):
            connection.execute(f"LOAD '{duckdb_extension(name)}'")
        connection.execute(
            "CREATE SECRET (TYPE s3, PROVIDER credential_chain, CHAIN 'env',"
            f" ENDPOINT '{address}', URL_STYLE 'path', USE_SSL {scheme == 'https'})"
        )
    return connection


def by_duckdb(folder: str) -> pa.Table:
    files = f"{folder}/**/*.parquet"
    return duckdb_of(folder).sql(f"FROM read_parquet('{files}', hive_partitioning = true, union_by_name = true)").to_arrow_table()


def by_polars(folder: str) -> pa.Table:
    scans = [pl.scan_parquet(file, hive_partitioning=True) for file in files_of(folder)]
    return pl.concat(scans, how="diagonal_relaxed").collect().to_arrow()


def schema_of(folder: str) -> pa.Schema:
    fs, _ = open_lake(folder)
    schemas = [pq.read_schema(file.removeprefix("s3://"), filesystem=fs) for file in files_of(folder)]
    return pa.unify_schemas([*schemas, partitions_of(folder)], promote_options="permissive")


def by_pyarrow(folder: str) -> pa.Table:
    fs, root = open_lake(folder)
    return ds.dataset(root, filesystem=fs, schema=schema_of(folder), partitioning="hive").to_table()


def by_pandas(folder: str) -> pa.Table:
    fs, root = open_lake(folder)
    frame = pd.read_parquet(root, filesystem=fs, schema=schema_of(folder), dtype_backend="pyarrow")
    return pa.Table.from_pandas(frame, preserve_index=False)


def by_datafusion(folder: str) -> pa.Table:
    context = datafusion.SessionContext()
    if folder.startswith("s3://"):
        bucket = folder.split("/")[2]
        store = AmazonS3(bucket_name=bucket, endpoint=os.environ["AWS_ENDPOINT_URL"], allow_http=True)
        context.register_object_store("s3://", store, bucket)
    partitions = [(field.name, field.type) for field in partitions_of(folder)]
    context.register_parquet("messages", f"{folder}/", table_partition_cols=partitions)
    return context.table("messages").to_arrow_table()


class Spark:
    """One session, which listens on loopback only and leaves nothing behind."""

    def __init__(self) -> None:
        os.environ |= {"SPARK_LOCAL_IP": "127.0.0.1", "TZ": "UTC"}
        from pyspark.sql import SparkSession

        self.folder = tempfile.mkdtemp(prefix="spark-")
        settings = {
            "spark.ui.enabled": "false",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.memory": "768m",
            "spark.driver.extraJavaOptions": f"-Duser.timezone=UTC -Djava.io.tmpdir={self.folder} -XX:+UseSerialGC -XX:TieredStopAtLevel=1",
            "spark.local.dir": self.folder,
            "spark.log.level": "ERROR",
            "spark.sql.catalogImplementation": "in-memory",
            # Little data and many columns: compiling a plan takes longer than interpreting it.
            "spark.sql.adaptive.enabled": "false",
            "spark.sql.codegen.wholeStage": "false",
            # Instants are the same in every zone; another than the machine's shows that they are instants.
            "spark.sql.session.timeZone": "Asia/Tokyo",
            "spark.sql.shuffle.partitions": "1",
            "spark.sql.warehouse.dir": f"{self.folder}/warehouse",
        }
        builder = SparkSession.builder.master("local[1]").appName("chatlake")
        for name, value in settings.items():
            builder = builder.config(name, value)
        self.session = builder.getOrCreate()

    def stop(self) -> None:
        self.session.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def by_name(self, folder: str) -> pa.Table:
        return self.session.read.option("mergeSchema", "true").parquet(folder).toArrow()

    def run(self, statements: str) -> None:
        lines = [line for line in statements.splitlines() if not line.startswith("--")]
        for statement in "\n".join(lines).split(";"):
            if statement.strip():
                self.session.sql(statement)

    def declare(self, statements: str, lake: str) -> list[str]:
        """Runs the statements and yields the tables that they made, their days found as the notes before them say."""
        self.run(statements)
        tables = [table.name for table in self.session.catalog.listTables()]
        for repair, name in re.findall(r"(MSCK REPAIR TABLE `(\w+)` SYNC PARTITIONS)", statements):
            if os.path.isdir(folder_of(lake, name)):
                self.session.sql(repair)
        return tables

    def table(self, name: str) -> pa.Table:
        return self.session.table(name).toArrow()

    def types(self, name: str) -> dict[str, str]:
        return {field.name: field.dataType.simpleString() for field in self.session.table(name).schema.fields}

    def comments(self, name: str) -> dict[str, str]:
        return {column.name: column.description for column in self.session.catalog.listColumns(name)}


def plain(value):
    """The same value from every engine: times as microseconds, days as text, maps as sorted pairs."""
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            value = value.replace(tzinfo=datetime.timezone.utc)
        return (value - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)) // datetime.timedelta(microseconds=1)
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, list):
        items = [plain(item) for item in value]
        pairs = [[item["key"], item["value"]] if isinstance(item, dict) and item.keys() == {"key", "value"} else item for item in items]
        is_map = bool(pairs) and all(isinstance(pair, list) for pair in pairs)
        return sorted(pairs) if is_map else items
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def rows(table: pa.Table) -> list[dict]:
    columns = sorted(table.column_names)
    found = [{column: plain(row[column]) for column in columns} for row in table.to_pylist()]
    return sorted(found, key=lambda row: json.dumps(row, sort_keys=True, default=str))


def differences(what: str, one: list[dict], other: list[dict]) -> list[str]:
    if len(one) != len(other):
        return [f"{what}: {len(one)} and {len(other)} rows"]
    if one and one[0].keys() != other[0].keys():
        return [f"{what}: columns {sorted(one[0].keys() ^ other[0].keys())} are in one of them only"]
    return [
        f"{what}: {column} is {a[column]!r} and {b[column]!r}"
        for a, b in zip(one, other) for column in a if a[column] != b[column]
    ][:10]


def compare_views(lake: str, views: dict[str, str], spark: Spark) -> tuple[dict[str, int], list[str]]:
    """Makes the views in both, in Spark on tables that are there, and compares their rows."""
    connection = duckdb_of(lake)
    connection.execute(views["duckdb"])
    spark.run(views["spark"])
    names = re.findall(r"CREATE OR REPLACE VIEW `(\w+)`", views["spark"])
    found, counted = [], {}
    for name in names:
        table = spark.table(name)
        counted[name] = table.num_rows
        expected = connection.table(name).to_arrow_table()
        both = [column for column in table.column_names if column in expected.column_names]
        found += differences(f"the view {name} in duckdb and spark", rows(expected.select(both)), rows(table.select(both)))
        spark.session.sql(f"DROP VIEW `{name}`")
    return counted, found


def read(job: dict, spark: Spark | None) -> dict:
    lake = job["lake"]
    engines = {"duckdb": by_duckdb, "polars": by_polars, "pyarrow": by_pyarrow, "pandas": by_pandas, "datafusion": by_datafusion}
    if lake.startswith("s3://"):
        spark = None
    if spark:
        engines["spark"] = spark.by_name
    tables = {name: engine(folder_of(lake, "messages")) for name, engine in engines.items()}
    messages = rows(tables["duckdb"])
    found = []
    for name in engines.keys() - {"duckdb"}:
        found += differences(f"messages in duckdb and {name}", messages, rows(tables[name]))
    declared = {}
    names = spark.declare(job.get("tables", ""), lake) if spark else []
    for name in names:
        folder = folder_of(lake, name)
        table = spark.table(name)
        declared[name] = {"rows": table.num_rows, "types": spark.types(name), "comments": spark.comments(name), "absent": []}
        if os.path.isdir(folder):
            expected = by_duckdb(folder)
            # A table has the columns that were declared; files of other versions may have fewer and more.
            both = [column for column in table.column_names if column in expected.column_names]
            declared[name]["absent"] = [column for column in table.column_names if column not in both]
            found += differences(f"{name} in duckdb and a table of spark", rows(expected.select(both)), rows(table.select(both)))
    views = {}
    if spark and "views" in job:
        views, unlike = compare_views(lake, job["views"], spark)
        found += unlike
    for name in names:
        spark.session.sql(f"DROP TABLE `{name}`")
    return {
        "engines": {name: table.num_rows for name, table in tables.items()},
        "days": {name: str(table.schema.field("event_date").type) for name, table in tables.items()},
        "tables": declared,
        "views": views,
        "messages": messages,
        "differences": found,
    }


def has_java() -> bool:
    home = os.environ.get("JAVA_HOME")
    try:
        java = f"{home}/bin/java" if home else "java"
        told = subprocess.run([java, "-version"], capture_output=True, text=True, check=True).stderr
    except (OSError, subprocess.CalledProcessError):
        return False
    version = re.search(r'version "(\d+)', told)
    return version is not None and int(version[1]) >= 17


def main() -> None:
    if sys.argv[1:] == ["--java"]:
        sys.exit(not has_java())
    job = json.load(sys.stdin)
    wants_spark = any("tables" in item for item in job)
    spark = Spark() if wants_spark and has_java() else None
    try:
        lakes = [read(item, spark) for item in job]
    finally:
        if spark:
            spark.stop()
    print(json.dumps({"spark": spark is not None, "lakes": lakes}, ensure_ascii=False))


if __name__ == "__main__":
    main()
