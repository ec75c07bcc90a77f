"""chatlake sync against DuckDB on the same messages, in one run: wall time, CPU seconds, peak memory, and their ratios.

    cargo build --release --workspace
    python benches/sync.py [--channels 200] [--messages 500] [--rounds 3]

A simulator in a process of its own holds one day of messages. Its v2 export of all of them is saved to a file once. Then, in turn:

- `chatlake sync` of that day: asks for exports, downloads, decodes into all datasets, sorts, writes and commits;
- DuckDB: `COPY (SELECT * FROM read_ndjson(file)) TO parquet` with zstd: messages only, unsorted, no download.

So chatlake does more work here; what it does more is not taken off. Needs `duckdb` (tests/tools/requirements.txt).
The numbers of one machine say little: the ratios are what to look at. The fastest of the rounds counts.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DAY = "2026-01-05"
NEXT_DAY = "2026-01-06"
DUCKDB = """
import duckdb, sys
duckdb.execute(f"COPY (SELECT * FROM read_ndjson('{sys.argv[1]}', union_by_name = true, ignore_errors = true)) "
               f"TO '{sys.argv[2]}' (FORMAT parquet, COMPRESSION zstd)")
"""


def measure(command: list[str], env: dict[str, str]) -> dict[str, float]:
    """Wall and CPU seconds and peak memory of one child process."""
    started = time.monotonic()
    child = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.monotonic() - started
    if status != 0:
        sys.exit(f"{command[0]} failed: {child.stderr.read().decode()[-2000:]}")
    return {"wall_s": seconds, "cpu_s": usage.ru_utime + usage.ru_stime, "peak_mib": usage.ru_maxrss / 1024}


def token(secret: str) -> str:
    import base64
    import hashlib
    import hmac

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    signed = part(b'{"alg":"HS256","typ":"JWT"}') + "." + part(b'{"server":true}')
    return f"{signed}.{part(hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest())}"


class Stream:
    """The little of Stream's API that saving one export takes."""

    def __init__(self, base_url: str, key: str, secret: str) -> None:
        self.base_url, self.key, self.token = base_url, key, token(secret)

    def call(self, path: str, body: dict | None = None) -> dict:
        request = urllib.request.Request(f"{self.base_url}{path}?api_key={self.key}", method="POST" if body else "GET")
        request.add_header("Authorization", self.token)
        request.add_header("Stream-Auth-Type", "jwt")
        data = None
        if body:
            data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, data) as answer:
            return json.load(answer)

    def cids(self) -> list[str]:
        found: list[str] = []
        while True:
            body = {"filter_conditions": {}, "sort": [{"field": "created_at", "direction": 1}], "limit": 30, "offset": len(found)}
            page = [state["channel"]["cid"] for state in self.call("/channels", body)["channels"]]
            found += page
            if len(page) < 30:
                return found

    def save_export(self, cids: list[str], file) -> None:
        span = {"messages_since": f"{DAY}T00:00:00Z", "messages_until": f"{NEXT_DAY}T00:00:00Z"}
        channels = [dict(zip(("type", "id"), cid.split(":", 1)), **span) for cid in cids]
        task = self.call("/export_channels", {"channels": channels, "version": "v2"})["task_id"]
        while (state := self.call(f"/tasks/{task}"))["status"] != "completed":
            time.sleep(0.05)
        with urllib.request.urlopen(state["result"]["url"]) as answer:
            shutil.copyfileobj(answer, file)


def main() -> None:
    parser = argparse.ArgumentParser(description="chatlake sync against DuckDB on the same messages.")
    parser.add_argument("--channels", type=int, default=200)
    parser.add_argument("--messages", type=int, default=500, help="in each channel")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    binaries = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
    command = [str(binaries / "chatlake-simulator"), "--listen", "127.0.0.1:0", "--first-day", DAY, "--days", "1",
               "--channels", str(options.channels), "--messages-per-channel-day", str(options.messages),
               "--switch", "task_polls=1", "--key", "bench-key", "--secret", "bench-secret"]
    simulator = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        while "http://" not in (line := simulator.stdout.readline()):
            if not line:
                sys.exit("the simulator did not start")
        base_url = "http://" + line.split("http://", 1)[1].split()[0].rstrip(":")
        with tempfile.TemporaryDirectory() as folder:
            run(base_url, Path(folder), binaries / "chatlake", options)
    finally:
        simulator.terminate()
        simulator.wait()


def run(base_url: str, folder: Path, chatlake: Path, options: argparse.Namespace) -> None:
    stream = Stream(base_url, "bench-key", "bench-secret")
    lines = folder / "messages.ndjson"
    cids = stream.cids()
    raw = folder / "export.ndjson"
    with raw.open("wb") as file:
        for start in range(0, len(cids), 100):
            stream.save_export(cids[start : start + 100], file)
    # DuckDB reads bare messages: taking the envelope off is not part of the comparison.
    with raw.open() as source, lines.open("w") as file:
        for line in source:
            entity = json.loads(line)
            if entity["type"] == "message":
                file.write(json.dumps(entity["data"], ensure_ascii=False) + "\n")
    mib = lines.stat().st_size / 2**20
    env = {**os.environ, "STREAM_BASE_URL": base_url, "STREAM_API_KEY": "bench-key", "STREAM_API_SECRET": "bench-secret"}
    best: dict[str, dict[str, float]] = {}
    for number in range(options.rounds):
        lake, parquet = folder / f"lake-{number}", folder / f"duckdb-{number}.parquet"
        commands = {
            "chatlake": [str(chatlake), "sync", "-q", "--lake", str(lake), "--since", DAY, "--until", NEXT_DAY, "--rate-share", "1"],
            "duckdb": [sys.executable, "-c", DUCKDB, str(lines), str(parquet)],
        }
        for name, command in commands.items():
            figures = measure(command, env)
            if name not in best or figures["cpu_s"] < best[name]["cpu_s"]:
                best[name] = figures
        size = sum(path.stat().st_size for path in lake.glob("messages/**/*.parquet"))
        best["chatlake"]["output_mib"], best["duckdb"]["output_mib"] = size / 2**20, parquet.stat().st_size / 2**20
    print(f"{mib:.0f} MiB of message lines, {len(cids)} channels, best of {options.rounds} rounds by CPU time")
    for name, figures in best.items():
        print(f"{name:<9}", "  ".join(f"{key} {value:8.2f}" for key, value in figures.items()))
    ratios = {key: best["chatlake"][key] / best["duckdb"][key] for key in best["duckdb"]}
    print("ratio    ", "  ".join(f"{key} {value:8.2f}" for key, value in ratios.items()))


if __name__ == "__main__":
    main()
