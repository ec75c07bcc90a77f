"""What the layout of the files buys whoever reads them: bytes read for one message, one channel's day and one user's messages.

    python benches/compare/readers.py [--messages 1000000] [--days 200]

The same rows three times, a file for each day: as `chatlake convert` writes them; and as DuckDB and PyArrow write a table by default, in the order in which exports
deliver it (channel after channel in no order of their names, each in order of time). Each query is asked of DuckDB and of DataFusion, each time by a new process with a cold mind:
bytes are those that the process asked the kernel for (`rchar` in /proc/self/io), so this runs on Linux. All answers must be the same.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))

ENGINES = {
    "duckdb": """
import duckdb
db = duckdb.connect()
db.execute("SET enable_external_file_cache = false")
def ask(files, condition):
    return db.execute(f"SELECT count(*), max(length(text)) FROM read_parquet('{files}/*/*.parquet', hive_partitioning = true) WHERE {condition}").fetchone()
""",
    "datafusion": """
import datafusion
import pyarrow
db = datafusion.SessionContext(datafusion.SessionConfig()
    .set("datafusion.execution.parquet.pushdown_filters", "true")
    .set("datafusion.execution.parquet.bloom_filter_on_read", "true"))
def ask(files, condition):
    db.register_parquet("messages", files, table_partition_cols=[("event_date", pyarrow.string())])
    [batch] = db.sql(f"SELECT count(*), max(character_length(text)) FROM messages WHERE {condition}").collect()
    return tuple(column[0].as_py() for column in batch.columns)
""",
}
QUERY = """
import json, sys
def read():
    return int(next(line for line in open("/proc/self/io") if line.startswith("rchar")).split()[1])
before = read()
answer = ask(sys.argv[1], sys.argv[2])
print(json.dumps({"answer": answer, "bytes": read() - before}))
"""


def ask(engine: str, files: Path, condition: str) -> tuple[tuple, int]:
    child = subprocess.run([sys.executable, "-c", ENGINES[engine] + QUERY, str(files), condition], capture_output=True, text=True)
    if child.returncode != 0:
        sys.exit(f"{engine} failed: {child.stderr[-2000:]}")
    said = json.loads(child.stdout)
    return tuple(said["answer"]), said["bytes"]


def rewrite(lake: Path, duckdb_files: Path, pyarrow_files: Path) -> None:
    """The rows of each file of a lake, written by others."""
    import duckdb
    import pyarrow.parquet

    db = duckdb.connect()
    for file in sorted(lake.glob("*/*.parquet")):
        rows = f"SELECT * FROM read_parquet('{file}', hive_partitioning = false) ORDER BY hash(cid), created_at"
        for folder in (duckdb_files, pyarrow_files):
            (folder / file.parent.name).mkdir(parents=True)
        db.execute(f"COPY ({rows}) TO '{duckdb_files / file.parent.name / 'rows.parquet'}' (FORMAT parquet)")
        pyarrow.parquet.write_table(db.execute(rows).to_arrow_table(), pyarrow_files / file.parent.name / "rows.parquet")


def questions(lake: Path) -> dict[str, str]:
    """One of each kind, of the message in the middle of the day in the middle."""
    import duckdb

    rows = f"read_parquet('{lake}/*/*.parquet', hive_partitioning = true)"
    days = duckdb.execute(f"SELECT event_date::VARCHAR, count(*) FROM {rows} GROUP BY 1 ORDER BY 1").fetchall()
    day, messages = days[len(days) // 2]
    middle = f"SELECT id, cid, user_id FROM {rows} WHERE event_date = '{day}' ORDER BY id LIMIT 1 OFFSET {messages // 2}"
    message, cid, user = duckdb.execute(middle).fetchone()
    return {
        "one message": f"id = '{message}'",
        "one channel's day": f"cid = '{cid}' AND event_date = '{day}'",
        "one user's messages": f"user_id = '{user}'",
    }


def main() -> None:
    from compare import build

    parser = argparse.ArgumentParser(description="Bytes read from lakes and from plain files.")
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engines", default=",".join(ENGINES), help="who is asked")
    parser.add_argument("--profile", choices=["release", "dev"], default="release")
    parser.add_argument("--chatlake", type=Path, help="a binary, instead of building this checkout")
    options = parser.parse_args()
    engines = options.engines.split(",")
    if absent := [engine for engine in engines if engine not in ENGINES or not find_spec(engine)]:
        sys.exit(f"not installed: {', '.join(absent)}; see benches/compare/requirements.txt, or leave them out with --engines")
    chatlake = options.chatlake or build(options.profile, "chatlake")
    with tempfile.TemporaryDirectory(prefix="readers-") as name:
        folder = Path(name)
        flags = [f"--{flag}={getattr(options, flag)}" for flag in ("messages", "days", "seed")]
        with subprocess.Popen([sys.executable, str(FOLDER / "generate.py"), *flags], stdout=subprocess.PIPE) as lines:
            subprocess.run([chatlake, "convert", "-q", "-", "--lake", folder / "lake"], stdin=lines.stdout, check=True)
        files = {"chatlake": folder / "lake" / "messages", "duckdb": folder / "duckdb", "pyarrow": folder / "pyarrow"}
        rewrite(*files.values())
        report(files, engines)
        shutil.rmtree(folder / "lake")


def report(files: dict[str, Path], engines: list[str]) -> None:
    sizes = {writer: sum(file.stat().st_size for file in folder.glob("*/*.parquet")) for writer, folder in files.items()}
    days = len(list(files["chatlake"].iterdir()))
    print(f"{days} files; " + ", ".join(f"{writer} {size / 1e6:.0f} MB" for writer, size in sizes.items()) + "\n")
    print("| question | asked of | " + " | ".join(f"by {writer}, MB" for writer in files) + " | fewer |")
    print("|---|---|" + "---:|" * (len(files) + 1))
    for question, condition in questions(files["chatlake"]).items():
        for engine in engines:
            asked = {writer: ask(engine, folder, condition) for writer, folder in files.items()}
            if len({answer for answer, _ in asked.values()}) != 1:
                sys.exit(f"{engine} answers differ for {question}: {asked}")
            read = [bytes / 1e6 for _, bytes in asked.values()]
            print(f"| {question} | {engine} | " + " | ".join(f"{megabytes:.2f}" for megabytes in read) + f" | {min(read[1:]) / read[0]:.1f}x |")


if __name__ == "__main__":
    main()
