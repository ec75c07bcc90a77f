"""Run what the documents for analysts say, and the queries in other engines than DuckDB.

    run_queries.py DOCUMENT... < JOB

JOB is {"folder": FOLDER, "bucket": s3://BUCKET/PREFIX or null}. The blocks of each document are run there, beside queries/ and
without a lake at first, in their order: `sh` by bash, `python` in one namespace, `sql` in one DuckDB. `sql trino` and `sql athena` need
a cluster or an account, and are parsed. What a document writes as s3://bucket/chat at http://localhost:9000 is its lake
chatlake-demo, copied to the bucket. Without a bucket, or without Java for Spark, blocks that need them are not run.

Then each query is run in DataFusion (`context`) and Polars (`frames`) with the tables and views that the last document has made
there, and those that it has translated for Spark (`answers`) are fetched. The answers must be those in queries/expected. DuckDB's
are compared with these by the document itself. Translations for Trino and Athena are parsed.

Prints {"blocks": [{"document", "line", "language", "engine", "ran", "output"}], "answers": {ENGINE: [QUERY]}, "differences": [TEXT]}.
A block that fails ends it with an error.
"""

import contextlib
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import boto3
import duckdb
import pyarrow as pa
import sqlglot
from botocore.config import Config

from read_engines import Spark, duckdb_extension, has_java, plain

LAKE = Path("chatlake-demo")
SERVER = "localhost:9000"
QUERIES = Path(__file__).resolve().parents[2] / "queries"
# What a query uses and the engine has not, or means otherwise by: queries/README.md says how to ask it there.
NOT_IN = {
    "datafusion": {"custom_field": "json_extract_string", "first_response": "date_diff"},
    "polars": {
        "attachments": "unnest keeps messages without any",
        "custom_field": "json_extract_string",
        "first_response": "date_diff",
    },
    "spark": {},
}


def blocks_of(document: Path) -> list[dict]:
    text = document.read_text()
    found = re.finditer(r"^```(\S+)(?: (\S+))?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [
        {"document": document.name, "line": text.count("\n", 0, block.start()) + 1, "language": block[1], "engine": block[2], "code": block[3]}
        for block in found
    ]


class Runner:
    """What the blocks of a document leave for those after them."""

    def __init__(self, bucket: str | None, spark: Spark | None) -> None:
        self.bucket, self.spark = bucket, spark
        self.is_copied = False
        self.database = duckdb.connect()
        self.names = {"spark": spark.session} if spark else {}

    def needs(self, block: dict) -> bool:
        """Whether the block needs what is not here."""
        return (self.bucket is None and SERVER in block["code"]) or (self.spark is None and "spark." in block["code"])

    def run(self, block: dict) -> str | None:
        code, language = self.here(block["code"]), block["language"]
        if language == "sql" and block["engine"]:
            return "".join(statement.sql(block["engine"]) for statement in sqlglot.parse(code, dialect=block["engine"]))
        if language not in ("sh", "python", "sql") or self.needs(block):
            return None
        printed = io.StringIO()
        if SERVER in block["code"] and not self.is_copied:
            copy(self.bucket)
            self.is_copied = True
        if language == "sh":
            ran = subprocess.run(["bash", "-euo", "pipefail", "-c", code], stdout=subprocess.PIPE, text=True)
            if ran.returncode != 0:
                sys.exit(f"{block['document']}:{block['line']} ended with {ran.returncode}:\n{ran.stdout}")
            printed.write(ran.stdout)
        elif language == "sql":
            for row in self.database.execute(code).fetchall():
                print(*row, file=printed)
        else:
            with contextlib.redirect_stdout(printed):
                exec(compile(code, f"{block['document']}:{block['line']}", "exec"), self.names)
        return printed.getvalue()

    def here(self, code: str) -> str:
        """The block with this place's bucket, server and extensions instead of the document's."""
        if self.bucket:
            path = self.bucket.removeprefix("s3://")
            code = code.replace("bucket/chat", path).replace('"bucket"', f'"{path.split("/")[0]}"')
            code = code.replace(SERVER, os.environ["AWS_ENDPOINT_URL"].split("://")[1])
        return re.sub(r"\bINSTALL (\w+); LOAD \1;", lambda found: f"LOAD '{duckdb_extension(found[1])}';", code)


def copy(bucket: str) -> None:
    s3 = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], config=Config(s3={"addressing_style": "path"}))
    name, prefix = bucket.removeprefix("s3://").split("/", 1)
    for file in LAKE.rglob("*"):
        if file.is_file():
            s3.upload_file(str(file), name, f"{prefix}/{file.relative_to(LAKE)}")


def text(value) -> str:
    """A value as DuckDB's command line writes it."""
    return "NULL" if value is None else str(plain(value))


def compare(found: pa.Table, name: str, engine: str) -> list[str]:
    answer = [found.column_names, *([text(value) for value in row.values()] for row in found.to_pylist())]
    with Path(f"queries/expected/{name}.csv").open(newline="") as file:
        expected = list(csv.reader(file))
    return [] if answer == expected else [f"{name} in {engine}: {answer}"]


def main() -> None:
    documents = [Path(argument).resolve() for argument in sys.argv[1:]]
    job = json.load(sys.stdin)
    os.chdir(job["folder"])
    Path("queries").symlink_to(QUERIES)
    spark = Spark() if has_java() else None
    try:
        blocks = []
        for document in documents:
            shutil.rmtree(LAKE, ignore_errors=True)
            runner = Runner(job["bucket"], spark)
            for block in blocks_of(document):
                output = runner.run(block)
                del block["code"]
                blocks.append({**block, "ran": output is not None, "output": output or ""})
        names = runner.names
        asks = {
            "datafusion": lambda query: names["context"].sql(query.read_text()).to_arrow_table(),
            "polars": lambda query: names["frames"].execute(query.read_text(), eager=True).to_arrow(),
        }
        if spark:
            asks["spark"] = lambda query: names["answers"][query.stem].toArrow()
        answers, differences = {engine: [] for engine in asks}, []
        for query in sorted(Path("queries").glob("*.sql")):
            for dialect in ("trino", "athena"):
                sqlglot.parse_one(sqlglot.transpile(query.read_text(), read="duckdb", write=dialect)[0], dialect=dialect)
            for engine, ask in asks.items():
                if query.stem not in NOT_IN[engine]:
                    differences += compare(ask(query), query.stem, engine)
                    answers[engine].append(query.stem)
    finally:
        if spark:
            spark.stop()
    print(json.dumps({"blocks": blocks, "answers": answers, "differences": differences}))


if __name__ == "__main__":
    main()
