"""`chatlake sync` of a day against `chatlake convert` of the very files that it downloads, in turns: what the network adds.

    python benches/compare/sync.py                                        # 500 MB of exports
    python benches/compare/sync.py --channels 30 --messages 20 --rounds 1 --profile dev

A simulator in a process of its own plays Stream, Ceph's object gateway plays S3 (tests/tools/radosgw.sh, or the server and the
bucket that CHATLAKE_TEST_S3_ENDPOINT and CHATLAKE_TEST_S3_BUCKET name). All are on this machine, so both take their CPU from
chatlake: `convert` into the gateway and `sync` into a folder tell them apart. The simulator has built the exports by then, as Stream
does on machines of its own; the first `sync`, during which it builds them, is shown and not compared.

Each figure is the median of the rounds. CPU seconds are of all threads, kernel included; those of servers are what they used
while chatlake ran. `cores` is chatlake's CPU time by wall time: what it decodes, sorts and encodes while bytes come and go.
"""

import argparse
import base64
import hashlib
import hmac
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from compare import ROOT, build, measure

DAY, NEXT_DAY = "2026-01-05", "2026-01-06"
KEY, SECRET = "bench-key", "bench-secret"
COLUMNS = ("wall_s", "cpu_s", "cores", "simulator_cpu_s", "s3_cpu_s", "peak_mib")


@dataclass
class Server:
    """One that runs beside chatlake."""

    url: str
    #: Its processes, if they are known.
    pids: list[int] = field(default_factory=list)

    def cpu_s(self) -> float:
        # User and system time are the 14th and 15th field; the second, in brackets, may hold spaces.
        fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self.pids]
        return sum(int(stat[11]) + int(stat[12]) for stat in fields) / os.sysconf("SC_CLK_TCK")


@contextmanager
def simulator(binary: Path, channels: int, messages: int) -> Iterator[Server]:
    command = [str(binary), "--listen", "127.0.0.1:0", "--key", KEY, "--secret", SECRET, "--first-day", DAY, "--days", "1"]
    command += ["--channels", str(channels), "--users", str(max(12, channels * messages // 90)), "--messages-per-channel-day", str(messages)]
    # The pieces are what a kernel's buffer takes at once.
    command += ["--switch", "task_polls=1", "--switch", "chunk_bytes=262144"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        while "http://" not in (line := process.stdout.readline()):
            if not line:
                sys.exit("the simulator did not start")
        print(line.strip(), file=sys.stderr)
        yield Server("http://" + line.split("http://", 1)[1].split()[0].rstrip(":"), [process.pid])
    finally:
        process.terminate()
        process.wait()


@contextmanager
def gateway(folder: Path, env: dict[str, str]) -> Iterator[Server]:
    if endpoint := env.get("CHATLAKE_TEST_S3_ENDPOINT"):
        yield Server(endpoint)
        return
    script = str(ROOT / "tests" / "tools" / "radosgw.sh")
    try:
        endpoint = subprocess.run([script, "start", str(folder)], env=env, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        yield Server(endpoint, [int(file.read_text()) for file in folder.glob("*.pid")])
    finally:
        subprocess.run([script, "stop", str(folder)], check=True)


def token() -> str:
    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    signed = part(b'{"alg":"HS256","typ":"JWT"}') + "." + part(b'{"server":true}')
    return f"{signed}.{part(hmac.new(SECRET.encode(), signed.encode(), hashlib.sha256).digest())}"


def save_exports(stream: Server, folder: Path) -> list[Path]:
    """The files of all exports so far."""
    with urllib.request.urlopen(f"{stream.url}/control/calls") as answer:
        tasks = [call["task_id"] for call in json.load(answer) if call["endpoint"] == "ExportChannels"]
    headers = {"Authorization": token(), "Stream-Auth-Type": "jwt"}
    files = []
    for task in tasks:
        with urllib.request.urlopen(urllib.request.Request(f"{stream.url}/tasks/{task}?api_key={KEY}", headers=headers)) as answer:
            url = json.load(answer)["result"]["url"]
        files.append(folder / f"{task}.ndjson")
        with urllib.request.urlopen(url) as answer, files[-1].open("wb") as file:
            shutil.copyfileobj(answer, file, 1 << 20)
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description="chatlake sync against convert of the same files.")
    parser.add_argument("--channels", type=int, default=200)
    parser.add_argument("--messages", type=int, default=1440, help="in each channel")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", choices=["release", "dev"], default="release")
    parser.add_argument("--chatlake", type=Path, help="a binary, instead of building this checkout")
    parser.add_argument("--simulator", type=Path, help="the same for the simulator")
    options = parser.parse_args()
    binaries = {name: getattr(options, name.removeprefix("chatlake-")) for name in ("chatlake", "chatlake-simulator")}
    for name, binary in binaries.items():
        binaries[name] = binary or build(options.profile, name)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sync-")))
        env = {"AWS_ACCESS_KEY_ID": "chatlake", "AWS_SECRET_ACCESS_KEY": "chatlake-test", "AWS_REGION": "us-east-1", **os.environ}
        s3 = stack.enter_context(gateway(folder / "radosgw", env))
        bucket = env.get("CHATLAKE_TEST_S3_BUCKET", "bench")
        subprocess.run([sys.executable, str(ROOT / "tests" / "tools" / "make_bucket.py"), s3.url, bucket], env=env, check=True)
        stream = stack.enter_context(simulator(binaries["chatlake-simulator"], options.channels, options.messages))
        env |= {"STREAM_BASE_URL": stream.url, "STREAM_API_KEY": KEY, "STREAM_API_SECRET": SECRET, "AWS_ENDPOINT_URL": s3.url}
        for name, value in env.items():
            os.environ[name] = value
        compare(folder, f"s3://{bucket}", str(binaries["chatlake"]), {"simulator": stream, "s3": s3}, options.rounds)


def compare(folder: Path, bucket: str, chatlake: str, servers: dict[str, Server], rounds: int) -> None:
    def run(*arguments: str, to: str) -> dict[str, float]:
        lake = folder / "lake" if to == "disk" else f"{bucket}/{uuid.uuid4()}"
        before = {name: server.cpu_s() for name, server in servers.items()}
        figure = measure([chatlake, *arguments, "-q", "--lake", str(lake)])
        figure |= {f"{name}_cpu_s": server.cpu_s() - before[name] for name, server in servers.items()}
        shutil.rmtree(folder / "lake", ignore_errors=True)
        return {**figure, "cores": figure["cpu_s"] / figure["wall_s"]}

    sync = ["sync", "--since", DAY, "--until", NEXT_DAY, "--rate-share", "1"]
    first = run(*sync, to="disk")
    files = save_exports(servers["simulator"], folder)
    megabytes = sum(file.stat().st_size for file in files) / 1e6
    convert = ["convert", *map(str, files)]
    turns: dict[str, Callable[[], dict[str, float]]] = {
        "convert, disk to disk": lambda: run(*convert, to="disk"),
        "convert, disk to S3": lambda: run(*convert, to="s3"),
        "sync, HTTP to disk": lambda: run(*sync, to="disk"),
        "sync, HTTP to S3": lambda: run(*sync, to="s3"),
    }
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, turn in turns.items():
            figures[name].append(turn())
    medians = {name: {key: statistics.median(figure[key] for figure in of_turn) for key in COLUMNS} for name, of_turn in figures.items()}
    best = medians["convert, disk to disk"]["wall_s"]
    print(f"{megabytes:.0f} MB in {len(files)} exports, {os.cpu_count()} cores, median of {rounds}\n")
    print("| | wall s | MB/s | of convert's | CPU s | cores | simulator CPU s | S3 CPU s | peak MiB |")
    print("|---|" + "---:|" * 8)
    for name, figure in (medians | {"first sync, exports built meanwhile": first}).items():
        wall_s, cpu_s, cores, simulator_cpu_s, s3_cpu_s, peak_mib = (figure[key] for key in COLUMNS)
        print(
            f"| {name} | {wall_s:.2f} | {megabytes / wall_s:.0f} | {best / wall_s:.0%} | {cpu_s:.2f} | {cores:.2f} "
            f"| {simulator_cpu_s:.2f} | {s3_cpu_s:.2f} | {peak_mib:.0f} |"
        )


if __name__ == "__main__":
    main()
