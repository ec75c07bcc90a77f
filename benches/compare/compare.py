"""`chatlake convert` and the tools that people would take instead, on the same file, in turns.

    python -m venv /tmp/compare && /tmp/compare/bin/pip install -r benches/compare/requirements.txt
    /tmp/compare/bin/python benches/compare/compare.py                 # 500 MB; builds what is missing
    /tmp/compare/bin/python benches/compare/compare.py --messages 20000 --rounds 1 --peers duckdb,polars

Every tool reads lines of messages, without an envelope, and writes Parquet with zstd at the level that is its default: 1 for chatlake and
arrow-rs, 3 for the others, whom a lower one makes no faster. Each is called as its manual has it:

- `chatlake convert FILE --lake FOLDER`: messages, reactions and users with types of their own, custom data and attachments as JSON; sorted, with
  page indexes and bloom filters, by way of a commit. What it does more is not taken off.
- DuckDB: `COPY (SELECT * FROM read_ndjson(FILE)) TO ...`. The types are inferred, timestamps too; what is nested stays nested.
- arrow-json: a Rust program of 60 lines, `arrow-json/`. The schema is inferred from 10,000 lines; timestamps stay text.
- Polars: `scan_ndjson(FILE).sink_parquet(...)`, its streaming engine. The schema is inferred from 100,000 lines: fewer miss a field that is rare.
- dlt: a resource that yields what `json.loads` makes of 5,000 lines at a time, into Parquet in a folder. Lists become tables of their own.

The file is read once before, so nobody waits for the disk. Each figure is of a whole process, its start included, and the median of the
rounds; CPU seconds are of all threads, kernel included. Outputs are counted: one that lacks a message fails the run. `--json` prints every round.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent

DUCKDB = """
import duckdb, sys
duckdb.execute(f"COPY (SELECT * FROM read_ndjson('{sys.argv[1]}')) TO '{sys.argv[2]}' (FORMAT parquet, COMPRESSION zstd)")
"""
POLARS = """
import polars, sys
polars.scan_ndjson(sys.argv[1], infer_schema_length=100000).sink_parquet(sys.argv[2], compression="zstd")
"""
DLT = """
import os
os.environ |= {"DATA_WRITER__COMPRESSION": "zstd", "RUNTIME__DLTHUB_TELEMETRY": "false"}
import dlt, json, sys
from pathlib import Path

@dlt.resource(name="messages")
def messages():
    with open(sys.argv[1], "rb") as lines:
        while batch := list(zip(range(5000), lines)):
            yield [json.loads(line) for _, line in batch]

out = Path(sys.argv[2])
pipeline = dlt.pipeline("compare", pipelines_dir=str(out / "work"), dataset_name="chat",
                        destination=dlt.destinations.filesystem(bucket_url=(out / "lake").as_uri()))
pipeline.run(messages(), loader_file_format="parquet")
"""


@dataclass
class Tool:
    """How a tool is called, and where its output is then: in one file, or in those of a folder that a pattern finds."""

    name: str
    command: Callable[[Path, Path], list[str]]
    #: All that it wrote for readers.
    files: str
    #: Those of them that have one row for each message.
    messages: str


def python(script: str) -> Callable[[Path, Path], list[str]]:
    return lambda lines, out: [sys.executable, "-c", script, str(lines), str(out)]


def tools(chatlake: Path, arrow_json: Path | None) -> list[Tool]:
    found = [
        Tool("chatlake", lambda lines, out: [str(chatlake), "convert", "-q", str(lines), "--lake", str(out)], "*/*=*/*.parquet", "messages/*/*.parquet"),
        Tool("duckdb", python(DUCKDB), "", ""),
        Tool("arrow-json", lambda lines, out: [str(arrow_json), str(lines), str(out)], "", ""),
        Tool("polars", python(POLARS), "", ""),
        Tool("dlt", python(DLT), "lake/**/*.parquet", "lake/chat/messages/*.parquet"),
    ]
    return [tool for tool in found if tool.name in ("chatlake", "arrow-json") or find_spec(tool.name)]


def measure(command: list[str]) -> dict[str, float]:
    """Wall and CPU seconds and peak memory of one child process."""
    with tempfile.TemporaryFile() as said:
        started = time.monotonic()
        child = subprocess.Popen(command, stdout=said, stderr=said)
        _, status, usage = os.wait4(child.pid, 0)
        wall_s = time.monotonic() - started
        if status != 0:
            said.seek(0)
            sys.exit(f"{command[0]} failed: {said.read().decode(errors='replace')[-2000:]}")
    return {"wall_s": wall_s, "cpu_s": usage.ru_utime + usage.ru_stime, "peak_mib": usage.ru_maxrss / 1024}


def found(out: Path, pattern: str) -> list[Path]:
    return sorted(out.glob(pattern)) if pattern else [out]


def rows(files: list[Path]) -> int:
    import pyarrow.parquet

    return sum(pyarrow.parquet.read_metadata(file).num_rows for file in files)


def build(profile: str, name: str, workspace: Path = ROOT) -> Path:
    """A binary of this checkout."""
    flags = {"release": ["--release"], "dev": []}[profile]
    # Both workspaces share the dependencies that they build in the same way.
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
    env = {**os.environ, "CARGO_TARGET_DIR": str(target)}
    subprocess.run(["cargo", "build", "--locked", "--quiet", *flags, "--package", name], cwd=workspace, env=env, check=True)
    return target / {"release": "release", "dev": "debug"}[profile] / name


def table(medians: dict[str, dict[str, float]], megabytes: float) -> str:
    lines = [
        "| | wall s | CPU s | MB/s | MB/s per CPU second | peak MiB | output MB | CPU time, chatlake = 1 |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, figure in medians.items():
        wall_s, cpu_s = figure["wall_s"], figure["cpu_s"]
        ratio = cpu_s / medians["chatlake"]["cpu_s"]
        lines.append(
            f"| {name} | {wall_s:.1f} | {cpu_s:.1f} | {megabytes / wall_s:.0f} | {megabytes / cpu_s:.0f} | {figure['peak_mib']:.0f} | {figure['output_mb']:.0f} | {ratio:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="chatlake convert and its peers on the same file, in turns.")
    parser.add_argument("--messages", type=int, default=450_000)
    parser.add_argument("--days", type=int, default=1, help="that they are spread over: chatlake writes a partition for each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", default="duckdb,arrow-json,polars,dlt")
    parser.add_argument("--profile", choices=["release", "dev"], default="release")
    parser.add_argument("--chatlake", type=Path, help="a binary, instead of building this checkout")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    wanted = {"chatlake", *options.peers.split(",")}
    chatlake = options.chatlake or build(options.profile, "chatlake")
    arrow_json = build(options.profile, "arrow-json-peer", FOLDER / "arrow-json") if "arrow-json" in wanted else None
    turns = [tool for tool in tools(chatlake, arrow_json) if tool.name in wanted]
    if absent := wanted - {tool.name for tool in turns}:
        sys.exit(f"not installed: {', '.join(sorted(absent))}; see benches/compare/requirements.txt, or leave them out with --peers")
    with tempfile.TemporaryDirectory(prefix="compare-") as folder:
        compare(Path(folder), turns, options)


def compare(folder: Path, turns: list[Tool], options: argparse.Namespace) -> None:
    lines = folder / "messages.ndjson"
    with lines.open("wb") as file:
        flags = [f"--{name}={getattr(options, name)}" for name in ("messages", "days", "seed")]
        subprocess.run([sys.executable, str(FOLDER / "generate.py"), *flags], stdout=file, check=True)
    megabytes = lines.stat().st_size / 1e6
    figures: dict[str, list[dict[str, float]]] = {tool.name: [] for tool in turns}
    for _ in range(options.rounds):
        for tool in turns:
            out = folder / tool.name
            figure = measure(tool.command(lines, out))
            figure["output_mb"] = sum(file.stat().st_size for file in found(out, tool.files)) / 1e6
            if (counted := rows(found(out, tool.messages))) != options.messages:
                sys.exit(f"{tool.name} wrote {counted} of {options.messages} messages")
            shutil.rmtree(out) if out.is_dir() else out.unlink()
            figures[tool.name].append(figure)
    medians = {name: {key: statistics.median(round[key] for round in rounds) for key in rounds[0]} for name, rounds in figures.items()}
    if options.json:
        print(json.dumps({"messages": options.messages, "megabytes": megabytes, "rounds": figures}))
        return
    print(f"{options.messages:,} messages on {options.days} days, {megabytes:.0f} MB of lines, {os.cpu_count()} cores, median of {options.rounds}\n")
    print(table(medians, megabytes))


if __name__ == "__main__":
    main()
