"""What the layout of the files buys whoever reads them: bytes read for one message, one channel's day and one user's messages.

    python benches/compare/readers.py                       # 40 million messages, 20 GB of disk, half an hour
    python benches/compare/readers.py --messages 1000000    # files of 5,000 rows

The same rows three times, a file for each day: as `chatlake convert` writes them; and as DuckDB and PyArrow write a table by default, in the order in which exports
deliver it (channel after channel in no order of their names, each in order of time). Each query is asked of DuckDB and of DataFusion, each time by a new process with a cold mind, for several messages:
bytes are the mean of those that the processes asked the kernel for (`rchar` in /proc/self/io), so this runs on Linux. All answers must be the same.

DataFusion is told what it does not do by itself: to filter while it decodes (`pushdown_filters`), and to expect 32 KiB of footer instead of 512 (`metadata_size_hint`),
which it reads of every file.
"""

import argparse
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import date, timedelta
from importlib.util import find_spec
from pathlib import Path

from compare import build
from generate import Generator

ENGINES = {
    "duckdb": """
import duckdb
db = duckdb.connect()
db.execute("SET enable_external_file_cache = false")
db.execute("SET enable_progress_bar = false")
def ask(files, condition):
    return db.execute(f"SELECT count(*), max(length(text)) FROM read_parquet('{files}/*/*.parquet', hive_partitioning = true) WHERE {condition}").fetchone()
""",
    "datafusion": """
import datafusion
import pyarrow
db = datafusion.SessionContext(datafusion.SessionConfig()
    .set("datafusion.execution.parquet.pushdown_filters", "true")
    .set("datafusion.execution.parquet.metadata_size_hint", "32768"))
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


# What tells the messages of one day from those of another: ids, times, users.
TOKENS = re.compile(rb"([0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}|2026-01-0[5-7]T|user-[0-9]{7})")
#: Messages that a user writes on a day, and users of the app for each that is active on a day.
MESSAGES_A_USER, USERS_FOR_EACH = 10, 4


def days_of(messages: int, days: int, seed: int) -> Iterator[bytes]:
    """The lines of each day: those of one that is generated, with ids of their own, later times, and other users of the same app.

    Texts and channels are the same every day, which no writer profits by, for each day is a file of its own.
    """
    users = max(messages // days // MESSAGES_A_USER, 3)
    lines = Generator(messages // days, 1, seed, users).lines()
    parts = TOKENS.split("".join(f"{line}\n" for line in lines).encode())
    tokens = parts[1::2]
    words = sorted(set(tokens))
    for day in range(days):
        chance = random.Random(f"{seed}/{day}")

        def renamed(token: bytes) -> bytes:
            if token.startswith(b"user-"):
                number = int(token[5:]) + day * users // 7
                # Those of a day are no neighbours by their ids.
                return b"user-%07d" % (number * 7_919 % (USERS_FOR_EACH * users))
            if token.startswith(b"2026-"):
                return (date.fromisoformat(token[:10].decode()) + timedelta(days=day)).isoformat().encode() + b"T"
            digits = chance.randbytes(16).hex()
            return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}".encode()

        names = {word: renamed(word) for word in words}
        parts[1::2] = map(names.__getitem__, tokens)
        yield b"".join(parts)


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
        db.execute(f"CREATE OR REPLACE TABLE rows AS FROM read_parquet('{file}', hive_partitioning = false) ORDER BY hash(cid), created_at")
        for folder in (duckdb_files, pyarrow_files):
            (folder / file.parent.name).mkdir(parents=True)
        db.execute(f"COPY rows TO '{duckdb_files / file.parent.name / 'rows.parquet'}' (FORMAT parquet)")
        pyarrow.parquet.write_table(db.table("rows").to_arrow_table(), pyarrow_files / file.parent.name / "rows.parquet")


def questions(lake: Path, messages: int) -> dict[str, list[str]]:
    """Of each kind, of so many messages: those in the middle of days that are spread over all."""
    import duckdb

    rows = f"read_parquet('{lake}/*/*.parquet', hive_partitioning = true)"
    days = duckdb.execute(f"SELECT event_date::VARCHAR, count(*) FROM {rows} GROUP BY 1 ORDER BY 1").fetchall()
    asked: dict[str, list[str]] = {"one message": [], "one channel's day": [], "one user's messages": []}
    for number in range(messages):
        day, of_day = days[len(days) * (2 * number + 1) // (2 * messages)]
        middle = f"SELECT id, cid, user_id FROM {rows} WHERE event_date = '{day}' ORDER BY id LIMIT 1 OFFSET {of_day // 2}"
        message, cid, user = duckdb.execute(middle).fetchone()
        conditions = [f"id = '{message}'", f"cid = '{cid}' AND event_date = '{day}'", f"user_id = '{user}'"]
        for kind, condition in zip(asked.values(), conditions):
            kind.append(condition)
    return asked


def main() -> None:
    parser = argparse.ArgumentParser(description="Bytes read from lakes and from plain files.")
    parser.add_argument("--messages", type=int, default=40_000_000)
    parser.add_argument("--days", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engines", default=",".join(ENGINES), help="who is asked")
    parser.add_argument("--look-ups", type=int, default=5, help="messages to ask about: some meet a row group that only seems to have them")
    parser.add_argument("--profile", choices=["release", "dev"], default="release")
    parser.add_argument("--chatlake", type=Path, help="a binary, instead of building this checkout")
    options = parser.parse_args()
    engines = options.engines.split(",")
    if absent := [engine for engine in engines if engine not in ENGINES or not find_spec(engine)]:
        sys.exit(f"not installed: {', '.join(absent)}; see benches/compare/requirements.txt, or leave them out with --engines")
    chatlake = options.chatlake.resolve() if options.chatlake else build(options.profile, "chatlake")
    with tempfile.TemporaryDirectory(prefix="readers-") as name:
        folder = Path(name)
        for lines in days_of(options.messages, options.days, options.seed):
            subprocess.run([chatlake, "convert", "-q", "-", "--lake", folder / "lake"], input=lines, stdout=subprocess.DEVNULL, check=True)
        files = {"chatlake": folder / "lake" / "messages", "duckdb": folder / "duckdb", "pyarrow": folder / "pyarrow"}
        rewrite(*files.values())
        report(files, engines, options.look_ups)
        shutil.rmtree(folder / "lake")


def report(files: dict[str, Path], engines: list[str], look_ups: int) -> None:
    sizes = {writer: sum(file.stat().st_size for file in folder.glob("*/*.parquet")) for writer, folder in files.items()}
    days = len(list(files["chatlake"].iterdir()))
    print(f"{days} files; " + ", ".join(f"{writer} {size / 1e6:.0f} MB" for writer, size in sizes.items()) + "\n")
    print("| question | asked of | " + " | ".join(f"by {writer}, MB" for writer in files) + " | fewer |")
    print("|---|---|" + "---:|" * (len(files) + 1))
    for question, conditions in questions(files["chatlake"], look_ups).items():
        for engine in engines:
            read = dict.fromkeys(files, 0.0)
            for condition in conditions:
                asked = {writer: ask(engine, folder, condition) for writer, folder in files.items()}
                if len({answer for answer, _ in asked.values()}) != 1:
                    sys.exit(f"{engine} answers differ for {condition}: {asked}")
                for writer, (_, bytes) in asked.items():
                    read[writer] += bytes / 1e6 / len(conditions)
            ratio = min(read["duckdb"], read["pyarrow"]) / read["chatlake"]
            print(f"| {question} | {engine} | " + " | ".join(f"{megabytes:.2f}" for megabytes in read.values()) + f" | {ratio:.1f}x |", flush=True)


if __name__ == "__main__":
    main()
